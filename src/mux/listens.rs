//! Modern subscriptions (`subscriptions/listen`) that outlive the child that holds them: kept as they were
//! asked for, sent again to the next child, acknowledged here while there is none.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::child::Kind;
use super::client::Way;
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::request::{Request, reread};
use super::session::Raw;
use crate::mcp::envelope::{Envelope, members};
use crate::mcp::era;
use crate::names::SessionId;

/// Subscriptions of one session that are kept.
const KEPT: usize = 32;
/// The longest request that is kept, bytes.
const LONGEST: usize = 64 * 1024;

/// A subscription that a client holds.
#[derive(Debug)]
pub(super) struct Listen {
    pub(super) raw_id: Raw,
    line: Box<[u8]>,
    /// The client has heard that it holds.
    pub(super) acknowledged: bool,
}

impl Listen {
    /// What the client asked to hear of: the raw filter.
    fn filter(&self) -> Option<Value> {
        #[derive(Deserialize)]
        struct Wanted<'a> {
            #[serde(borrow)]
            notifications: &'a RawValue,
        }
        let envelope = Envelope::read(&self.line).ok()?;
        let wanted: Wanted<'_> = members(envelope.params?).ok()?;
        serde_json::from_str(wanted.notifications.get()).ok()
    }

    /// The notification that a list changed, for this subscription, if it is for that.
    pub(super) fn changed(&self, list: &str, method: &str) -> Option<Vec<u8>> {
        (self.filter()?[format!("{list}ListChanged")] == true)
            .then(|| self.tagged(method, &mut serde_json::json!({})))
            .flatten()
    }

    fn acknowledgement(&self) -> Option<Vec<u8>> {
        let mut params = serde_json::json!({"notifications": self.filter()?});
        self.tagged("notifications/subscriptions/acknowledged", &mut params)
    }

    fn tagged(&self, method: &str, params: &mut Value) -> Option<Vec<u8>> {
        let id: Value = serde_json::from_slice(&self.raw_id).ok()?;
        params["_meta"] = serde_json::json!({"io.modelcontextprotocol/subscriptionId": id});
        Some(era::notification(method, Some(params)))
    }
}

impl Exchange {
    /// Notes a subscription that goes to a child, so that the next one gets it too.
    pub(super) fn note_listen(&mut self, session: SessionId, raw_id: &[u8], line: &[u8]) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let known = session.listens.iter().any(|listen| *listen.raw_id == *raw_id);
        if !known && session.listens.len() < KEPT && line.len() <= LONGEST {
            let (raw_id, line) = (raw_id.into(), line.into());
            session.listens.push(Listen { raw_id, line, acknowledged: false });
        }
    }

    /// Notes a subscription that no child can hold now, and acknowledges it.
    pub(super) fn keep_listening(&mut self, id: SessionId, request: &Request<'_>) {
        self.note_listen(id, request.raw_id(), request.line);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let listen = session.listens.iter_mut().find(|it| *it.raw_id == *request.raw_id());
        let line = listen.and_then(|listen| {
            listen.acknowledged = true;
            listen.acknowledgement()
        });
        if let Some(line) = line {
            self.send(id, |out| out.extend_from_slice(&line));
        }
    }

    /// A subscription is over.
    pub(super) fn forget_listen(&mut self, session: SessionId, raw_id: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.listens.retain(|listen| *listen.raw_id != *raw_id);
        }
    }

    /// Whether a child's acknowledgement is news to the client: not where it replaced another child.
    pub(super) fn is_first_acknowledgement(&mut self, session: SessionId, raw_id: &[u8]) -> bool {
        let listen = self.sessions.get_mut(&session).and_then(|session| {
            session.listens.iter_mut().find(|listen| *listen.raw_id == *raw_id)
        });
        listen.is_none_or(|listen| !std::mem::replace(&mut listen.acknowledged, true))
    }

    /// A new child gets the subscriptions of its sessions.
    pub(super) fn renew_listens(&mut self, child: ChildId) {
        for id in self.attached(child) {
            let Some(session) = self.sessions.get(&id) else { continue };
            let held = session.listens.iter();
            let lost = held.filter(|listen| !session.in_flight.contains_key(&listen.raw_id));
            let lines: Vec<_> = lost.map(|listen| listen.line.clone()).collect();
            for line in lines {
                reread(&line, |request| {
                    let way = Way::straight(Kind::Listen, request);
                    self.forward(id, child, request, way, self.now);
                });
            }
        }
    }
}
