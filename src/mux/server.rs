//! What a server sends: each answer to the one who asked.
//!
//! An answer finds its asker by our id, and gets the asker's own id back byte for byte. A server's
//! requests are in `asks`, its notifications in `notices`.

use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::child::{Kind, Owner, Pending};
use super::cross::downward;
use super::dress::too_large;
use super::exchange::{Exchange, LONGEST_LINE};
use super::outbox::ChildId;
use super::request::look_inside;
use super::tasks::TaskOwner;
use crate::mcp::envelope::{Envelope, Message, Params, TASK_ID, may_have, members, our_id, text};
use crate::mcp::era::Era;
use crate::mcp::error::Failure;
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
        let limit = self.line_limit().min(LONGEST_LINE);
        let Some(pending) = id.and_then(|id| self.settle(child, id)) else {
            return self.drop_from(child, "it is too long, and no request is known to wait for it");
        };
        match pending.owner {
            Owner::Held(held) => self.held_failed(child, held, too_large(limit)),
            Owner::Session { session, raw_id } => {
                if !pending.cancelled {
                    self.refuse(session, Some(&raw_id), &too_large(limit));
                }
                self.close_if_done(session);
            }
            Owner::Feed(session) => self.feed_lost(child, session, id.unwrap_or_default()),
            // An answer all the same, that says nothing.
            Owner::Own => self.own_response(child, &pending.kind, &Envelope::default(), self.now),
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
        let Some(mut pending) = our_id(id).and_then(|id| self.settle(child, id)) else {
            return self.drop_from(child, "an answer that nobody waits for");
        };
        let wanted = pending.wanted.take();
        let (session, raw_id) = match &pending.owner {
            Owner::Session { session, raw_id } => (session, raw_id),
            Owner::Own => return self.own_response(child, &pending.kind, envelope, now),
            Owner::Feed(session) => return self.feed_ended(child, *session, envelope),
            Owner::Held(held) => return self.held_answered(child, *held, line),
        };
        let session = *session;
        let reused = match self.sessions.get(&session) {
            // What waits may have any id.
            Some(asker) => {
                pending.cancelled && (asker.has_open(raw_id) || !asker.waiting.is_empty())
            }
            None => true,
        };
        if reused {
            return self.drop_from(child, "an answer to a request that its client gave up");
        }
        self.learn_from_answer(child, session, &pending, envelope);
        if let (Some(wanted), Some(result)) = (wanted, envelope.result) {
            self.keep_result(child, session, wanted, result);
        }
        let mut splice = Splice::of(line);
        splice.replace(id, &**raw_id);
        match self.adapt(child, session, &pending, envelope, &mut splice) {
            Answer::Give => self.send(session, |out| splice.write(out)),
            Answer::Refuse(failure) => self.refuse(session, Some(raw_id), &failure),
            Answer::Later => {}
        }
        self.close_if_done(session);
    }

    /// What an answer changes here: a subscription holds, a task has an owner, a list is known.
    fn learn_from_answer(
        &mut self,
        child: ChildId,
        session: SessionId,
        pending: &Pending,
        envelope: &Envelope<'_>,
    ) {
        let Some(result) = envelope.result else { return };
        self.learn_list(child, pending, result);
        self.learn_state(child, session, pending, result);
        match &pending.kind {
            Kind::Subscribe(uri) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.subscriptions.insert(uri.clone());
                }
            }
            Kind::Call if self.children.get(&child).is_some_and(|child| child.makes_tasks) => {
                let uid = self.sessions.get(&session).map_or(0, |session| session.holder.uid);
                let slot = self.children.get(&child).and_then(|c| self.slots.get_mut(&c.slot));
                if let (Some(task), Some(slot)) = (new_task(result), slot) {
                    slot.tasks.own(task, TaskOwner { session, uid });
                }
            }
            _ => {}
        }
    }

    /// Changes an answer for the one who asked; or says why it cannot be given.
    fn adapt(
        &mut self,
        child: ChildId,
        session: SessionId,
        pending: &Pending,
        envelope: &Envelope<'_>,
        splice: &mut Splice<'_>,
    ) -> Answer {
        let server = self.children.get(&child).and_then(|child| child.era);
        if let (Era::Modern, Some(Era::Legacy), Some(error)) = (pending.era, server, envelope.error)
        {
            downward::renumber(pending.method, error, splice);
        }
        let (Some(result), Owner::Session { raw_id, .. }) = (envelope.result, &pending.owner)
        else {
            return Answer::Give;
        };
        if pending.kind == Kind::Listen
            && let Some(subscription) = subscription_of(result)
        {
            splice.replace(subscription, raw_id.to_vec());
        }
        if pending.kind == Kind::TasksList {
            self.hide_foreign_tasks(child, session, result, splice);
        }
        match (pending.era, server) {
            (Era::Legacy, Some(Era::Modern)) => {
                self.answer_upward(child, session, pending, result, splice)
            }
            (Era::Modern, Some(Era::Legacy)) => downward::complete(pending.method, result, splice),
            _ => Answer::Give,
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

/// What becomes of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// It goes to its asker.
    Give,
    /// Its asker gets this instead.
    Refuse(Failure),
    /// Its asker gets nothing yet: the server wants something first.
    Later,
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
