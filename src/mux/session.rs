//! One client session, as the exchange sees it. Data and small questions; the exchange owns it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::abilities::Abilities;
use super::again::Shelf;
use super::cross::feed::Feed;
use super::cross::rounds::Rounds;
use super::listens::Listen;
use super::outbox::ChildId;
use crate::config::tenant::Share;
use crate::mcp::envelope;
use crate::mcp::era::{Era, META_CONTEXT};
use crate::names::{ServerName, SessionId};
use crate::wire::{Holder, MuxPlan};

/// The raw bytes of an id or token, exactly as the peer wrote them.
pub(super) type Raw = Rc<[u8]>;

/// How many bytes may wait for a server that is starting.
pub(super) const WAITING_BYTES: usize = 1024 * 1024;
/// How many lines may.
pub(super) const WAITING_LINES: usize = 256;

/// How many requests of its server a client may leave open.
pub(super) const ASKS: usize = 1024;

/// How many requests of one session may be in flight: what bounds its memory here, and what ids chosen to
/// collide can cost.
pub(super) const IN_FLIGHT: usize = 4096;

/// Which child a session uses: the key that sessions sharing one have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SlotKey {
    pub(super) server: ServerName,
    pub(super) whose: Whose,
}

/// Whose child it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Whose {
    Tenant,
    User(u32),
    Session(SessionId),
}

/// How far a legacy session's handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Nothing was said.
    None,
    /// `initialize` was answered.
    Done,
}

/// What a session was shown in the place of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placard {
    /// Nothing.
    None,
    /// A placard of ours: it is to hear when the server runs.
    Hangs,
    /// It has heard that the server runs.
    Taken,
}

/// A request that a client is to answer.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) child: ChildId,
    pub(super) asker: Asker,
}

/// Who waits for the answer.
#[derive(Debug)]
pub(super) enum Asker {
    /// A legacy server, which asked under this id.
    Server {
        raw_id: Raw,
        /// Its token for progress on it.
        token: Option<Raw>,
    },
    /// A request of the client's own, which a modern server answered with `input_required`.
    Round {
        /// The client's id for it.
        request: Raw,
        /// The server's key for this input.
        key: Box<str>,
    },
}

/// A line that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bytes: Box<[u8]>,
    /// A server had it already, and died.
    pub(super) again: bool,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) slot: SlotKey,
    /// The child that its last request went to, so that the next need not look for it.
    pub(super) child: Option<ChildId>,
    pub(super) holder: Holder,
    pub(super) opened: Instant,
    pub(super) era: Option<Era>,
    pub(super) greeting: Greeting,
    /// The `params` of its `initialize`, for the handshake of a child of its own and for injection.
    pub(super) hello: Option<Box<RawValue>>,
    /// The `params` of an `initialize` for a child of its own, from its first modern request.
    pub(super) introduction: Option<Box<str>>,
    pub(super) client: Option<String>,
    /// What it has declared in its handshake.
    pub(super) able: Abilities,
    /// Raw id to the id that the child got.
    pub(super) in_flight: FxHashMap<Raw, u64>,
    /// Lines that wait until the server is ready, or has room.
    pub(super) waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Since when the first of them waits, or the last of them was handed on.
    pub(super) waits_since: Instant,
    /// There is an alarm for how long they may.
    pub(super) timed: bool,
    /// It has its place among those that wait for their turn.
    pub(super) in_line: bool,
    /// What its last turns have left of their share, bytes.
    pub(super) deficit: usize,
    /// Lines in flight that are kept for another try.
    pub(super) shelf: Shelf,
    /// The lines that waited are on their way: more is owed than can be seen.
    pub(super) replaying: bool,
    /// Requests of the server's that this client is to answer, by the id that it got.
    pub(super) asks: HashMap<u64, Ask>,
    next_ask: u64,
    /// The least severe log level that it wants (rank), where it set one.
    pub(super) level: Option<u8>,
    pub(super) subscriptions: BTreeSet<String>,
    pub(super) calls: u64,
    /// It ends at once where it could wait for a cure.
    pub(super) strict: bool,
    pub(super) placard: Placard,
    /// Its modern subscriptions.
    pub(super) listens: Vec<Listen>,
    /// What it hears of a modern server as a legacy client.
    pub(super) feed: Feed,
    /// Its requests for which a modern server wants input.
    pub(super) rounds: Rounds,
    /// Its input has ended; it closes when nothing is in flight.
    pub(super) ended: bool,
    /// What tenantd adds to each request's `_meta`: `"io.tenantd/context":{...}`.
    pub(super) context: String,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        server: ServerName,
        share: Share,
        holder: Holder,
        strict: bool,
        plan: &MuxPlan,
        now: Instant,
    ) -> Self {
        Self {
            id,
            slot: SlotKey { server, whose: whose(id, &holder, share) },
            child: None,
            opened: now,
            era: None,
            greeting: Greeting::None,
            hello: None,
            introduction: None,
            client: None,
            able: Abilities::default(),
            in_flight: FxHashMap::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waits_since: now,
            timed: false,
            in_line: false,
            deficit: 0,
            shelf: Shelf::default(),
            replaying: false,
            asks: HashMap::new(),
            next_ask: 0,
            level: None,
            subscriptions: BTreeSet::new(),
            calls: 0,
            strict,
            placard: Placard::None,
            listens: Vec::new(),
            feed: Feed::default(),
            rounds: Rounds::default(),
            ended: false,
            context: context(id, &holder, plan),
            holder,
        }
    }

    /// Takes a changed plan in: what each request says of its tenant.
    pub(super) fn configure(&mut self, plan: &MuxPlan) {
        self.context = context(self.id, &self.holder, plan);
    }

    /// Binds it to the child that `share` gives it.
    pub(super) fn bind(&mut self, share: Share) {
        self.slot.whose = whose(self.id, &self.holder, share);
    }

    /// Whether this session would use the same child under a changed `share`.
    pub(super) fn still_shares(&self, share: Share) -> bool {
        matches!(
            (self.slot.whose, share),
            (Whose::Tenant, Share::Tenant)
                | (Whose::User(_), Share::User)
                | (Whose::Session(_), Share::Session)
        )
    }

    /// Whether the child is this session's alone.
    pub(super) fn has_own_child(&self) -> bool {
        matches!(self.slot.whose, Whose::Session(_))
    }

    /// Keeps a line until the server is ready; false if there are too many.
    pub(super) fn wait(&mut self, line: &[u8], again: bool) -> bool {
        let fits = self.waiting.len() < WAITING_LINES
            && (self.waiting.is_empty() || self.waiting_bytes + line.len() <= WAITING_BYTES);
        if fits {
            self.queue(line, again);
        }
        fits
    }

    /// Keeps a line until it is this session's turn; the driver stops reading before there are too many.
    pub(super) fn queue(&mut self, line: &[u8], again: bool) {
        self.waiting_bytes += line.len();
        self.waiting.push_back(Waiting { bytes: line.into(), again });
    }

    /// Keeps lines on, behind what waits already.
    pub(super) fn wait_on(&mut self, lines: VecDeque<Waiting>) {
        self.waiting_bytes += lines.iter().map(|line| line.bytes.len()).sum::<usize>();
        if self.waiting.is_empty() {
            self.waiting = lines;
        } else {
            self.waiting.extend(lines);
        }
    }

    /// How many bytes wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes every line that waited.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Waiting> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Whether anything is owed to this client.
    pub(super) fn is_owed(&self) -> bool {
        self.replaying
            || !self.in_flight.is_empty()
            || !self.waiting.is_empty()
            || !self.rounds.is_empty()
            || self.feed.is_owed()
    }

    /// Whether a request with this id is still open, wherever it is.
    pub(super) fn has_open(&self, raw_id: &[u8]) -> bool {
        self.in_flight.contains_key(raw_id)
            || self.rounds.has(raw_id)
            || self.feed.has(raw_id)
            || self.listens.iter().any(|listen| *listen.raw_id == *raw_id)
    }

    /// Notes a server's request and gives the id that the client gets; none if too many are open.
    pub(super) fn ask(&mut self, ask: Ask) -> Option<u64> {
        if self.asks.len() >= ASKS {
            return None;
        }
        let id = self.next_ask;
        self.next_ask += 1;
        self.asks.insert(id, ask);
        Some(id)
    }

    /// Whether a child waits for an answer of this client's. What a modern server wants is asked while
    /// nothing of that request is at the child.
    pub(super) fn is_asked_by(&self, child: ChildId) -> bool {
        let by_it = |ask: &Ask| ask.child == child && matches!(ask.asker, Asker::Server { .. });
        self.asks.values().any(by_it)
    }

    /// Learns from the `params` of `initialize`.
    pub(super) fn greet(&mut self, params: &RawValue, info: Option<&RawValue>) {
        self.era = Some(Era::Legacy);
        self.hello = Some(params.to_owned());
        self.learn_client(info);
    }

    /// Learns what the client calls itself.
    pub(super) fn learn_client(&mut self, info: Option<&RawValue>) {
        #[derive(Deserialize)]
        struct Info {
            name: String,
            #[serde(default)]
            version: String,
        }
        if let Some(info) = info.and_then(|info| envelope::members::<Info>(info).ok()) {
            let text = format!("{} {}", info.name, info.version);
            self.client = Some(text.trim().chars().take(80).collect());
        }
    }
}

fn whose(id: SessionId, holder: &Holder, share: Share) -> Whose {
    match share {
        Share::Tenant => Whose::Tenant,
        Share::User => Whose::User(holder.uid),
        Share::Session => Whose::Session(id),
    }
}

fn context(id: SessionId, holder: &Holder, plan: &MuxPlan) -> String {
    let features: serde_json::Map<_, _> =
        plan.features.iter().map(|(name, on)| (name.clone(), (*on).into())).collect();
    let mut context = serde_json::json!({
        "tenant": plan.tenant,
        "name": plan.name,
        "user": holder.user,
        "permissions": holder.permissions,
        "session": id.to_string(),
    });
    // Every server reads this with every request: nothing is said where there is nothing to say.
    if !features.is_empty() {
        context["features"] = features.into();
    }
    format!("\"{META_CONTEXT}\":{context}")
}
