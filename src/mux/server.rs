//! What a server sends: each answer to the one who asked, each notification to those it is for.
//!
//! An answer finds its asker by our id, and gets the asker's own id back byte for byte. A notification
//! that names nobody goes to everybody only where the specification says so (list-changed); otherwise
//! to the one session that it can be meant for, or to the server log. Never guessed.

use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::asks::covers;
use super::child::{Kind, Owner, Pending, TaskOwner};
use super::client::look_inside;
use super::cross;
use super::dress::too_large;
use super::exchange::{Exchange, LONGEST_LINE};
use super::outbox::ChildId;
use super::session::Greeting;
use crate::mcp::envelope::{Envelope, Message, Params, TASK_ID, may_have, members, our_id, text};
use crate::mcp::era::{Era, level_rank};
use crate::mcp::error::{Code, Failure};
use crate::mcp::line::Line;
use crate::mcp::splice::Splice;
use crate::names::SessionId;

/// How much of a line that is no message is quoted in the log, characters.
const QUOTE: usize = 200;

impl Exchange {
    /// A line of a server's.
    pub(super) fn child_line(&mut self, child: ChildId, line: Line<'_>, now: Instant) {
        self.now = now;
        match line {
            Line::Whole(line) => self.child_message(child, line, now),
            Line::TooLong(head) => {
                let id = head.id.filter(|_| !head.has_method);
                let id = id.and_then(|id| std::str::from_utf8(&id).ok()?.parse().ok());
                self.answer_too_large(child, id);
            }
        }
    }

    fn answer_too_large(&mut self, child: ChildId, id: Option<u64>) {
        match id.and_then(|id| self.settle(child, id)).map(|pending| pending.owner) {
            Some(Owner::Session { session, raw_id }) => {
                let limit = self.line_limit().min(LONGEST_LINE);
                self.refuse(session, Some(&raw_id), &too_large(limit));
                self.close_if_done(session);
            }
            _ => self.drop_from(child, "it is too long, and no request is known to wait for it"),
        }
    }

    fn child_message(&mut self, child: ChildId, line: &[u8], now: Instant) {
        let quote = || {
            let head = line.get(..line.len().min(QUOTE)).unwrap_or_default();
            String::from_utf8_lossy(head).escape_debug().to_string()
        };
        let Ok(envelope) = Envelope::read(line) else {
            return self.drop_from(child, &format!("no message on stdout: {}", quote()));
        };
        match envelope.message() {
            Ok(Message::Response { id }) => self.child_response(child, line, &envelope, id, now),
            Ok(Message::Notification { method }) => {
                self.child_notification(child, line, &envelope, &method, now);
            }
            Ok(Message::Request { id, method }) => {
                self.child_request(child, line, &envelope, id, &method);
            }
            Err(_) => self.drop_from(child, &format!("no message on stdout: {}", quote())),
        }
    }

    pub(super) fn drop_from(&mut self, child: ChildId, why: &str) {
        if let Some(server) = self.children.get(&child).map(|child| child.slot.server.clone()) {
            self.drop_line(&server, why);
        }
    }

    fn child_response(
        &mut self,
        child: ChildId,
        line: &[u8],
        envelope: &Envelope<'_>,
        id: &RawValue,
        now: Instant,
    ) {
        let Some(pending) = our_id(id).and_then(|id| self.settle(child, id)) else {
            return self.drop_from(child, "an answer that nobody waits for");
        };
        let Owner::Session { session, raw_id } = &pending.owner else {
            return self.own_response(child, &pending.kind, envelope, now);
        };
        let session = *session;
        let reused = match self.sessions.get(&session) {
            Some(asker) => pending.cancelled && asker.in_flight.contains_key(raw_id),
            None => true,
        };
        if reused {
            return self.drop_from(child, "an answer to a request that its client gave up");
        }
        self.learn_from_answer(child, session, &pending, envelope);
        let mut splice = Splice::of(line);
        splice.replace(id, &**raw_id);
        if let Some(failure) = self.adapt(child, session, &pending, envelope, &mut splice) {
            self.refuse(session, Some(raw_id), &failure);
        } else {
            self.send(session, |out| splice.write(out));
        }
        self.close_if_done(session);
    }

    /// What an answer changes here: a subscription holds, a task has an owner.
    fn learn_from_answer(
        &mut self,
        child: ChildId,
        session: SessionId,
        pending: &Pending,
        envelope: &Envelope<'_>,
    ) {
        let Some(result) = envelope.result else { return };
        match &pending.kind {
            Kind::Subscribe(uri) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.subscriptions.insert(uri.clone());
                }
            }
            Kind::Call if self.children.get(&child).is_some_and(|child| child.makes_tasks) => {
                let uid = self.sessions.get(&session).map_or(0, |session| session.holder.uid);
                if let (Some(task), Some(child)) = (new_task(result), self.children.get_mut(&child))
                {
                    child.own_task(task, TaskOwner { session, uid });
                }
            }
            _ => {}
        }
    }

    /// Changes an answer for the one who asked; or says why it cannot be given.
    fn adapt(
        &self,
        child: ChildId,
        session: SessionId,
        pending: &Pending,
        envelope: &Envelope<'_>,
        splice: &mut Splice<'_>,
    ) -> Option<Failure> {
        let result = envelope.result?;
        let raw_id = match &pending.owner {
            Owner::Session { raw_id, .. } => raw_id,
            Owner::Own => return None,
        };
        if pending.kind == Kind::Listen
            && let Some(subscription) = subscription_of(result)
        {
            splice.replace(subscription, raw_id.to_vec());
        }
        if pending.kind == Kind::TasksList {
            self.hide_foreign_tasks(child, session, result, splice);
        }
        let server = self.children.get(&child)?.era?;
        match (self.sessions.get(&session)?.era?, server) {
            (Era::Legacy, Era::Modern) if cross::needs_input(result) => {
                return Some(Failure::new(
                    Code::Denied,
                    "era",
                    "the server asks for input in a way that this client's revision cannot give",
                ));
            }
            (Era::Legacy, Era::Modern) => cross::strip_result(splice, result),
            _ => {}
        }
        None
    }

    fn child_notification(
        &mut self,
        child: ChildId,
        line: &[u8],
        envelope: &Envelope<'_>,
        method: &str,
        now: Instant,
    ) {
        let Ok((params, meta)) = look_inside(envelope.params) else {
            return self.drop_from(child, "a notification whose parameters are no object");
        };
        if let Some(subscription) = meta.subscription_id {
            return self.tell_subscriber(child, line, subscription, method);
        }
        match method {
            "notifications/progress" => self.child_progress(child, line, &params, now),
            "notifications/cancelled" => self.child_cancels(child, line, &params),
            "notifications/message" => self.child_logs(child, line, &params),
            "notifications/tools/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed" => self.tell_everyone(child, line),
            "notifications/resources/updated" => self.child_updated(child, line, &params),
            "notifications/tasks/status" => self.tell_task_owner(child, line, &params, &meta),
            "notifications/elicitation/complete" => self.child_elicited(child, line, &params),
            _ if meta.related_task.is_some() => self.tell_task_owner(child, line, &params, &meta),
            _ => self.tell_only_one(child, line),
        }
    }

    fn tell_subscriber(
        &mut self,
        child: ChildId,
        line: &[u8],
        subscription: &RawValue,
        method: &str,
    ) {
        let pending = our_id(subscription)
            .and_then(|id| self.children.get(&child)?.pending.get(&id))
            .filter(|pending| pending.kind == Kind::Listen && !pending.cancelled);
        let Some(Owner::Session { session, raw_id }) = pending.map(|pending| &pending.owner) else {
            return self.drop_from(child, "a notification of a subscription that nobody holds");
        };
        let (session, raw_id) = (*session, raw_id.to_vec());
        if method == "notifications/subscriptions/acknowledged"
            && !self.is_first_acknowledgement(session, &raw_id)
        {
            return;
        }
        let mut splice = Splice::of(line);
        splice.replace(subscription, raw_id);
        self.send(session, |out| splice.write(out));
    }

    fn child_progress(&mut self, child: ChildId, line: &[u8], params: &Params<'_>, now: Instant) {
        let Some(token) = params.progress_token else { return };
        let found = our_id(token).and_then(|id| {
            let pending = self.children.get(&child)?.pending.get(&id)?;
            match (&pending.owner, &pending.token) {
                (Owner::Session { session, .. }, Some(token)) => {
                    Some((id, *session, token.to_vec()))
                }
                _ => None,
            }
        });
        let Some((id, session, theirs)) = found else {
            return self.drop_from(child, "progress that nobody asked for");
        };
        self.put_off(child, id, now);
        let mut splice = Splice::of(line);
        splice.replace(token, theirs);
        self.send(session, |out| splice.write(out));
    }

    /// A server takes back what it asked a client, or (modern) ends a subscription.
    fn child_cancels(&mut self, child: ChildId, line: &[u8], params: &Params<'_>) {
        let Some(request) = params.request_id else { return };
        let raw = request.get().as_bytes();
        let asked = self.sessions.values().find_map(|session| {
            let ask = session
                .asks
                .iter()
                .find(|(_, ask)| ask.child == child && ask.raw_id.as_ref() == raw)?;
            Some((session.id, *ask.0))
        });
        let (session, theirs) = if let Some((session, id)) = asked {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.asks.remove(&id);
            }
            (session, id.to_string().into_bytes())
        } else if let Some(Owner::Session { session, raw_id }) =
            self.end_of_listen(child, request).map(|pending| pending.owner)
        {
            (session, raw_id.to_vec())
        } else {
            return self.drop_from(child, "a cancellation of nothing that it can take back");
        };
        let mut splice = Splice::of(line);
        splice.replace(request, theirs);
        self.send(session, |out| splice.write(out));
        self.close_if_done(session);
    }

    /// A subscription that its server ends: nothing else is its to cancel (2026-07-28, patterns/cancellation).
    fn end_of_listen(&mut self, child: ChildId, request: &RawValue) -> Option<Pending> {
        let id = our_id(request)?;
        let pending = self.children.get(&child)?.pending.get(&id)?;
        if pending.kind == Kind::Listen { self.settle(child, id) } else { None }
    }

    /// A log message goes to the one session that it can be about, else to the server log.
    fn child_logs(&mut self, child: ChildId, line: &[u8], params: &Params<'_>) {
        let level = params.level.and_then(text).and_then(|level| level_rank(&level));
        let reader = match self.children.get(&child) {
            Some(modern) if modern.era == Some(Era::Modern) => modern.log_reader(),
            _ => self.one_candidate(child),
        };
        match reader {
            Some(session) => {
                let wanted = self.sessions.get(&session).is_some_and(|session| {
                    session.level.zip(level).is_none_or(|(least, level)| level >= least)
                });
                if wanted {
                    self.send(session, |out| out.extend_from_slice(line));
                }
            }
            None => self.log_message(child, line),
        }
    }

    fn log_message(&mut self, child: ChildId, line: &[u8]) {
        if let Some(server) = self.children.get(&child).map(|child| child.slot.server.clone()) {
            let head = line.get(..line.len().min(4096)).unwrap_or_default();
            let text = format!("log message: {}", String::from_utf8_lossy(head));
            self.out.act(super::outbox::Act::Log { server, text });
        }
    }

    /// The only session that something without an address can be meant for: the only one with a request
    /// in flight, or, with none in flight, the only one there is.
    pub(super) fn one_candidate(&self, child: ChildId) -> Option<SessionId> {
        let child = self.children.get(&child)?;
        let busy = child.busy();
        let attached = &self.slots.get(&child.slot)?.sessions;
        let among = if busy.is_empty() { attached } else { &busy };
        match (among.first(), among.len()) {
            (Some(only), 1) => Some(*only),
            _ => None,
        }
    }

    fn tell_only_one(&mut self, child: ChildId, line: &[u8]) {
        match self.one_candidate(child) {
            Some(session) => self.send(session, |out| out.extend_from_slice(line)),
            None => self.drop_from(child, "a notification that could be for several clients"),
        }
    }

    /// List-changed: every legacy client of this child hears it, after its handshake.
    pub(super) fn tell_everyone(&mut self, child: ChildId, line: &[u8]) {
        for session in self.attached(child) {
            let greeted = self.sessions.get(&session).is_some_and(|session| {
                session.greeting == Greeting::Done && session.era == Some(Era::Legacy)
            });
            if greeted {
                self.send(session, |out| out.extend_from_slice(line));
            }
        }
    }

    fn child_updated(&mut self, child: ChildId, line: &[u8], params: &Params<'_>) {
        let Some(uri) = params.uri.and_then(text) else { return };
        for session in self.attached(child) {
            let holds = self
                .sessions
                .get(&session)
                .is_some_and(|session| session.subscriptions.iter().any(|held| covers(held, &uri)));
            if holds {
                self.send(session, |out| out.extend_from_slice(line));
            }
        }
    }

    fn child_elicited(&mut self, child: ChildId, line: &[u8], params: &Params<'_>) {
        let asked = params
            .elicitation_id
            .and_then(text)
            .and_then(|id| self.children.get_mut(&child)?.elicitations.remove(id.as_ref()));
        match asked {
            Some(session) => self.send(session, |out| out.extend_from_slice(line)),
            None => self.drop_from(child, "the end of an elicitation that nobody was asked for"),
        }
    }

    /// The sessions of a child's slot.
    pub(super) fn attached(&self, child: ChildId) -> Vec<SessionId> {
        self.children
            .get(&child)
            .and_then(|child| self.slots.get(&child.slot))
            .map(|slot| slot.sessions.iter().copied().collect())
            .unwrap_or_default()
    }
}

fn subscription_of(result: &RawValue) -> Option<&RawValue> {
    let (_, meta) = look_inside(Some(result)).ok()?;
    meta.subscription_id
}

/// The task that a `tools/call` result made: `task.taskId` (2025-11-25) or `taskId` (SEP-2663).
fn new_task(result: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Made<'a> {
        #[serde(borrow, default)]
        task: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "taskId")]
        id: Option<&'a RawValue>,
    }
    if !may_have(result, &TASK_ID) {
        return None;
    }
    let made: Made<'_> = members(result).ok()?;
    let inner = made.task.and_then(|task| members::<Params<'_>>(task).ok()?.task_id);
    Some(text(inner.or(made.id)?)?.into_owned())
}
