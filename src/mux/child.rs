//! One child (a running server process) and the slot that it lives in. Data and small questions.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use serde_json::value::RawValue;

use super::abilities::Abilities;
use super::again::Kept;
use super::cache::{Cache, Wanted};
use super::cross::waiting_calls::HeldCalls;
use super::health::Health;
use super::hints::Hints;
use super::lists::{List, Lists};
use super::outbox::ChildId;
use super::session::{Raw, SlotKey};
use super::states::States;
use super::tasks::TaskOwners;
use crate::lifecycle::Lifecycle;
use crate::mcp::envelope::LONGEST_ID;
use crate::mcp::era::Era;
use crate::mcp::method::Method;
use crate::names::SessionId;

/// The most requests in flight at one child whose answer nobody waits for: a server need not answer what
/// was cancelled, and one that answers nothing costs no more than this.
pub(super) const UNWANTED: usize = 1024;

/// The most elicitations of one child whose end is awaited.
pub(super) const ELICITATIONS: usize = 10_000;

/// Whom an answer of the child's belongs to.
#[derive(Debug)]
pub(super) enum Owner {
    /// A client.
    Session {
        session: SessionId,
        /// The id that it gave.
        raw_id: Raw,
    },
    /// A modern client's request on a legacy server that waits for its retry: its number among the held.
    Held(u64),
    /// The upstream subscription of a legacy session on a modern server.
    Feed(SessionId),
    /// This mux.
    Own,
}

/// What a request in flight is about, where the answer or the timer has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Our probe.
    Discover,
    /// Our handshake.
    Initialize,
    /// Our look at its health.
    Health,
    /// What a list of it holds, compared with what its predecessor's held.
    Compare(List, blake3::Hash),
    /// What its tools do, by its list of them.
    Effects,
    /// The answer decides whether the subscription holds.
    Subscribe(String),
    /// Our own subscription to a resource, for the modern clients that listen for it.
    Watch(String),
    /// Ends with the client's wish, not with a timer; its notifications carry its id.
    Listen,
    /// The answer's tasks are filtered.
    TasksList,
    /// The answer may name a new task.
    Call,
}

/// One request in flight at a child.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) owner: Owner,
    pub(super) kind: Kind,
    /// The era of the request as its client wrote it: its answer is of that era.
    pub(super) era: Era,
    pub(super) method: Method,
    /// The client's own progress token.
    pub(super) token: Option<Raw>,
    /// The least severe log level (rank) that the request asked for (modern).
    pub(super) log: Option<u8>,
    /// What its client can be asked for on its account, where the request itself says so (modern).
    pub(super) able: Abilities,
    /// The client's own line, where it may have to be sent again.
    pub(super) kept: Option<Rc<[u8]>>,
    /// The client's own line, where it is sent once more if the server dies.
    pub(super) again: Option<Kept>,
    /// Its answer may be given again.
    pub(super) wanted: Option<Wanted>,
    /// It asks for the first page of a list.
    pub(super) first_page: bool,
    /// What its retry must have in common with it, where its client may be asked for something (modern).
    pub(super) digest: Option<blake3::Hash>,
    pub(super) born: Instant,
    pub(super) deadline: Option<Instant>,
    /// The client has cancelled it; whatever still comes is passed on, but its id is free.
    pub(super) cancelled: bool,
    /// How often the server has asked for input on its account.
    pub(super) rounds: u32,
}

impl Pending {
    /// A request of this mux's own.
    pub(super) fn own(kind: Kind, owner: Owner, now: Instant) -> Self {
        Self {
            owner,
            kind,
            era: Era::Modern,
            method: Method::Other,
            token: None,
            log: None,
            able: Abilities::default(),
            kept: None,
            again: None,
            wanted: None,
            first_page: false,
            digest: None,
            born: now,
            deadline: None,
            cancelled: false,
            rounds: 0,
        }
    }
}

/// How far the child's handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shake {
    /// Nothing was sent.
    New,
    /// `server/discover` is out.
    Probing,
    /// `initialize` is out.
    Initializing,
    /// Done.
    Done,
}

/// A child.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) id: ChildId,
    pub(super) slot: SlotKey,
    pub(super) shake: Shake,
    pub(super) era: Option<Era>,
    /// The raw result of its `initialize` or `server/discover`.
    pub(super) handshake: Option<Box<RawValue>>,
    /// What it calls itself.
    pub(super) version: Option<String>,
    pub(super) pending: FxHashMap<u64, Pending>,
    /// Time limits in the order of their setting; some are of requests that are answered.
    pub(super) limits: VecDeque<(Instant, u64)>,
    /// Requests in flight whose answer nobody waits for: given up by their client, or only to be heard.
    /// The oldest are forgotten first; some are answered.
    pub(super) unwanted: VecDeque<u64>,
    pub(super) next_id: u64,
    /// Its handshake speaks of tasks: only then are answers searched for them.
    pub(super) makes_tasks: bool,
    /// Some of its tools are safe to call twice: only then are calls searched for their names.
    pub(super) has_safe_tools: bool,
    /// We have asked it for its tools, since nobody else had.
    pub(super) asked_for_tools: bool,
    /// Its pipe takes nothing more now.
    pub(super) full: bool,
    /// Sessions that wait for their turn; some may have nothing to say any more.
    pub(super) turns: VecDeque<SessionId>,
    /// The log level (rank) that it was last told (legacy).
    pub(super) level: Option<u8>,
    /// Calls of modern clients that wait for their retry (legacy).
    pub(super) held: HeldCalls,
    /// Elicitations that a client was asked for, by id.
    pub(super) elicitations: HashMap<String, SessionId>,
    pub(super) started: Instant,
    /// Its keeper's.
    pub(super) pid: Option<i32>,
    /// The fingerprint of its program.
    pub(super) program: String,
    /// It runs: there are descriptors.
    pub(super) alive: bool,
    pub(super) stopping: bool,
    pub(super) health: Health,
}

impl Child {
    pub(super) fn new(id: ChildId, slot: SlotKey, now: Instant) -> Self {
        Self {
            id,
            slot,
            shake: Shake::New,
            era: None,
            handshake: None,
            version: None,
            pending: FxHashMap::default(),
            limits: VecDeque::new(),
            unwanted: VecDeque::new(),
            makes_tasks: false,
            has_safe_tools: false,
            asked_for_tools: false,
            full: false,
            turns: VecDeque::new(),
            next_id: 1,
            level: None,
            held: HeldCalls::default(),
            elicitations: HashMap::new(),
            started: now,
            pid: None,
            program: String::new(),
            alive: false,
            stopping: false,
            health: Health::default(),
        }
    }

    /// Whether its handshake is done.
    pub(super) fn has_shaken(&self) -> bool {
        self.shake == Shake::Done
    }

    /// Whether requests can go to it.
    pub(super) fn serves(&self) -> bool {
        self.has_shaken() && !self.stopping
    }

    /// The next id for a request to this child: small, never used again.
    pub(super) fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Sets a request's time limit. One alarm for all, since those of one child come due in the order of
    /// their setting: true where this is the one to be woken for.
    pub(super) fn limit(&mut self, at: Instant, id: u64) -> bool {
        self.limits.push_back((at, id));
        self.limits.len() == 1
    }

    /// Keeps the list of time limits about as long as the requests in flight.
    pub(super) fn forget_old_limits(&mut self) {
        const SLACK: usize = 1024;
        if self.limits.len() > 2 * self.pending.len() + SLACK {
            let pending = &self.pending;
            let first = self.limits.front().copied();
            self.limits.retain(|limit| pending.contains_key(&limit.1) || Some(*limit) == first);
        }
    }

    /// Notes who is asked something that ends with a notification; of too many the end is not told.
    pub(super) fn own_elicitation(&mut self, elicitation: String, session: SessionId) {
        if self.elicitations.len() < ELICITATIONS && elicitation.len() <= LONGEST_ID {
            self.elicitations.insert(elicitation, session);
        }
    }

    /// The only session whose requests in flight asked for log messages (modern).
    pub(super) fn log_reader(&self) -> Option<SessionId> {
        let mut readers: BTreeSet<SessionId> = BTreeSet::new();
        for pending in self.pending.values().filter(|p| p.log.is_some() && !p.cancelled) {
            if let Owner::Session { session, .. } = pending.owner {
                readers.insert(session);
            }
        }
        if readers.len() == 1 { readers.pop_first() } else { None }
    }

    /// Whether it has calls to answer, given up by their client or not; a subscription is none.
    pub(super) fn has_calls(&self) -> bool {
        let is_call = |pending: &Pending| {
            matches!(pending.owner, Owner::Session { .. }) && pending.kind != Kind::Listen
        };
        self.pending.values().any(is_call)
    }

    /// Whether it owes nobody an answer: subscriptions go on with the next child.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.values().all(|pending| pending.kind == Kind::Listen)
    }

    /// The sessions with a request in flight that the client has not given up; one that waits for its retry
    /// goes on at the server.
    pub(super) fn busy(&self) -> BTreeSet<SessionId> {
        self.pending
            .values()
            .filter(|pending| !pending.cancelled)
            .filter_map(|pending| match pending.owner {
                Owner::Session { session, .. } => Some(session),
                Owner::Held(held) => self.held.home(held),
                Owner::Own | Owner::Feed(_) => None,
            })
            .collect()
    }
}

/// Where children of one key live, one after the other.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) lifecycle: Lifecycle,
    pub(super) child: Option<ChildId>,
    pub(super) sessions: BTreeSet<SessionId>,
    /// The last child died while it was probed, perhaps of the probe: the next one is not.
    pub(super) died_probing: bool,
    /// Starts so far.
    pub(super) starts: u64,
    /// How the last child ended.
    pub(super) last: Option<String>,
    /// The limit of its control group that a child met last.
    pub(super) limit: Option<String>,
    /// The last lines that its children wrote to stderr.
    pub(super) stderr: VecDeque<String>,
    /// What is known of its tools.
    pub(super) hints: Hints,
    /// What was listed of its children.
    pub(super) lists: Lists,
    /// Who made which task.
    pub(super) tasks: TaskOwners,
    /// To whom which `requestState` was given.
    pub(super) states: States,
    /// What its modern child allows to be given again.
    pub(super) cache: Cache,
}

/// How many lines of stderr are remembered.
const STDERR_LINES: usize = 10;
/// How much of each, characters.
const STDERR_LINE: usize = 200;

impl Slot {
    /// An empty slot; `seed` is what its pauses are drawn from.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            lifecycle: Lifecycle::new(seed),
            child: None,
            sessions: BTreeSet::new(),
            died_probing: false,
            starts: 0,
            last: None,
            limit: None,
            stderr: VecDeque::new(),
            hints: Hints::default(),
            lists: Lists::default(),
            tasks: TaskOwners::default(),
            states: States::default(),
            cache: Cache::default(),
        }
    }

    /// Remembers a line of stderr, control characters escaped.
    pub(super) fn heard_stderr(&mut self, line: &[u8]) {
        if self.stderr.len() >= STDERR_LINES {
            self.stderr.pop_front();
        }
        let text: String = String::from_utf8_lossy(line).chars().take(STDERR_LINE).collect();
        self.stderr.push_back(text.escape_debug().to_string());
    }
}
