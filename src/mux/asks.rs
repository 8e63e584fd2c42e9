//! What a server asks of its clients (legacy: sampling, elicitation, roots), and what is bound to one
//! client: tasks, subscriptions, log levels.
//!
//! A shared server's request carries nothing that says for whom it is. It goes to a session only if
//! that is the only one with a call in flight that declared the capability; with none or two the server
//! gets an error and no client sees the request. What is about a task is for who made it, and for nobody
//! else. With a child of its own a session gets everything.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::abilities::{knows_tasks, needed};
use super::child::{Kind, Owner, Pending};
use super::client::Special;
use super::cross::waiting_calls::Question;
use super::exchange::{Exchange, LONGEST_LINE};
use super::outbox::{ChildId, End};
use super::request::{Request, look_inside};
use super::session::{Ask, Asker, Session};
use super::tasks::TaskOwner;
use crate::mcp::envelope::{Envelope, LONGEST_ID, Meta, Params, members, text};
use crate::mcp::era::{self, Era, level_rank};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::Splice;
use crate::names::SessionId;

/// How much may wait for a server that asks and does not read, bytes: two longest lines.
const UNREAD_ANSWERS: usize = 2 * LONGEST_LINE;

/// Resources that a session can be subscribed to before it asks for one more.
pub(super) const SUBSCRIPTIONS: usize = 1024;
/// The longest URI of those, bytes.
const LONGEST_URI: usize = 8 * 1024;

impl Exchange {
    pub(super) fn child_request(
        &mut self,
        child: ChildId,
        line: &[u8],
        envelope: &Envelope<'_>,
        id: &RawValue,
        method: &str,
    ) {
        let raw_id = id.get().as_bytes();
        if raw_id.len() > LONGEST_ID {
            return self.drop_from(child, "a request with an endless id");
        }
        if method == "ping" {
            return self.answer_child(child, &era::result(raw_id, b"{}"));
        }
        let Ok((params, meta)) = look_inside(envelope.params) else {
            let failure = Failure::new(Code::Malformed, "malformed", "params is no object");
            return self.refuse_child(child, raw_id, &failure);
        };
        let question = || Question::new(raw_id, method, envelope.params);
        let session = match self.whom_to_ask(child, method, &meta) {
            Ok(Asked::Client(session)) => session,
            Ok(Asked::Call(session, call)) => {
                return self.hold_call(child, (session, call), question());
            }
            Ok(Asked::Held(held)) => return self.queue_question(child, held, question()),
            Err(failure) => return self.refuse_child(child, raw_id, &failure),
        };
        let token = meta.progress_token.filter(|token| token.get().len() <= LONGEST_ID);
        let token = token.map(|token| token.get().as_bytes().into());
        let ask = Ask { child, asker: Asker::Server { raw_id: raw_id.into(), token } };
        let Some(asked) = self.sessions.get_mut(&session) else { return };
        let Some(theirs) = asked.ask(ask) else {
            let said = "the client has left too many requests of this server unanswered";
            let failure = Failure::new(Code::TooMany, "unanswered", said);
            return self.refuse_child(child, raw_id, &failure);
        };
        if let (Some(elicitation), Some(child)) =
            (params.elicitation_id.and_then(text), self.children.get_mut(&child))
        {
            child.own_elicitation(elicitation.into_owned(), session);
        }
        self.forget_kept(session, child);
        let mut splice = Splice::of(line);
        splice.replace(id, theirs.to_string().into_bytes());
        self.send(session, |out| splice.write(out));
    }

    /// Answers a server's request with an error of ours.
    pub(super) fn refuse_child(&mut self, child: ChildId, raw_id: &[u8], failure: &Failure) {
        self.counters.refused += 1;
        let line = failure.line(Some(raw_id), &self.plan.tenant);
        self.answer_child(child, &line);
    }

    /// Answers what a server asked this mux. What a client sends waits for room before it is read; this
    /// would grow with every request of a server that does not read, so there it is lost instead.
    fn answer_child(&mut self, child: ChildId, line: &[u8]) {
        // It may have been given up after a line of the same chunk: nothing would ever write this.
        if !self.children.contains_key(&child) {
            return;
        }
        if self.out.backlog(End::Child(child)) > UNREAD_ANSWERS {
            return self.drop_from(child, "an answer to a server that does not read its stdin");
        }
        self.out.push(End::Child(child), line);
    }

    fn whom_to_ask(&self, child: ChildId, method: &str, meta: &Meta<'_>) -> Result<Asked, Failure> {
        let attached = self.attached(child);
        if let [only] = attached.as_slice()
            && let Some(session) = self.sessions.get(only)
            && session.has_own_child()
            && session.era != Some(Era::Modern)
        {
            return Ok(Asked::Client(*only));
        }
        let mut able = self.able_to_answer(child, method);
        if meta.related_task.is_some() {
            let owner = self.related_owner(child, meta);
            let takes_requests = |session: &Session| session.era != Some(Era::Modern);
            if let Some(owner) = owner
                && self.sessions.get(&owner.session).is_some_and(takes_requests)
            {
                return Ok(Asked::Client(owner.session));
            }
            able.retain(|session, _| owner.is_some_and(|owner| self.owns(*session, owner)));
        }
        match (able.pop_first(), able.is_empty()) {
            (Some((_, only)), true) => Ok(only),
            (None, _) => Err(Failure::new(
                Code::Denied,
                "no-client",
                format!("no client with a call in flight has declared what {method} needs"),
            )),
            _ => Err(Failure::new(
                Code::Denied,
                "ambiguous",
                format!(
                    "{method} could be for several clients (share = \"session\" makes it exact)"
                ),
            )),
        }
    }

    /// Every session that a server's request can be for, with the way to it: one with a call in flight
    /// whose client has declared what it needs, in its handshake or in that call.
    fn able_to_answer(&self, id: ChildId, method: &str) -> BTreeMap<SessionId, Asked> {
        let mut able = BTreeMap::new();
        let (Some(needs), Some(child)) = (needed(method), self.children.get(&id)) else {
            return able;
        };
        let mut add = |session: SessionId, way: Asked| {
            let best = able.entry(session).or_insert(way);
            *best = way.min(*best);
        };
        for (call, pending) in child.pending.iter().filter(|(_, pending)| !pending.cancelled) {
            let Owner::Session { session, .. } = pending.owner else { continue };
            let declared = match pending.era {
                Era::Legacy => self.sessions.get(&session).is_some_and(|s| s.able.has(needs)),
                Era::Modern => pending.digest.is_some() && pending.able.has(needs),
            };
            match pending.era {
                _ if !declared => {}
                Era::Legacy => add(session, Asked::Client(session)),
                Era::Modern => add(session, Asked::Call(session, *call)),
            }
        }
        child.held.able(method).into_iter().for_each(|(held, home)| add(home, Asked::Held(held)));
        able
    }

    /// What a method means for what is bound to one client.
    pub(super) fn special(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
    ) -> Special {
        match request.method {
            "tools/call" => Special::Pass(Kind::Call),
            // To who speaks the older era it is a method that nobody knows: it gets its answer, and is not kept.
            "subscriptions/listen" if request.is_modern() => Special::Pass(Kind::Listen),
            "tasks/list" => Special::Pass(Kind::TasksList),
            "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => {
                self.task_request(session, child, request)
            }
            "resources/subscribe" => match request.params.uri.and_then(text) {
                Some(uri) => self.subscribe(session, uri.into_owned()),
                None => Special::Pass(Kind::Plain),
            },
            "resources/unsubscribe" => self.unsubscribe(session, child, &request.params),
            "logging/setLevel" => self.set_level(session, child, &request.params),
            _ => Special::Pass(Kind::Plain),
        }
    }

    /// What is subscribed is remembered, for who it is told to and for the next child: so much and no more.
    fn subscribe(&self, id: SessionId, uri: String) -> Special {
        let held = self.sessions.get(&id).map_or(0, |session| session.subscriptions.len());
        if held >= SUBSCRIPTIONS || uri.len() > LONGEST_URI {
            return Special::Refuse(Failure::new(
                Code::TooMany,
                "subscriptions",
                format!(
                    "a session holds at most {SUBSCRIPTIONS} subscriptions, of {LONGEST_URI} bytes"
                ),
            ));
        }
        Special::Pass(Kind::Subscribe(uri))
    }

    fn unsubscribe(&mut self, id: SessionId, child: ChildId, params: &Params<'_>) -> Special {
        let Some(uri) = params.uri.and_then(text) else { return Special::Pass(Kind::Plain) };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.subscriptions.remove(uri.as_ref());
        }
        // The server keeps one subscription for all: only the last one ends it, and nobody who has none.
        if self.is_held(child, Some(id), &uri) {
            return Special::Answer;
        }
        Special::Pass(Kind::Plain)
    }

    /// Whether anybody on a child holds a subscription to that resource, or is about to: as a legacy client
    /// (`but` for this session) or by a stream of a modern one.
    pub(super) fn is_held(&self, child: ChildId, but: Option<SessionId>, uri: &str) -> bool {
        let is_asked_for = |pending: &Pending| match (&pending.kind, &pending.owner) {
            (Kind::Subscribe(asked), Owner::Session { session, .. }) => {
                asked == uri && but != Some(*session)
            }
            _ => false,
        };
        if self.children.get(&child).is_some_and(|it| it.pending.values().any(is_asked_for)) {
            return true;
        }
        let attached = self.attached(child);
        attached.iter().filter_map(|id| self.sessions.get(id)).any(|session| {
            (but != Some(session.id) && session.subscriptions.contains(uri))
                || session.listens.iter().any(|listen| listen.holds(uri))
        })
    }

    fn set_level(&mut self, id: SessionId, child: ChildId, params: &Params<'_>) -> Special {
        let level = params.level.and_then(text).and_then(|level| level_rank(&level));
        let Some(level) = level else { return Special::Pass(Kind::Plain) };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.level = Some(level);
        }
        // The server has one level for all: it keeps the most verbose, each client hears its own.
        let others = self.neighbours(id).filter_map(|session| session.level);
        let more_verbose = others.chain(self.level_in_flight(child)).min();
        if more_verbose.is_some_and(|other| other < level) {
            return Special::Answer;
        }
        if let Some(child) = self.children.get_mut(&child) {
            child.level = Some(level);
        }
        Special::Pass(Kind::Plain)
    }

    /// The other sessions of a session's slot.
    fn neighbours(&self, id: SessionId) -> impl Iterator<Item = &Session> {
        let slot = self.sessions.get(&id).and_then(|session| self.slots.get(&session.slot));
        slot.into_iter()
            .flat_map(|slot| &slot.sessions)
            .filter(move |other| **other != id)
            .filter_map(|other| self.sessions.get(other))
    }

    /// Errors are those of the specifications of tasks: what a server itself would say.
    fn task_request(&self, session: SessionId, child: ChildId, request: &Request<'_>) -> Special {
        if request.is_modern() && request.method == "tasks/result" {
            let message = "tasks/result is of 2025-11-25: tasks/get has the result";
            return Special::Refuse(Failure::new(Code::MethodNotFound, "no-method", message));
        }
        if request.is_modern() && !knows_tasks(request.meta.client_capabilities) {
            let message = "the request does not declare the extension of tasks";
            let lacking =
                r#""requiredCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
            let failure = Failure::new(Code::MissingCapability, "no-extension", message);
            return Special::Refuse(failure.with(lacking.to_owned()));
        }
        let task = request.params.task_id.and_then(text);
        let owner = task.and_then(|task| self.task_owner(child, &task));
        match owner {
            Some(owner) if self.owns(session, owner) => Special::Pass(Kind::Plain),
            // The same words for a task that does not exist and one that is somebody else's.
            _ => Special::Refuse(Failure::new(
                Code::InvalidParams,
                "unknown-task",
                "this session has no such task",
            )),
        }
    }

    /// Who made the task that a message says it is about.
    pub(super) fn related_owner(&self, child: ChildId, meta: &Meta<'_>) -> Option<TaskOwner> {
        self.task_owner(child, &related_task(meta)?)
    }

    fn task_owner(&self, child: ChildId, task: &str) -> Option<TaskOwner> {
        self.slots.get(&self.children.get(&child)?.slot)?.tasks.owner(task)
    }

    /// A legacy task belongs to its session; a modern one to its user, whose client may have restarted.
    fn owns(&self, session: SessionId, owner: TaskOwner) -> bool {
        owner.session == session
            || self.sessions.get(&session).is_some_and(|session| {
                session.era == Some(Era::Modern) && session.holder.uid == owner.uid
            })
    }

    pub(super) fn tell_task_owner(
        &mut self,
        child: ChildId,
        line: &[u8],
        params: &Params<'_>,
        meta: &Meta<'_>,
    ) {
        let named = params.task_id.and_then(text);
        let owner = match named {
            Some(task) => self.task_owner(child, &task),
            None => self.related_owner(child, meta),
        };
        // No subscription of a modern client's is known to a server that tells it here.
        let tagged = meta.subscription_id.is_some();
        let hears = |session: &Session| !tagged || session.era != Some(Era::Modern);
        match owner {
            Some(owner) if self.sessions.get(&owner.session).is_some_and(hears) => {
                self.send(owner.session, |out| out.extend_from_slice(line));
            }
            _ => self.drop_from(child, "a notification of a task that no session owns"),
        }
    }

    /// Takes the tasks of others out of a list, each element that stays untouched.
    pub(super) fn hide_foreign_tasks(
        &self,
        child: ChildId,
        session: SessionId,
        result: &RawValue,
        splice: &mut Splice<'_>,
    ) {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(borrow)]
            tasks: &'a RawValue,
        }
        let Ok(list) = members::<List<'_>>(result) else { return };
        let Ok(tasks) = serde_json::from_str::<Vec<&RawValue>>(list.tasks.get()) else { return };
        let own = |task: &&&RawValue| {
            let id = members::<Params<'_>>(task).ok().and_then(|task| text(task.task_id?));
            let owner = id.and_then(|id| self.task_owner(child, &id));
            owner.is_some_and(|owner| self.owns(session, owner))
        };
        let kept: Vec<&str> = tasks.iter().filter(own).map(|task| task.get()).collect();
        splice.replace(list.tasks, format!("[{}]", kept.join(",")).into_bytes());
    }
}

/// How a server's request gets to its client. Of several ways the least is taken: the oldest call in flight
/// before one that waits for its retry anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// As the answer to a modern client's call.
    Call(SessionId, u64),
    /// As a request, to a legacy client.
    Client(SessionId),
    /// With whatever else is asked for a call that waits for its retry.
    Held(u64),
}

fn related_task(meta: &Meta<'_>) -> Option<String> {
    let task: Params<'_> = members(meta.related_task?).ok()?;
    Some(text(task.task_id?)?.into_owned())
}

/// Whether an update of `uri` is news for who subscribed to `held`: the same, or a part of it
/// (2025-11-25, server/resources#subscriptions).
pub(super) fn covers(held: &str, uri: &str) -> bool {
    uri.strip_prefix(held)
        .is_some_and(|rest| rest.is_empty() || held.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_subscription_covers_itself_and_what_is_below_it() {
        assert!(covers("file:///a", "file:///a"));
        assert!(covers("file:///a", "file:///a/b"));
        assert!(covers("file:///a/", "file:///a/b"));
        assert!(!covers("file:///a", "file:///ab"));
        assert!(!covers("file:///a/b", "file:///a"));
    }
}
