//! The stage: who is there, what happens to them, and the end that nobody may leave unanswered.
//!
//! It does what the mux's driver does: lines of one breath go in together, then what the exchange left is
//! done and read. Time passes from alarm to alarm.

use std::time::{Duration, Instant};

use super::bounds;
use super::clients::Client;
use super::marks::{Mark, Marks};
use super::paths::Paths;
use super::script::{Deed, HEAD, Script, Step};
use super::servers::{Manner, Server};
use super::story::Story;
use crate::config::tenant::{Limit, Share, SharedCapability};
use crate::mux::desk::{Desk, plan};
use crate::mux::finish::PATIENCE;
use crate::mux::outbox::{Act, ChildId, End};
use crate::names::ServerName;
use crate::wire::{Ailment, Farewell, MuxPlan};

/// How many bytes an end says in one breath: one read of the driver.
pub(super) const BREATH: usize = 64 * 1024;
/// The most alarms of one span of time: more would be a clock that does not advance.
const ALARMS: usize = 5_000;
/// How often a step is made in one breath: beyond every bound, but seldom, since it costs the time of many
/// other plays.
const FLOODS: [usize; 16] = [3, 30, 300, 1100, 5000, 4, 2, 3, 5, 8, 2, 3, 4, 6, 2, 12];
/// How often anything but talk is done again: only strangers flood, and only with lines.
const AGAIN: usize = 30;
/// Spans of time, milliseconds: around every limit that there is.
const SPANS: [u64; 16] = [
    1, 100, 140, 400, 1000, 2000, 3001, 9000, 14_001, 30_000, 60_000, 61_000, 400_000, 600_000,
    601_000, 3_600_000,
];

/// How long a drain waits for calls in flight, milliseconds.
const DRAIN_MS: u64 = 5_000;

/// Which side says whatever the input makes it say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hostile {
    Clients,
    Servers,
}

/// One play.
pub(super) struct Play<'a> {
    pub(super) desk: Desk,
    pub(super) marks: Marks,
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<Server>,
    /// The ids of tasks, with the child that made each.
    pub(super) tasks: Vec<(ChildId, Mark)>,
    pub(super) story: Story,
    pub(super) paths: Paths,
    pub(super) share: Share,
    pub(super) hostile: Hostile,
    /// What a server is like that the script says nothing about.
    pub(super) manner: Manner,
    /// Children start as soon as they are asked for.
    eager: bool,
    /// There is no supervisor.
    alone: bool,
    script: Script<'a>,
    flood: usize,
    /// How many more lines may be said.
    pub(super) lines: usize,
}

impl<'a> Play<'a> {
    /// `lines` bounds what is said.
    pub(super) fn new(input: &'a [u8], hostile: Hostile, lines: usize) -> Self {
        let (head, script) = Script::read(input);
        let [share, cast, manner, options] = head;
        let share = [Share::Tenant, Share::User, Share::Session][usize::from(share) % 3];
        let mut play = Self {
            desk: Desk::of(scene(share, options)),
            marks: Marks::new(input),
            clients: Vec::new(),
            servers: Vec::new(),
            tasks: Vec::new(),
            story: Story::default(),
            paths: Paths::default(),
            share,
            hostile,
            manner: Manner::of(manner),
            eager: manner & 0x80 == 0,
            alone: false,
            script,
            flood: 1,
            lines,
        };
        for kind in (0..HEAD).filter(|kind| cast >> kind & 1 == 0) {
            play.open(kind, usize::from(cast >> 4));
            play.settle();
        }
        play
    }

    /// Plays to the end; tells which ways it went.
    pub(super) fn run(mut self) -> Paths {
        while let Some(step) = self.script.next() {
            if step.deed == Deed::Flood {
                self.flood = FLOODS[step.what % FLOODS.len()];
                continue;
            }
            let mut said = 0;
            let most = if step.deed.is_talk() { usize::MAX } else { AGAIN };
            for _ in 0..std::mem::replace(&mut self.flood, 1).min(most) {
                said += self.perform(&step);
                if said > BREATH {
                    self.settle();
                    said = 0;
                }
            }
            self.settle();
            bounds::check(&self.desk.exchange);
        }
        self.finish()
    }

    /// Makes a step; says how many bytes were said.
    fn perform(&mut self, step: &Step<'_>) -> usize {
        match step.deed {
            Deed::Ask | Deed::Notify | Deed::Reply | Deed::Cancel => self.client_deed(step),
            Deed::Answer | Deed::Tell | Deed::Demand => self.server_deed(step),
            Deed::Maim | Deed::Babble => match self.hostile {
                Hostile::Clients => self.client_deed(step),
                Hostile::Servers => self.server_deed(step),
            },
            deed => {
                self.story
                    .happened(format!("{deed:?} {} {} {} {}", step.who, step.what, step.a, step.b));
                match deed {
                    Deed::Start => self.start(step.who, Manner::of(step.b), step.a & 7 == 7),
                    Deed::Die => self.die(step.who, step.what & 1 == 1),
                    Deed::Pass => self.pass(SPANS[step.what % SPANS.len()]),
                    Deed::Open => self.open(step.who, step.what),
                    Deed::Leave => self.leave(step),
                    _ => self.govern(step),
                }
                // None of these is done in one breath with another.
                self.settle();
                0
            }
        }
    }

    fn leave(&mut self, step: &Step<'_>) {
        match step.what % 6 {
            0 => self.client_ends(step.who),
            1 => self.client_is_gone(step.who),
            2 => self.client_stops_reading(step.who),
            3 => self.server_stops_reading(step.who),
            4 => self.server_complains(step.who),
            _ => self.everybody_reads(),
        }
    }

    fn govern(&mut self, step: &Step<'_>) {
        let now = self.desk.now;
        let exchange = &mut self.desk.exchange;
        match step.what % 8 {
            0 => exchange.restart(None, now),
            1 | 2 => {
                let mut plan = exchange.plan.clone();
                change(&mut plan, step.what % 8, step.a);
                exchange.configure(plan, now);
                let limit = exchange.line_limit();
                self.clients.iter_mut().for_each(|client| client.framer.set_limit(limit));
            }
            3 if !self.alone => {
                self.alone = true;
                exchange.supervisor_gone(now);
                // What it was asked for it takes with it.
                self.desk.asked.clear();
            }
            5 if step.a & 15 == 0 => {
                let farewell = Farewell { reason: "the end".to_owned(), code: 0 };
                exchange.drain(farewell, Duration::from_millis(DRAIN_MS), now);
            }
            _ if self.alone => {
                self.alone = false;
                exchange.supervisor_came(now);
            }
            _ => {}
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.desk.now + Duration::from_millis(ms);
        for _ in 0..ALARMS {
            let next = self.desk.exchange.next_deadline().into_iter().chain(self.overdue()).min();
            let Some(at) = next.filter(|at| *at <= end) else {
                self.desk.now = end;
                return;
            };
            self.desk.now = at.max(self.desk.now);
            let now = self.desk.now;
            self.story.happened(format!("an alarm, {:?} to go", end - at));
            self.desk.exchange.tick(now);
            self.bury(now);
            self.settle();
        }
        panic!("the clock does not advance");
    }

    /// When the next server that was stopped is killed.
    fn overdue(&self) -> Option<Instant> {
        self.servers.iter().filter_map(|server| server.stopped.filter(|_| server.open)).min()
    }

    /// Servers that were stopped and live on are killed.
    fn bury(&mut self, now: Instant) {
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            if server.open && server.stopped.is_some_and(|at| at <= now) {
                self.end_server(at, "it was ended by SIGKILL", false);
            }
        }
    }

    /// Does what the exchange left, and reads what it wrote, until there is nothing more.
    pub(super) fn settle(&mut self) {
        loop {
            let acts = self.desk.acts();
            let mut busy = !acts.is_empty();
            acts.into_iter().for_each(|act| self.act(act));
            while self.eager && !self.alone && !self.desk.asked.is_empty() {
                self.start(0, self.manner, false);
                busy = true;
            }
            busy |= self.read_all();
            busy |= self.be_courteous();
            if !busy {
                return;
            }
        }
    }

    fn act(&mut self, act: Act) {
        self.story.happened(format!("{act:?}"));
        match act {
            Act::CloseSession { session, .. } => self.session_closes(session),
            Act::StopChild { child, patience } => {
                debug_assert_eq!(patience, PATIENCE);
                let killed = self.desk.now + 2 * patience;
                if let Some(server) = self.servers.iter_mut().find(|server| server.id == child) {
                    server.stopped.get_or_insert(killed);
                }
            }
            Act::ForgetChild { child, .. } => {
                self.desk.asked.retain(|asked| *asked != child);
                if let Some(server) = self.servers.iter_mut().find(|server| server.id == child) {
                    server.open = false;
                }
            }
            // Nobody hears it.
            Act::Ask { child, .. } if self.alone => self.desk.asked.retain(|asked| *asked != child),
            Act::Ask { .. } | Act::Remember { .. } | Act::Log { .. } => {}
        }
    }

    /// Reads every end that got something and reads; says whether there was any.
    fn read_all(&mut self) -> bool {
        let mut some = false;
        while let Some(end) = self.desk.exchange.out.next_dirty() {
            some |= match end {
                End::Session(id) => self.read_session(id),
                End::Child(id) => self.read_child(id),
            };
        }
        some
    }

    /// Everybody reads, no server answers any more, the tenant stops: whoever asked has been answered.
    fn finish(mut self) -> Paths {
        self.everybody_reads();
        self.settle();
        bounds::check(&self.desk.exchange);
        self.eager = false;
        self.manner = Manner::Mute;
        let there = self.who_is_there();
        let farewell = Farewell { reason: "the end".to_owned(), code: 0 };
        let now = self.desk.now;
        self.desk.exchange.drain(farewell, Duration::ZERO, now);
        self.settle();
        // Where the script has begun a drain, that one's time holds.
        self.pass(DRAIN_MS + 1);
        self.nobody_is_owed(&there);
        self.pass(4_000);
        let exchange = &self.desk.exchange;
        assert!(exchange.is_empty(), "sessions or children are left: {exchange:?}");
        assert!(exchange.out_is_idle(), "bytes are left for nobody: {:?}", exchange.out);
        self.paths
    }
}

fn scene(share: Share, options: u8) -> MuxPlan {
    let mut plan = plan(share);
    let server = &mut plan.servers[0];
    server.max_children = 3 + u32::from(options & 1) * 5;
    server.always = options & 2 != 0;
    if options & 4 != 0 {
        server.request_timeout_ms = Limit::Unlimited;
    }
    if options & 8 == 0 {
        server.shared_capabilities = vec![
            SharedCapability::Sampling,
            SharedCapability::Elicitation,
            SharedCapability::Roots,
        ];
    }
    plan.features.insert("beta".to_owned(), true);
    plan
}

fn change(plan: &mut MuxPlan, what: usize, how: u8) {
    let server = &mut plan.servers[0];
    if what == 1 {
        let held = Ailment { reason: "suspended".to_owned(), message: "no".to_owned(), code: 69 };
        server.held = if server.held.is_some() { None } else { Some(held) };
        return;
    }
    server.request_timeout_ms = if how & 1 == 0 { Limit::At(1000) } else { Limit::Unlimited };
    plan.message_size = Limit::At(if how & 2 == 0 { 2048 } else { 4096 });
    plan.name = format!("Acme {how}");
}

/// The server's name: there is one.
pub(super) fn main() -> ServerName {
    ServerName::main()
}
