//! Modern subscriptions (`subscriptions/listen`) that outlive the child that holds them: kept as they were
//! asked for, held by the next child too (in its era's way), acknowledged here while there is none.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::child::Kind;
use super::client::Way;
use super::cross::streams::Stream;
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::request::{Request, reread};
use super::session::Raw;
use crate::mcp::envelope::{Envelope, members};
use crate::mcp::era::META_SUBSCRIPTION;
use crate::mcp::error::{Code, Failure};
use crate::names::SessionId;

/// Subscriptions of one session that are kept.
pub(super) const KEPT: usize = 32;
/// The longest request that is kept, bytes.
const LONGEST: usize = 64 * 1024;

/// A subscription that a client holds.
#[derive(Debug)]
pub(super) struct Listen {
    pub(super) raw_id: Raw,
    line: Box<[u8]>,
    /// The client has heard that it holds.
    pub(super) acknowledged: bool,
    /// What a legacy server gives for it.
    pub(super) stream: Option<Stream>,
}

/// What a subscription is to tell of (2026-07-28, `SubscriptionFilter`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    pub(super) resource_subscriptions: Vec<String>,
}

impl Filter {
    /// What a request's parameters ask for; none where that cannot be read.
    pub(super) fn of(params: Option<&RawValue>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wanted<'a> {
            #[serde(borrow)]
            notifications: &'a RawValue,
        }
        let wanted: Wanted<'_> = members(params?).ok()?;
        members(wanted.notifications).ok()
    }

    /// Whether it asks for changes of that list.
    pub(super) fn has(&self, list: &str) -> bool {
        match list {
            "tools" => self.tools_list_changed,
            "prompts" => self.prompts_list_changed,
            "resources" => self.resources_list_changed,
            _ => false,
        }
    }
}

impl Listen {
    pub(super) fn filter(&self) -> Option<Filter> {
        Filter::of(Envelope::read(&self.line).ok()?.params)
    }

    /// Whether it holds this resource at a legacy server, or is about to.
    pub(super) fn holds(&self, uri: &str) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.has(uri))
    }

    /// The notification that a list changed, for this subscription, if it is for that.
    pub(super) fn changed(&self, list: &str, method: &str) -> Option<Vec<u8>> {
        let told = match &self.stream {
            Some(stream) => stream.tells(list),
            None => self.filter()?.has(list),
        };
        (told && self.acknowledged).then(|| self.tagged(method, ""))
    }

    /// The acknowledgement; without a server it promises all that was asked for.
    fn acknowledgement(&self) -> Option<Vec<u8>> {
        #[derive(Deserialize)]
        struct Wanted<'a> {
            #[serde(borrow)]
            notifications: &'a RawValue,
        }
        let envelope = Envelope::read(&self.line).ok()?;
        let wanted: Wanted<'_> = members(envelope.params?).ok()?;
        Some(self.acknowledge(wanted.notifications.get()))
    }

    /// The acknowledgement of this filter.
    pub(super) fn acknowledge(&self, filter: &str) -> Vec<u8> {
        let more = format!(r#""notifications":{filter},"#);
        self.tagged("notifications/subscriptions/acknowledged", &more)
    }

    /// What ties a message to this subscription: a member of its `_meta`, with the id as it was written.
    pub(super) fn tag(&self) -> String {
        format!(r#""{META_SUBSCRIPTION}":{}"#, String::from_utf8_lossy(&self.raw_id))
    }

    fn tagged(&self, method: &str, more: &str) -> Vec<u8> {
        let tag = self.tag();
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{more}"_meta":{{{tag}}}}}}}"#)
            .into_bytes()
    }

    /// The result that ends it.
    pub(super) fn closing(&self) -> Vec<u8> {
        let (id, tag) = (String::from_utf8_lossy(&self.raw_id), self.tag());
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{{{tag}}}}}}}"#
        )
        .into_bytes()
    }
}

impl Exchange {
    /// Notes a subscription that goes to a child, so that the next one gets it too: whether it is kept.
    pub(super) fn note_listen(&mut self, session: SessionId, raw_id: &[u8], line: &[u8]) -> bool {
        let Some(session) = self.sessions.get_mut(&session) else { return false };
        let known = session.listens.iter().any(|listen| *listen.raw_id == *raw_id);
        let fits = session.listens.len() < KEPT && line.len() <= LONGEST;
        if !known && fits {
            let (raw_id, line) = (raw_id.into(), line.into());
            session.listens.push(Listen { raw_id, line, acknowledged: false, stream: None });
        }
        known || fits
    }

    /// Notes a subscription that no child can hold now, and acknowledges it.
    pub(super) fn keep_listening(&mut self, id: SessionId, request: &Request<'_>) {
        if !self.note_listen(id, request.raw_id(), request.line) {
            return self.refuse(id, Some(request.raw_id()), &too_many());
        }
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

    /// A new modern child gets the subscriptions of its sessions.
    pub(super) fn renew_listens(&mut self, child: ChildId) {
        for id in self.attached(child) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            // What the child before gave, if that was a legacy server.
            session.listens.iter_mut().for_each(|listen| listen.stream = None);
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

/// What is said to a subscription that cannot be kept here.
pub(super) fn too_many() -> Failure {
    let said = "this session has too many subscriptions, or this one is too long";
    Failure::new(Code::TooMany, "subscriptions", said)
}
