//! The servers of a play: what they are like, what they got, and for whom what they say is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::lines::{Framed, framed, maim};
use super::marks::{Audience, Mark, Reach};
use super::paths::Path;
use super::play::{Hostile, Play};
use super::script::{Deed, Step};
use crate::mcp::envelope::{Envelope, Message, members, our_id, text};
use crate::mcp::era::Era;
use crate::mcp::line::Framer;
use crate::mcp::method::Method;
use crate::mux::child::Owner;
use crate::mux::outbox::{ChildId, End};
use crate::mux::request::look_inside;
use crate::mux::session::SlotKey;
use crate::names::SessionId;

/// How a server answers what the mux itself asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As a server of up to 2025-11-25.
    Legacy,
    /// As one of 2026-07-28.
    Modern,
    /// Not at all: only the script answers.
    Mute,
    /// It refuses discovery, and `initialize` for being of the wrong era.
    Contrary,
}

impl Manner {
    pub(super) fn of(number: u8) -> Self {
        [Self::Legacy, Self::Modern, Self::Legacy, Self::Modern, Self::Mute, Self::Contrary]
            [usize::from(number & 0x7f) % 6]
    }
}

/// A request that a server got.
#[derive(Debug)]
pub(super) struct Got {
    /// Whose it is; of the mux itself where it is nobody's.
    pub(super) by: Option<SessionId>,
    pub(super) method: String,
    pub(super) answered: bool,
    /// Its client was asked for something on its account, and is to call again.
    pub(super) held: bool,
}

impl Got {
    pub(super) fn new(by: Option<SessionId>, method: &str) -> Self {
        Self { by, method: method.to_owned(), answered: false, held: false }
    }

    /// For whom it is what is said of this request; `further` where the answer says so itself.
    fn audience(&self, further: Option<Reach>) -> Audience {
        match self.by {
            Some(session) => {
                let own = if self.held { Reach::Retry } else { Reach::Asker };
                Audience::Asker { session, reach: further.unwrap_or(own) }
            }
            // What greets one greets all: it is remembered by the server's program.
            None if matches!(&*self.method, "initialize" | "server/discover") => Audience::Tenant,
            None => Audience::Nobody,
        }
    }
}

/// What a server asked under one id: nothing keeps it from asking several things so.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// A mark of each that has no answer, if there is one in it.
    pub(super) open: Vec<Option<Mark>>,
    /// How many of those have an answer that does not tell which it is for.
    pub(super) nameless: usize,
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) id: ChildId,
    pub(super) slot: SlotKey,
    pub(super) manner: Manner,
    /// It runs.
    pub(super) open: bool,
    pub(super) deaf: bool,
    /// The exchange was told that its pipe takes nothing more.
    full: bool,
    /// It has turned out to be of the modern era.
    pub(super) modern: bool,
    /// When it is killed, once it was stopped.
    pub(super) stopped: Option<Instant>,
    framer: Framer,
    /// What it got, by the id that the mux gave.
    pub(super) got: BTreeMap<u64, Got>,
    /// Which of it it has not answered, the oldest first, and which it has.
    pub(super) unanswered: Vec<u64>,
    pub(super) answered: Vec<u64>,
    /// What of it its manner is to answer: the id, the method, and the filter of a subscription.
    pub(super) due: Vec<(u64, String, String)>,
    /// What it asked and has no answer to, by the raw id.
    pub(super) asked: HashMap<Vec<u8>, Questions>,
    /// Marks that it wrote.
    pub(super) wrote: BTreeSet<Mark>,
    /// Marks of clients in the requests that it got.
    pub(super) heard: BTreeSet<Mark>,
    pub(super) refused: usize,
}

/// What a result says of how far it may go.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Result<'a> {
    #[serde(borrow, rename = "cacheScope")]
    scope: Option<&'a RawValue>,
    #[serde(borrow, rename = "ttlMs")]
    ttl: Option<&'a RawValue>,
    #[serde(borrow, rename = "taskId")]
    task: Option<&'a RawValue>,
    #[serde(borrow, rename = "task")]
    made: Option<&'a RawValue>,
    #[serde(borrow, rename = "resultType")]
    kind: Option<&'a RawValue>,
}

impl Play<'_> {
    /// A child that was asked for starts; or cannot.
    pub(super) fn start(&mut self, who: usize, manner: Manner, fails: bool) {
        if self.desk.asked.is_empty() || (!self.desk.exchange.out_is_idle() && fails) {
            return;
        }
        let id = self.desk.asked.remove(who % self.desk.asked.len());
        let now = self.desk.now;
        let Some(child) = self.desk.exchange.children.get(&id) else { return };
        let slot = child.slot.clone();
        if fails {
            return self.desk.exchange.child_ended(id, "no such file", who & 1 == 1, now);
        }
        self.servers.push(Server {
            id,
            slot,
            manner,
            open: true,
            deaf: false,
            full: false,
            modern: false,
            stopped: None,
            framer: Framer::new(self.desk.exchange.line_limit()),
            got: BTreeMap::new(),
            unanswered: Vec::new(),
            answered: Vec::new(),
            due: Vec::new(),
            asked: HashMap::new(),
            wrote: BTreeSet::new(),
            heard: BTreeSet::new(),
            refused: 0,
        });
        let program = format!("{manner:?}");
        self.desk.exchange.child_started(id, 1, program, now);
    }

    /// One of those who run.
    fn running(&self, who: usize) -> Option<usize> {
        let runs = |at: &usize| self.servers[*at].open;
        let count = (0..self.servers.len()).filter(runs).count();
        (0..self.servers.len()).filter(runs).nth(who % count.max(1))
    }

    pub(super) fn die(&mut self, who: usize, permanent: bool) {
        if let Some(at) = self.running(who) {
            self.end_server(at, "it exited with code 1", permanent);
        }
    }

    pub(super) fn end_server(&mut self, at: usize, why: &str, permanent: bool) {
        self.servers[at].open = false;
        let (id, now) = (self.servers[at].id, self.desk.now);
        self.desk.exchange.child_ended(id, why, permanent, now);
    }

    pub(super) fn server_stops_reading(&mut self, who: usize) {
        if let Some(at) = self.running(who) {
            self.servers[at].deaf = !self.servers[at].deaf;
            self.read_child(self.servers[at].id);
        }
    }

    /// It writes to its stderr: for the log, and for who administrates.
    pub(super) fn server_complains(&mut self, who: usize) {
        let Some(at) = self.running(who) else { return };
        let mark = self.marks.make();
        self.marks.allow(mark, Audience::Admins(self.servers[at].slot.clone()));
        let id = self.servers[at].id;
        self.desk.exchange.heard_stderr(id, mark.to_string().as_bytes());
    }

    /// A server says something; says how many bytes.
    pub(super) fn server_deed(&mut self, step: &Step<'_>) -> usize {
        let Some(at) = self.running(step.who) else { return 0 };
        let deeds = [Deed::Answer, Deed::Tell, Deed::Demand, Deed::Answer];
        let deed = deeds[step.what & 3];
        let part = Step { deed, what: step.what >> 2, maimed: true, ..*step };
        let line = match step.deed {
            Deed::Babble => Some(step.bytes.to_vec()),
            Deed::Maim => self.say(at, &part).map(|mut line| {
                debug_assert_eq!(self.hostile, Hostile::Servers);
                maim(&mut line, step);
                line
            }),
            _ => self.say(at, step),
        };
        let Some(mut line) = line else { return 0 };
        if step.deed != Deed::Babble || step.b & 1 == 0 {
            line.push(b'\n');
        }
        self.server_says(at, &line);
        line.len()
    }

    /// A server's bytes reach the exchange.
    pub(super) fn server_says(&mut self, at: usize, bytes: &[u8]) {
        for line in framed(&mut self.servers[at].framer, bytes) {
            if self.lines == 0 {
                return;
            }
            self.lines -= 1;
            if let Framed::Whole(line) = &line {
                self.note_said(at, line);
            }
            let (id, now) = (self.servers[at].id, self.desk.now);
            self.story.said(End::Child(id), line.bytes());
            self.desk.exchange.child_line(id, line.line(), now);
            self.look_at_child(at);
        }
    }

    /// What a line has changed in how its server is to be understood: its era, and which calls wait for
    /// their retry.
    fn look_at_child(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let Some(child) = self.desk.exchange.children.get(&server.id) else { return };
        server.modern = child.era == Some(Era::Modern);
        if child.held.until().is_none() {
            return;
        }
        let held = child.pending.iter().filter(|(_, it)| matches!(it.owner, Owner::Held(_)));
        for (id, _) in held {
            let got = server.got.get_mut(id).filter(|got| got.by.is_some() && !got.held);
            if let Some(got) = got {
                assert!(!server.modern, "a modern server's call is held");
                got.held = true;
            }
        }
    }

    /// For whom a server's line is: what its own bytes say.
    fn note_said(&mut self, at: usize, line: &[u8]) {
        let audience = self.audience_of(at, line);
        let marks = self.marks.find(line);
        for mark in &marks {
            if self.marks.audience(*mark).is_some_and(|known| *known == Audience::Nobody) {
                self.marks.allow(*mark, audience.clone());
            }
        }
        let Ok(envelope) = Envelope::read(line) else { return };
        let server = &mut self.servers[at];
        match envelope.message() {
            Ok(Message::Response { id }) => {
                let id = our_id(id).unwrap_or_default();
                if let Some(got) = server.got.get_mut(&id).filter(|got| !got.answered) {
                    got.answered = true;
                    if let Ok(at) = server.unanswered.binary_search(&id) {
                        server.unanswered.remove(at);
                    }
                    server.answered.push(id);
                }
            }
            Ok(Message::Request { id, .. }) => {
                // Its id is not what a client sees of it.
                let shown = envelope.params.map_or("", RawValue::get);
                let question = self.marks.find(shown.as_bytes()).first().copied();
                let questions = server.asked.entry(id.get().as_bytes().to_vec()).or_default();
                questions.open.push(question);
            }
            _ => {}
        }
    }

    fn audience_of(&self, at: usize, line: &[u8]) -> Audience {
        let server = &self.servers[at];
        let slot = || server.slot.clone();
        let one = || Audience::One { slot: slot(), heard: None, held: false };
        let Ok(envelope) = Envelope::read(line) else { return Audience::Nobody };
        let method = match envelope.message() {
            Err(_) => return Audience::Nobody,
            Ok(Message::Request { .. }) => return one(),
            Ok(Message::Response { id }) => {
                let got = our_id(id).and_then(|id| server.got.get(&id));
                return match got.filter(|got| !got.answered) {
                    Some(got) => got.audience(further(got, server.modern, envelope.result)),
                    None => Audience::Nobody,
                };
            }
            Ok(Message::Notification { method }) => method,
        };
        let Ok((params, meta)) = look_inside(envelope.params) else { return Audience::Nobody };
        let about = match &*method {
            // To a legacy server that is a member like any other.
            _ if server.modern && meta.subscription_id.is_some() => meta.subscription_id,
            "notifications/progress" => params.progress_token,
            "notifications/cancelled" => match params.request_id {
                Some(id) if server.asked.contains_key(id.get().as_bytes()) => return one(),
                id => id,
            },
            "notifications/tools/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/updated" => return Audience::Slot(slot()),
            _ => return one(),
        };
        let got = about.and_then(our_id).and_then(|id| server.got.get(&id));
        got.filter(|got| got.by.is_some()).map_or(Audience::Nobody, |got| got.audience(None))
    }

    /// Reads what a server got; says whether there was anything.
    pub(super) fn read_child(&mut self, id: ChildId) -> bool {
        let at = self.servers.iter().position(|server| server.id == id);
        let at = at.expect("a line for a server that never was");
        assert!(self.servers[at].open, "a line for a server that is gone");
        if self.servers[at].deaf {
            if self.desk.exchange.out.backlog(End::Child(id)) > 0 {
                self.servers[at].full = true;
                self.desk.exchange.child_full(id);
            }
            return false;
        }
        let bytes = self.desk.sent(End::Child(id));
        self.judge_lines(End::Child(id), &bytes, |play, line| play.judge_for_server(at, line));
        self.clients.iter_mut().for_each(|client| client.unread.retain(|unread| *unread != id));
        let now = self.desk.now;
        let turns = if std::mem::take(&mut self.servers[at].full) {
            self.desk.exchange.child_has_room(id, now);
            if self.desk.exchange.out.backlog(End::Child(id)) > 0 {
                self.paths.went(Path::Turn);
            }
            true
        } else {
            self.desk.exchange.give_turns(id, now)
        };
        turns || !bytes.is_empty()
    }
}

/// How far an answer says that it may go beyond who asked: a modern one that may be kept, and a task.
fn further(got: &Got, modern: bool, result: Option<&RawValue>) -> Option<Reach> {
    let result = result?;
    let said: Result<'_> = members(result).ok()?;
    let method = Method::of(&got.method);
    let lasts = said.ttl.is_some_and(|ttl| ttl.get().parse().is_ok_and(|ms: u64| ms > 0));
    let complete = said.kind.and_then(text).is_some_and(|kind| kind == "complete");
    if modern && method.is_cacheable() && lasts && complete {
        let public = said.scope.and_then(text).is_some_and(|scope| scope == "public");
        return Some(if public { Reach::Slot } else { Reach::User });
    }
    let task = method == Method::Call && (said.task.is_some() || said.made.is_some());
    task.then_some(Reach::User)
}
