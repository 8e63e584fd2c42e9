//! The judge: every line that leaves the exchange, looked at with nothing but what its reader may know.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::clients::{Client, Eras, Round};
use super::marks::{Audience, Mark, Reach};
use super::paths::Path;
use super::play::Play;
use crate::mcp::envelope::{Envelope, Message, members, our_id, text};
use crate::mux::asks::covers;
use crate::mux::listens::Filter;
use crate::mux::outbox::End;
use crate::mux::request::look_inside;
use crate::names::SessionId;

#[derive(Default, Deserialize)]
#[serde(default)]
struct State<'a> {
    #[serde(borrow, rename = "requestState")]
    state: Option<&'a RawValue>,
}

/// A line as text, made only where it is told.
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&String::from_utf8_lossy(self.0))
    }
}

impl Play<'_> {
    /// Every line of what an end got.
    pub(super) fn judge_lines(
        &mut self,
        end: End,
        bytes: &[u8],
        mut judge: impl FnMut(&mut Self, &[u8]),
    ) {
        let Some(lines) = bytes.strip_suffix(b"\n") else {
            assert!(bytes.is_empty(), "a line without its end");
            return;
        };
        for line in lines.split(|byte| *byte == b'\n') {
            self.story.got(end, line);
            judge(self, line);
        }
    }

    pub(super) fn judge_for_client(&mut self, at: usize, line: &[u8]) {
        let quoted = Quoted(line);
        let envelope = Envelope::read(line).unwrap_or_else(|why| panic!("{why}: {quoted}"));
        let marks = self.marks.find(line);
        for mark in &marks {
            let client = &self.clients[at];
            assert!(
                self.is_for(at, *mark) || client.stolen.contains(mark),
                "{:?} sees {mark}, which is for {:?}: {quoted}",
                client.id,
                self.marks.who(*mark)
            );
            self.hears(at, *mark, envelope.result.is_some());
        }
        match envelope.message() {
            Ok(Message::Response { id }) => {
                let client = &mut self.clients[at];
                let tally = client.requests.get_mut(id.get().as_bytes());
                let tally = tally.filter(|tally| tally.answered < tally.asked);
                let tally =
                    tally.unwrap_or_else(|| panic!("an answer that nobody waits for: {quoted}"));
                tally.answered += 1;
                let result = envelope.result.and_then(|it| members::<State<'_>>(it).ok());
                if let Some(state) = result.and_then(|it| it.state) {
                    let state = state.get().trim_matches('"').to_owned();
                    if let Some((method, params)) = tally.call.clone() {
                        client.rounds.push(Round { method, params, state: state.clone() });
                    }
                    client.states.push(state);
                }
                if !line_asks(line) {
                    marks.iter().for_each(|mark| self.is_told_once(at, *mark, &quoted));
                }
                let id = self.clients[at].id;
                for mark in marks {
                    match self.marks.who(mark) {
                        Audience::Asker { reach: Reach::Retry, .. } => self.paths.went(Path::Held),
                        Audience::Asker { session, reach: Reach::User | Reach::Slot }
                            if *session != id && !self.tasks.iter().any(|(_, it)| *it == mark) =>
                        {
                            self.paths.went(Path::Cached);
                        }
                        _ => {}
                    }
                }
            }
            Ok(Message::Request { id, .. }) => {
                let id = our_id(id)
                    .unwrap_or_else(|| panic!("a question with an id not ours: {quoted}"));
                self.clients[at].asked.push(id);
            }
            Ok(Message::Notification { method }) => {
                self.judge_notification(at, &method, &envelope, &quoted);
            }
            Err(_) => {
                let client = &mut self.clients[at];
                assert!(envelope.error.is_some() && envelope.id.is_none(), "no message: {quoted}");
                assert!(client.unnamed > 0, "an error that nobody caused: {quoted}");
                client.unnamed -= 1;
            }
        }
    }

    /// A notification is about a request of its client's, or tells of what its client wants to hear.
    fn judge_notification(
        &mut self,
        at: usize,
        method: &str,
        envelope: &Envelope<'_>,
        quoted: &Quoted<'_>,
    ) {
        let client = &self.clients[at];
        let (params, meta) = look_inside(envelope.params).unwrap_or_default();
        let knows = |id: &RawValue| client.requests.contains_key(id.get().as_bytes());
        if method == "notifications/cancelled" && meta.subscription_id.is_none() {
            let id = params.request_id.expect("what is cancelled");
            assert!(knows(id) || our_id(id).is_some(), "{quoted}");
        }
        if method == "notifications/subscriptions/acknowledged" && !self.had_modern(at) {
            self.paths.went(Path::Stream);
        }
        let client = &self.clients[at];
        // To a legacy client that is a member like any other.
        let modern = client.eras == Eras { legacy: false, modern: true };
        let tagged = meta.subscription_id.and_then(|id| client.listens.get(id.get().as_bytes()));
        let uri = params.uri.and_then(text);
        let list = match method {
            "notifications/tools/list_changed" => Some("tools"),
            "notifications/prompts/list_changed" => Some("prompts"),
            "notifications/resources/list_changed" => Some("resources"),
            "notifications/resources/updated" => None,
            // What a legacy server says of a request goes as it is.
            "notifications/progress" | "notifications/message" if !self.had_modern(at) => return,
            _ => {
                let tag = meta.subscription_id.filter(|_| modern);
                return assert!(tag.is_none_or(knows), "not its subscription: {quoted}");
            }
        };
        // What a modern server says on a subscription is for its client to sort out.
        let told = |filter: &Filter| match (list, uri.as_deref()) {
            _ if self.had_modern(at) => true,
            (Some(list), _) => filter.has(list),
            (None, Some(uri)) => filter.resource_subscriptions.iter().any(|it| covers(it, uri)),
            (None, None) => false,
        };
        let by_stream = client.eras.modern && tagged.is_some_and(|it| it.iter().any(told));
        let holds = |uri: &str| client.subscribed.iter().any(|held| covers(held, uri));
        let by_connection =
            client.eras.legacy && (list.is_some() || uri.as_deref().is_some_and(holds));
        assert!(by_stream || by_connection, "it did not ask to hear this: {quoted}");
    }

    /// Whether there ever was a modern server where this client is.
    fn had_modern(&self, at: usize) -> bool {
        self.servers.iter().any(|it| it.modern && it.slot == self.clients[at].slot)
    }

    pub(super) fn client(&self, session: SessionId) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == session)
    }

    /// Whether two sessions are of one user, on one server.
    pub(super) fn is_of_one_user(&self, one: SessionId, other: SessionId) -> bool {
        let who = |session| self.client(session).map(|client| (client.uid, &client.slot));
        who(one).is_some() && who(one) == who(other)
    }

    pub(super) fn author(&self, mark: Mark) -> Option<SessionId> {
        match self.marks.who(mark) {
            Audience::Author(session) => Some(*session),
            _ => None,
        }
    }

    /// Whether a mark is an answer to this client.
    pub(super) fn is_asked_by(&self, at: usize, mark: Mark) -> bool {
        let id = self.clients[at].id;
        matches!(self.marks.who(mark), Audience::Asker { session, .. } if *session == id)
    }

    /// Whether a session may see a mark.
    pub(super) fn is_for(&self, at: usize, mark: Mark) -> bool {
        let client = &self.clients[at];
        match self.marks.who(mark) {
            Audience::Author(session) => *session == client.id,
            Audience::Asker { session, reach } => {
                let user = || self.is_of_one_user(*session, client.id);
                *session == client.id
                    || match reach {
                        Reach::Asker => false,
                        Reach::Retry => client.retries && user(),
                        Reach::User => user(),
                        Reach::Slot => {
                            self.client(*session).is_some_and(|it| it.slot == client.slot)
                        }
                    }
            }
            Audience::Slot(slot) => *slot == client.slot,
            Audience::One { slot, heard: None, .. } => *slot == client.slot,
            Audience::One { heard: Some(heard), held, .. } => {
                *heard == client.id
                    || (*held && client.retries && self.is_of_one_user(*heard, client.id))
            }
            Audience::Admins(slot) => *slot == client.slot && client.admin,
            Audience::Tenant => true,
            Audience::Nobody => false,
        }
    }

    /// A session has seen a mark: what is for one is for nobody else from now on.
    fn hears(&mut self, at: usize, mark: Mark, result: bool) {
        let id = self.clients[at].id;
        if let Some(Audience::One { heard, held, .. }) = self.marks.audience(mark) {
            *held |= result && heard.is_none();
            heard.get_or_insert(id);
        }
    }

    fn is_told_once(&mut self, at: usize, mark: Mark, quoted: &Quoted<'_>) {
        if matches!(
            self.marks.who(mark),
            Audience::Asker { reach: Reach::Asker | Reach::Retry, .. }
        ) && !self.clients[at].stolen.contains(&mark)
        {
            assert!(self.marks.tell(mark), "an answer came twice: {quoted}");
        }
    }

    /// The clients that are there.
    pub(super) fn who_is_there(&self) -> Vec<usize> {
        (0..self.clients.len()).filter(|at| self.clients[*at].open).collect()
    }

    /// In the end each of them has an answer to everything that it did not give up.
    pub(super) fn nobody_is_owed(&self, there: &[usize]) {
        for at in there {
            for (id, tally) in &self.clients[*at].requests {
                // Of several with one id a cancellation can mean any, or all that wait.
                let free = tally.may_wait || (tally.given_up > 0 && tally.asked > 1);
                let least = if free { 0 } else { tally.asked.saturating_sub(tally.given_up) };
                assert!(
                    tally.answered >= least,
                    "{:?} got {} answers to {} requests with the id {}",
                    self.clients[*at].id,
                    tally.answered,
                    tally.asked,
                    String::from_utf8_lossy(id)
                );
            }
        }
    }
}

/// Whether an answer asks for input: what it says may be said again.
fn line_asks(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"requestState").is_some()
        || memchr::memmem::find(line, b"inputRequests").is_some()
}
