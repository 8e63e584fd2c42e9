//! What a client says beside its requests: notifications, and answers to what a server asked it.

use serde_json::value::RawValue;

use super::exchange::Exchange;
use super::outbox::{ChildId, End};
use super::request::look_inside;
use super::session::Asker;
use crate::mcp::envelope::{Envelope, our_id};
use crate::mcp::splice::Splice;
use crate::names::SessionId;

impl Exchange {
    pub(super) fn client_notification(
        &mut self,
        session: SessionId,
        line: &[u8],
        envelope: &Envelope<'_>,
        method: &str,
    ) {
        match method {
            "notifications/initialized" => {}
            "notifications/cancelled" => self.client_cancels(session, line, envelope),
            "notifications/roots/list_changed" if !self.roots_are_its_own(session) => {}
            _ if self.queue_behind(session, line) => {}
            "notifications/progress" => self.client_progress(session, line, envelope),
            _ => {
                if let Some(child) = self.ready_child(session)
                    && self.speaks_its_era(session, child)
                {
                    self.out.push(End::Child(child), line);
                }
            }
        }
    }

    /// Whether a change of this session's roots is the server's business.
    fn roots_are_its_own(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| {
            let shared = self.slots.get(&session.slot).is_some_and(|slot| slot.sessions.len() > 1);
            session.has_own_child() || !shared
        })
    }

    /// Whether a notification without an era of its own means to a child what its client means.
    fn speaks_its_era(&self, session: SessionId, child: ChildId) -> bool {
        let client = self.sessions.get(&session).and_then(|session| session.era);
        let server = self.children.get(&child).and_then(|child| child.era);
        client == server
    }

    fn client_cancels(&mut self, session: SessionId, line: &[u8], envelope: &Envelope<'_>) {
        let Ok((params, _)) = look_inside(envelope.params) else { return };
        let Some(request) = params.request_id else { return };
        let raw = request.get().as_bytes();
        if self.cancel_round(session, raw) || self.cancel_wish(session, raw) {
            return self.close_if_done(session);
        }
        self.end_stream(session, raw);
        self.forget_listen(session, raw);
        if self.cancel_waiting(session, request) {
            return self.close_if_done(session);
        }
        let Some(child) = self.ready_child(session) else { return };
        // Only a request of its own; after this its id is free again.
        let Some(asker) = self.sessions.get_mut(&session) else { return };
        let Some(id) = asker.in_flight.remove(raw) else { return };
        if let Some(pending) = self.children.get_mut(&child).and_then(|c| c.pending.get_mut(&id)) {
            pending.cancelled = true;
            // Nothing is sent again for it, and its client can have many more.
            (pending.again, pending.kept) = (None, None);
        }
        self.forget_in_time(child, id);
        let mut splice = Splice::of(line);
        splice.replace(request, id.to_string().into_bytes());
        self.out.line(End::Child(child), |out| splice.write(out));
        self.close_if_done(session);
    }

    /// A request that still waits for the server is simply forgotten, as if it had been cancelled there.
    /// Says whether there was one.
    fn cancel_waiting(&mut self, session: SessionId, request: &RawValue) -> bool {
        let Some(session) = self.sessions.get_mut(&session) else { return false };
        let is_it = |line: &[u8]| {
            let Ok(envelope) = Envelope::read(line) else { return false };
            envelope.id.is_some_and(|id| id.get() == request.get())
                && envelope.method.is_some_and(|method| method.get() != "\"initialize\"")
        };
        let before = session.waiting.len();
        let mut lines = session.take_waiting();
        lines.retain(|line| !is_it(&line.bytes));
        session.wait_on(lines);
        session.waiting.len() < before
    }

    /// Progress on what the server asked this client: the token is the server's own.
    fn client_progress(&mut self, session: SessionId, line: &[u8], envelope: &Envelope<'_>) {
        let Ok((params, _)) = look_inside(envelope.params) else { return };
        let Some(token) = params.progress_token else { return };
        let asked = self.sessions.get(&session).and_then(|session| {
            let token = token.get().as_bytes();
            session.asks.values().find(|ask| {
                matches!(&ask.asker, Asker::Server { token: Some(own), .. } if **own == *token)
            })
        });
        if let Some(child) = asked.map(|ask| ask.child) {
            self.out.push(End::Child(child), line);
        }
    }

    pub(super) fn client_response(
        &mut self,
        session: SessionId,
        line: &[u8],
        envelope: &Envelope<'_>,
        id: &RawValue,
    ) {
        if self.queue_behind(session, line) {
            return;
        }
        let ask = our_id(id).and_then(|id| self.sessions.get_mut(&session)?.asks.remove(&id));
        let Some(ask) = ask else {
            let server = self.sessions.get(&session).map(|s| s.slot.server.clone());
            if let Some(server) = server {
                self.drop_line(&server, "a client's response that no server asked for");
            }
            return;
        };
        match ask.asker {
            Asker::Server { raw_id, .. } => {
                let mut splice = Splice::of(line);
                splice.replace(id, &*raw_id);
                if self.children.contains_key(&ask.child) {
                    self.out.line(End::Child(ask.child), |out| splice.write(out));
                }
            }
            Asker::Round { request, key } => self.round_answered(session, &request, &key, envelope),
        }
    }
}
