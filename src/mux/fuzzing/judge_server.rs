//! The judge of what servers get: from whom each line is, and whether it may be told here.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::clients::Eras;
use super::judge::Quoted;
use super::marks::{Audience, Mark};
use super::paths::Path;
use super::play::Play;
use super::servers::{Got, Questions};
use crate::config::tenant::Share;
use crate::mcp::envelope::{Envelope, Message, members, our_id, text};
use crate::mcp::method::Method;
use crate::mux::outbox::End;
use crate::mux::request::look_inside;
use crate::names::SessionId;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context<'a> {
    #[serde(borrow)]
    session: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wanted<'a> {
    #[serde(borrow)]
    notifications: Option<&'a RawValue>,
}

impl Play<'_> {
    pub(super) fn judge_for_server(&mut self, at: usize, line: &[u8]) {
        let quoted = Quoted(line);
        let envelope = Envelope::read(line).unwrap_or_else(|why| panic!("{why}: {quoted}"));
        let marks = self.marks.find(line);
        for mark in &marks {
            assert!(self.may_reach(at, *mark), "{mark} is not for this server: {quoted}");
        }
        match envelope.message().unwrap_or_else(|why| panic!("{why}: {quoted}")) {
            Message::Request { id, method } => {
                let id = our_id(id).unwrap_or_else(|| panic!("an id that is not ours: {quoted}"));
                let by = self.asker(at, &envelope, &quoted);
                if let Some(by) = by {
                    self.judge_state(at, by, &method, &envelope, &quoted);
                    self.note_request(at, by, &method, &marks, &envelope);
                    assert!(
                        self.clients[by].slot == self.servers[at].slot,
                        "not its server: {quoted}"
                    );
                    let stolen = &self.clients[by].stolen;
                    let server = &self.servers[at];
                    for mark in &marks {
                        let known = self.is_for(by, *mark) || stolen.contains(mark);
                        assert!(known || server.wrote.contains(mark), "not its own: {quoted}");
                        let task = method.starts_with("tasks/") && server.wrote.contains(mark);
                        assert!(!task || self.is_for(by, *mark), "a stranger's task: {quoted}");
                    }
                }
                // The handshake with a child of one session holds that session's context, and is the mux's.
                let by = by.filter(|_| method != "initialize");
                let got = Got::new(by.map(|by| self.clients[by].id), &method);
                let server = &mut self.servers[at];
                let greets = matches!(&*method, "server/discover" | "subscriptions/listen");
                if by.is_none() || greets {
                    let filter = envelope.params.and_then(|it| members::<Wanted<'_>>(it).ok());
                    let filter = filter.and_then(|it| it.notifications).map_or("{}", RawValue::get);
                    server.due.push((id, method.into_owned(), filter.to_owned()));
                }
                assert!(server.got.insert(id, got).is_none(), "the id was used before: {quoted}");
                // The exchange's ids rise, but lines of one session may wait.
                if let Err(at) = server.unanswered.binary_search(&id) {
                    server.unanswered.insert(at, id);
                }
            }
            Message::Response { id } => self.judge_reply(at, id, &marks, &quoted),
            Message::Notification { method } if method == "notifications/cancelled" => {
                let (params, _) = look_inside(envelope.params).unwrap_or_default();
                let id = params.request_id.and_then(our_id);
                let got = id.and_then(|id| self.servers[at].got.get(&id));
                let by =
                    got.unwrap_or_else(|| panic!("it cancels what was never asked: {quoted}")).by;
                for mark in marks {
                    let author = self.author(mark);
                    assert!(author.is_none() || author == by, "it is another's request: {quoted}");
                }
            }
            Message::Notification { .. } => {}
        }
    }

    /// A server that all users share gets back from each only the states that it gave to that one.
    fn judge_state(
        &self,
        at: usize,
        by: usize,
        method: &str,
        envelope: &Envelope<'_>,
        quoted: &Quoted<'_>,
    ) {
        if self.share != Share::Tenant || !self.servers[at].modern {
            return;
        }
        let (params, _) = look_inside(envelope.params).unwrap_or_default();
        let state = params.request_state.filter(|_| Method::of(method).may_need_input());
        for mark in state.map(|it| self.marks.find(it.get().as_bytes())).unwrap_or_default() {
            if let Audience::Asker { session, .. } = self.marks.who(mark) {
                let own = self.is_of_one_user(*session, self.clients[by].id);
                assert!(own, "another user's state: {quoted}");
            }
        }
    }

    /// Notes which way a request has come.
    fn note_request(
        &mut self,
        at: usize,
        by: usize,
        method: &str,
        marks: &[Mark],
        envelope: &Envelope<'_>,
    ) {
        let (params, _) = look_inside(envelope.params).unwrap_or_default();
        let legacy = self.clients[by].eras == Eras { legacy: true, modern: false };
        if legacy && self.servers[at].modern && method == "subscriptions/listen" {
            self.clients[by].feeds += 1;
            if self.clients[by].feeds > 1 {
                self.paths.went(Path::Feed);
            }
        }
        let again = params.request_state.is_some() || params.input_responses.is_some();
        if legacy && again && marks.iter().any(|mark| self.is_asked_by(by, *mark)) {
            self.paths.went(Path::Round);
        }
        let own = marks.iter().copied().find(|mark| self.author(*mark).is_some());
        let Some(own) = own.filter(|_| !again) else { return };
        let slot = &self.servers[at].slot;
        let mut before = self.servers.iter().filter(|it| !it.open && it.slot == *slot);
        if before.any(|it| it.heard.contains(&own)) {
            self.paths.went(Path::Again);
        }
        self.servers[at].heard.insert(own);
    }

    /// A reply comes to who asked, once, and from who was asked.
    fn judge_reply(&mut self, at: usize, id: &RawValue, marks: &[Mark], quoted: &Quoted<'_>) {
        let author = marks.iter().find_map(|mark| self.author(*mark));
        let questions = self.servers[at].asked.get(id.get().as_bytes());
        let questions = questions.filter(|it| it.nameless < it.open.len());
        let questions = questions.unwrap_or_else(|| panic!("nobody asked that: {quoted}"));
        let answered = author.map(|author| {
            let open = || questions.open.iter().enumerate();
            // What only this client can mean comes before what any may.
            let exact = open().find(|(_, it)| it.is_some_and(|it| self.has_heard(author, it)));
            let any = || open().find(|(_, it)| it.is_none_or(|it| self.is_asked_of(author, it)));
            let found = exact.or_else(any).map(|(which, _)| which);
            found.unwrap_or_else(|| panic!("it was not asked: {quoted}"))
        });
        if let Some(questions) = self.servers[at].asked.get_mut(id.get().as_bytes()) {
            match answered {
                Some(which) => drop(questions.open.remove(which)),
                // The mux's own, or of a client that says nothing else.
                None => questions.nameless += 1,
            }
            if questions.nameless == questions.open.len() {
                *questions = Questions::default();
            }
        }
    }

    /// Whether a question has reached that session alone.
    fn has_heard(&self, session: SessionId, question: Mark) -> bool {
        match self.marks.who(question) {
            Audience::One { heard, held: false, .. } => *heard == Some(session),
            _ => false,
        }
    }

    /// Whether a session may answer a question.
    fn is_asked_of(&self, session: SessionId, question: Mark) -> bool {
        match self.marks.who(question) {
            Audience::One { heard: Some(heard), held: true, .. } => {
                self.is_of_one_user(*heard, session)
            }
            // A retry may answer early what is asked next of the same call. And who does not read may guess
            // the id of what waits for it.
            Audience::One { heard: None, .. } => {
                self.client(session).is_some_and(|it| it.retries || it.missed.contains(&question))
                    || self.is_on_its_way(session, question)
            }
            Audience::One { heard, .. } => *heard == Some(session),
            Audience::Asker { session: asker, .. } => *asker == session,
            _ => true,
        }
    }

    /// Whether a mark waits for a session that has not read it.
    fn is_on_its_way(&self, session: SessionId, mark: Mark) -> bool {
        let waiting = self.desk.exchange.out.waiting(End::Session(session));
        memchr::memmem::find(waiting, mark.to_string().as_bytes()).is_some()
    }

    /// The client whose request it is, as the mux tells the server.
    fn asker(&self, at: usize, envelope: &Envelope<'_>, quoted: &Quoted<'_>) -> Option<usize> {
        let (_, meta) = look_inside(envelope.params).unwrap_or_default();
        let context: Context<'_> = members(meta.context?).expect("a context is an object");
        let session = context.session.and_then(text).expect("a context tells the session");
        let by = self.clients.iter().position(|client| client.id.to_string() == session);
        let by = by.unwrap_or_else(|| panic!("no such session: {quoted}"));
        // What was queued before it closed is read, and then that it is cancelled.
        let client = &self.clients[by];
        let here = client.open || client.unread.contains(&self.servers[at].id);
        assert!(here, "of a session that is closed: {quoted}");
        Some(by)
    }

    /// Whether a server may get a mark.
    fn may_reach(&self, at: usize, mark: Mark) -> bool {
        let server = &self.servers[at];
        let of_slot = |session: SessionId| {
            self.clients.iter().any(|client| client.id == session && client.slot == server.slot)
        };
        let stolen = || {
            let here = self.clients.iter().filter(|client| client.slot == server.slot);
            here.into_iter().any(|client| client.stolen.contains(&mark))
        };
        let own = match self.marks.who(mark) {
            Audience::Author(session) | Audience::Asker { session, .. } => of_slot(*session),
            Audience::Tenant => true,
            Audience::Slot(slot) | Audience::One { slot, .. } | Audience::Admins(slot) => {
                *slot == server.slot
            }
            Audience::Nobody => false,
        };
        own || server.wrote.contains(&mark) || stolen()
    }
}
