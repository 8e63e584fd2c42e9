//! The clients of a play: who they are, what they say, and what each is still owed.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use serde_json::value::RawValue;

use super::lines::{Framed, framed, maim};
use super::marks::Mark;
use super::pieces::REQUESTS;
use super::play::{Hostile, Play, main};
use super::script::{Deed, Step};
use crate::config::tenant::Share;
use crate::mcp::envelope::{Envelope, Message, text};
use crate::mcp::era::Era;
use crate::mcp::line::Framer;
use crate::mcp::method::Method;
use crate::mcp::splice::without_members;
use crate::mux::listens::Filter;
use crate::mux::outbox::{ChildId, End};
use crate::mux::request::look_inside;
use crate::mux::session::{SlotKey, Whose};
use crate::names::SessionId;
use crate::policy::grant::ADMIN;
use crate::wire::Farewell;

/// How many sessions are open at once, and in all.
const AT_ONCE: usize = 6;
const IN_ALL: u64 = 48;
/// A client with more than this before it or behind it is not read from, bytes: as in the driver.
pub(super) const HIGH_WATER: usize = 256 * 1024;

/// The requests of a client under one id.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: u32,
    pub(super) answered: u32,
    pub(super) given_up: u32,
    /// Nothing says that it has to be answered: a subscription, or a line that was too long.
    pub(super) may_wait: bool,
    /// The method and the members of the parameters of the last one, where it may be made again.
    pub(super) call: Option<(String, String)>,
}

/// In which eras a client has spoken; a hostile one in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Eras {
    pub(super) legacy: bool,
    pub(super) modern: bool,
}

/// A call that is to be made again.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) method: String,
    /// The members of its parameters without `_meta`.
    pub(super) params: String,
    /// Raw JSON text without quotes.
    pub(super) state: String,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: SessionId,
    pub(super) uid: u32,
    pub(super) slot: SlotKey,
    pub(super) modern: bool,
    pub(super) admin: bool,
    /// Its stdin is open: it can say something.
    speaks: bool,
    /// Its session is there.
    pub(super) open: bool,
    /// Servers that had not read everything when it closed: what is of it may still be in there.
    pub(super) unread: Vec<ChildId>,
    deaf: bool,
    pub(super) framer: Framer,
    /// By the raw id.
    pub(super) requests: HashMap<Vec<u8>, Tally>,
    /// Those ids, in the order of their use.
    pub(super) ids: Vec<String>,
    /// How many answers without an id are due to it.
    pub(super) unnamed: u32,
    /// What servers ask it: the id, and a mark of the question.
    pub(super) asked: Vec<u64>,
    /// In which eras it has spoken.
    pub(super) eras: Eras,
    /// Its modern subscriptions, by the raw id; what it asked to hear of under each.
    pub(super) listens: HashMap<Vec<u8>, Vec<Filter>>,
    /// The resources that it subscribed to as a legacy client.
    pub(super) subscribed: BTreeSet<String>,
    /// Request states that it got, as raw JSON text without quotes.
    pub(super) states: Vec<String>,
    /// Calls that it is to make again, with what was asked.
    pub(super) rounds: Vec<Round>,
    /// How many upstream subscriptions were asked for in its name.
    pub(super) feeds: usize,
    /// It has brought a state of the exchange's that a session of its user was given.
    pub(super) retries: bool,
    /// Marks that waited for it when its session closed.
    pub(super) missed: BTreeSet<Mark>,
    /// Marks of others that it wrote itself: it stole them, so to see them again tells nothing.
    pub(super) stolen: BTreeSet<Mark>,
}

impl Play<'_> {
    /// Opens a session: `kind` says whose and of which era, `how` what else.
    pub(super) fn open(&mut self, kind: usize, how: usize) {
        let there = self.clients.iter().filter(|client| client.open).count();
        let number = self.clients.len() as u64 + 1;
        if there >= AT_ONCE || number > IN_ALL {
            return;
        }
        let (id, uid, modern) = (SessionId(number), 1000 + (kind as u32 & 1), kind & 2 != 0);
        let mut holder = self.desk.holder(uid);
        let admin = how & 1 == 1;
        if admin {
            holder.permissions.push(ADMIN.to_owned());
        }
        let whose = match self.share {
            Share::Tenant => Whose::Tenant,
            Share::User => Whose::User(uid),
            Share::Session => Whose::Session(id),
        };
        self.clients.push(Client {
            id,
            uid,
            slot: SlotKey { server: main(), whose },
            modern,
            admin,
            speaks: true,
            open: true,
            unread: Vec::new(),
            deaf: false,
            framer: Framer::new(self.desk.exchange.line_limit()),
            requests: HashMap::new(),
            ids: Vec::new(),
            unnamed: 0,
            asked: Vec::new(),
            eras: Eras::default(),
            listens: HashMap::new(),
            subscribed: BTreeSet::new(),
            states: Vec::new(),
            rounds: Vec::new(),
            feeds: 0,
            retries: false,
            missed: BTreeSet::new(),
            stolen: BTreeSet::new(),
        });
        let now = self.desk.now;
        self.desk.exchange.open(id, main(), holder, how & 6 == 6, now);
        if how & 8 == 0 {
            let at = self.clients.len() - 1;
            let hello = if modern { "server/discover" } else { "initialize" };
            let which = REQUESTS.iter().position(|(method, _)| *method == hello);
            let what = which.unwrap_or(0);
            let step =
                Step { deed: Deed::Ask, who: at, what, a: 1, b: 0, bytes: b"", maimed: false };
            let line = self.compose(at, &step);
            self.client_says(at, &line);
        }
    }

    /// One of those who can say something.
    fn speaker(&self, who: usize) -> Option<usize> {
        let speaks = |at: &usize| self.clients[*at].speaks;
        let count = (0..self.clients.len()).filter(speaks).count();
        (0..self.clients.len()).filter(speaks).nth(who % count.max(1))
    }

    /// A client says something; says how many bytes.
    pub(super) fn client_deed(&mut self, step: &Step<'_>) -> usize {
        let Some(at) = self.speaker(step.who) else { return 0 };
        if self.desk.exchange.backlog(self.clients[at].id) > HIGH_WATER {
            return 0;
        }
        let mut line = match step.deed {
            Deed::Babble => {
                let mut bytes = step.bytes.to_vec();
                bytes.extend_from_slice(if step.b & 1 == 0 { b"\n" } else { b"" });
                bytes
            }
            Deed::Maim => {
                let deed = [Deed::Ask, Deed::Notify, Deed::Reply, Deed::Ask][step.what & 3];
                let part = Step { deed, what: step.what >> 2, maimed: true, ..*step };
                self.compose(at, &part)
            }
            _ => self.compose(at, step),
        };
        if step.deed == Deed::Maim {
            debug_assert_eq!(self.hostile, Hostile::Clients);
            let end = line.pop();
            maim(&mut line, step);
            line.extend(end);
        }
        self.client_says(at, &line);
        line.len()
    }

    /// A client's bytes reach the exchange.
    fn client_says(&mut self, at: usize, bytes: &[u8]) {
        for line in framed(&mut self.clients[at].framer, bytes) {
            if self.lines == 0 {
                return;
            }
            self.lines -= 1;
            self.note_sent(at, &line);
            let (id, now) = (self.clients[at].id, self.desk.now);
            self.story.said(End::Session(id), line.bytes());
            self.desk.exchange.client_line(id, line.line(), now);
            let session = self.desk.exchange.sessions.get(&id);
            match session.and_then(|session| session.era) {
                Some(Era::Legacy) => self.clients[at].eras.legacy = true,
                Some(Era::Modern) => self.clients[at].eras.modern = true,
                None => {}
            }
        }
    }

    /// What a client is owed for a line, and what it stole to write it.
    fn note_sent(&mut self, at: usize, line: &Framed) {
        let line = match line {
            Framed::Whole(line) => line,
            Framed::TooLong(head) => {
                let client = &mut self.clients[at];
                client.unnamed += 1;
                if let Some(id) = head.id.clone().filter(|_| head.has_method) {
                    let tally = client.requests.entry(id).or_default();
                    tally.asked += 1;
                    tally.may_wait = true;
                }
                return;
            }
        };
        for mark in self.marks.find(line) {
            if !self.is_for(at, mark) {
                self.clients[at].stolen.insert(mark);
            }
        }
        let Ok(envelope) = Envelope::read(line) else {
            self.clients[at].unnamed += 1;
            return;
        };
        let modern = self.note_wishes(at, &envelope);
        let client = &mut self.clients[at];
        match envelope.message() {
            Ok(Message::Request { id, .. }) if id.get() == "null" => client.unnamed += 1,
            Ok(Message::Request { id, method }) => {
                client.ids.push(id.get().to_owned());
                let tally = client.requests.entry(id.get().as_bytes().to_vec()).or_default();
                tally.asked += 1;
                tally.may_wait |= modern && method == "subscriptions/listen";
                if Method::of(&method).may_need_input() {
                    let params = envelope.params.map_or("{}", RawValue::get);
                    tally.call = Some((method.into_owned(), members_but_meta(params)));
                }
            }
            Ok(Message::Notification { method }) if method == "notifications/cancelled" => {
                let request = look_inside(envelope.params).ok().and_then(|(it, _)| it.request_id);
                let tally = request.and_then(|id| client.requests.get_mut(id.get().as_bytes()));
                if let Some(tally) = tally {
                    tally.given_up += 1;
                }
            }
            Ok(_) => {}
            Err(_) => client.unnamed += 1,
        }
    }

    /// What a client wants to hear of, and whose call it takes up; says whether the message itself is of the
    /// modern era: a session can speak both.
    fn note_wishes(&mut self, at: usize, envelope: &Envelope<'_>) -> bool {
        let Ok((params, meta)) = look_inside(envelope.params) else { return false };
        let modern = meta.protocol_version.is_some();
        if let Some(state) = params.request_state.and_then(text) {
            let (uid, slot) = (self.clients[at].uid, &self.clients[at].slot);
            let mut user = self.clients.iter().filter(|it| it.uid == uid && it.slot == *slot);
            let ours = self.marks.find(state.as_bytes()).is_empty();
            let given = user.any(|client| client.states.iter().any(|it| *it == state));
            self.clients[at].retries |= ours && given;
        }
        let client = &mut self.clients[at];
        let Ok(Message::Request { id, method }) = envelope.message() else { return modern };
        match &*method {
            "resources/subscribe" => {
                client.subscribed.extend(params.uri.and_then(text).map(Cow::into_owned));
            }
            "subscriptions/listen" if modern => {
                let filters = client.listens.entry(id.get().as_bytes().to_vec()).or_default();
                filters.extend(Filter::of(envelope.params));
            }
            _ => {}
        }
        modern
    }

    pub(super) fn client_ends(&mut self, who: usize) {
        let Some(at) = self.speaker(who) else { return };
        self.clients[at].speaks = false;
        let (id, now) = (self.clients[at].id, self.desk.now);
        self.desk.exchange.client_ended(id, now);
    }

    /// Its shim is gone: nothing can be written to it any more.
    pub(super) fn client_is_gone(&mut self, who: usize) {
        let Some(at) = self.speaker(who) else { return };
        let id = self.clients[at].id;
        self.lose_unread(at);
        self.desk.exchange.close_session(id, Farewell { reason: String::new(), code: 0 });
    }

    pub(super) fn client_stops_reading(&mut self, who: usize) {
        let Some(at) = self.speaker(who) else { return };
        self.clients[at].deaf = !self.clients[at].deaf;
        self.read_session(self.clients[at].id);
    }

    /// The exchange closes a session: what is queued is written, and that was it.
    pub(super) fn session_closes(&mut self, id: SessionId) {
        let Some(at) = self.clients.iter().position(|client| client.id == id) else { return };
        assert!(self.clients[at].open, "{id:?} is closed twice");
        self.read_session(id);
        let unread = self.servers.iter().map(|server| server.id);
        let unread = unread.filter(|id| self.desk.exchange.out.backlog(End::Child(*id)) > 0);
        let unread = unread.collect();
        let client = &mut self.clients[at];
        (client.open, client.speaks, client.unread) = (false, false, unread);
        self.lose_unread(at);
    }

    /// What waits for a client is never read.
    fn lose_unread(&mut self, at: usize) {
        let end = End::Session(self.clients[at].id);
        let unread = self.marks.find(self.desk.exchange.out.waiting(end));
        self.clients[at].missed.extend(unread);
        self.desk.exchange.out.forget(end);
    }

    /// Reads what a session got; says whether there was anything.
    pub(super) fn read_session(&mut self, id: SessionId) -> bool {
        let at = self.clients.iter().position(|client| client.id == id);
        let at = at.expect("a line for a session that never was");
        assert!(self.clients[at].open, "a line for a session that is closed");
        if self.clients[at].deaf {
            return false;
        }
        let bytes = self.desk.sent(End::Session(id));
        self.judge_lines(End::Session(id), &bytes, |play, line| play.judge_for_client(at, line));
        !bytes.is_empty()
    }

    pub(super) fn everybody_reads(&mut self) {
        self.clients.iter_mut().for_each(|client| client.deaf = false);
        self.servers.iter_mut().for_each(|server| server.deaf = false);
        let open = self.clients.iter().filter(|client| client.open);
        let open: Vec<_> = open.map(|client| client.id).collect();
        open.into_iter().for_each(|id| {
            self.read_session(id);
        });
        let open = self.servers.iter().filter(|server| server.open);
        let open: Vec<_> = open.map(|server| server.id).collect();
        open.into_iter().for_each(|id| {
            self.read_child(id);
        });
    }
}

/// The members of a raw object but for `_meta` and what only a retry has.
fn members_but_meta(params: &str) -> String {
    if !params.starts_with('{') {
        return String::new();
    }
    let own = |key: &str| matches!(key, "_meta" | "inputResponses" | "requestState");
    let bare = without_members(params, own);
    let inner = bare.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.unwrap_or_default().trim_matches(',').to_owned()
}
