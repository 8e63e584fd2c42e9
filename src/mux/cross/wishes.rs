//! `resources/subscribe` and `resources/unsubscribe` of a legacy client on a modern server, and its feed:
//! sent, heard, renewed, ended. What a feed is to do is decided in `feed`.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::feed::{Cause, Step};
use super::handshake::envelope_of;
use crate::mcp::envelope::{Envelope, Params, members, our_id, text};
use crate::mcp::era::{Era, META_SUBSCRIPTION};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::{Splice, is_empty_object, member_ranges, without_members};
use crate::mux::asks::covers;
use crate::mux::child::{Kind, Owner, Pending};
use crate::mux::exchange::Exchange;
use crate::mux::outbox::{ChildId, End};
use crate::mux::request::Request;
use crate::mux::session::{Greeting, Raw, Session, SlotKey};
use crate::mux::timers::Timer;
use crate::names::SessionId;

/// The most resources that a session can be subscribed to: each is in every listen of its.
pub(in crate::mux) const RESOURCES: usize = 1024;
/// The most bytes that their URIs can have: a line of a listen stays far below what servers take.
pub(in crate::mux) const RESOURCE_BYTES: usize = 256 * 1024;

/// A `resources/subscribe` that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) raw_id: Raw,
    pub(super) uri: String,
}

impl Exchange {
    /// A new modern child gets the upstream subscriptions of its legacy sessions.
    pub(in crate::mux) fn renew_feeds(&mut self, child: ChildId) {
        for session in self.attached(child) {
            self.tend_feed(session, self.now);
        }
    }

    /// It is time to look at an upstream subscription.
    pub(in crate::mux) fn renew_feed(&mut self, id: SessionId, now: Instant) {
        let feed = self.sessions.get(&id).map(|session| &session.feed);
        if let Some(late) = feed.and_then(|feed| feed.late(now))
            && let Some(child) = self.feeding(id)
            && self.settle(child, late).is_some()
        {
            self.send_cancel(child, late, "it was not acknowledged");
            self.feed_over(id, late, Cause::Ended, None);
        }
        self.tend_feed(id, now);
    }

    /// Brings what a legacy session hears of its modern server to what it wants to hear.
    pub(in crate::mux) fn tend_feed(&mut self, id: SessionId, now: Instant) {
        let Some(child) = self.feeding(id) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        match session.feed.next(&session.subscriptions, now) {
            Step::None => {}
            Step::Rest(until) => self.timers.set(until, Timer::Feed(id)),
            Step::Close(listens) => {
                for listen in listens {
                    self.cancel_listen(child, listen, "nothing is subscribed to any more");
                }
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.feed.lose();
                }
            }
            Step::Listen(uris) => self.listen(id, child, uris, now),
            Step::Refuse => self.refuse_wishes(id, &not_told()),
        }
    }

    /// The child that a session's feed is to come from; its feed is about that one from here on.
    fn feeding(&mut self, id: SessionId) -> Option<ChildId> {
        let session = self.sessions.get_mut(&id)?;
        let ready = session.greeting == Greeting::Done && session.hello.is_some();
        let child = self.slots.get(&session.slot)?.child.filter(|_| ready)?;
        let from = self.children.get(&child)?;
        if !from.serves() || from.era != Some(Era::Modern) {
            return None;
        }
        session.feed.offer(child, Some(from));
        Some(child)
    }

    fn listen(&mut self, id: SessionId, child: ChildId, uris: BTreeSet<String>, now: Instant) {
        let (Some(session), Some(to)) = (self.sessions.get_mut(&id), self.children.get_mut(&child))
        else {
            return;
        };
        let ours = to.take_id();
        let worn = envelope_of(session, None);
        let meta = [&*worn.version, &worn.client, &worn.capabilities, &session.context];
        let meta: Vec<&str> = meta.into_iter().filter(|member| !member.is_empty()).collect();
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":{ours},"method":"subscriptions/listen","params":{{"notifications":{},"_meta":{{{}}}}}}}"#,
            session.feed.filter(&uris),
            meta.join(",")
        );
        let late = session.feed.asked(ours, uris, now);
        to.pending.insert(ours, Pending::own(Kind::Listen, Owner::Feed(id), now));
        self.timers.set(late, Timer::Feed(id));
        self.out.push(End::Child(child), line.as_bytes());
    }

    /// A client wants to hear of a resource.
    pub(in crate::mux) fn wish(
        &mut self,
        id: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        let raw_id = request.raw_id();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let uri = request.params.uri.and_then(text);
        let failure = match uri {
            None => Failure::new(Code::InvalidParams, "uri", "the request names no resource (uri)"),
            _ if !session.feed.offer(child, self.children.get(&child)).resources => not_told(),
            Some(uri) if session.subscriptions.contains(uri.as_ref()) => {
                return self.answer_empty(id, raw_id);
            }
            Some(uri) if !has_room(session, &uri) => Failure::new(
                Code::TooMany,
                "subscriptions",
                format!("a session has {RESOURCES} subscriptions at most ({RESOURCE_BYTES} bytes)"),
            ),
            Some(uri) => {
                let wish = Wish { raw_id: raw_id.into(), uri: uri.into_owned() };
                session.feed.wishes.push(wish);
                return self.tend_feed(id, now);
            }
        };
        self.refuse(id, Some(raw_id), &failure);
    }

    /// A client does not want to hear of a resource any more.
    pub(in crate::mux) fn unwish(&mut self, id: SessionId, request: &Request<'_>, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(uri) = request.params.uri.and_then(text) else {
            let failure =
                Failure::new(Code::InvalidParams, "uri", "the request names no resource (uri)");
            return self.refuse(id, Some(request.raw_id()), &failure);
        };
        session.subscriptions.remove(uri.as_ref());
        let over = session.feed.wishes.extract_if(.., |wish| wish.uri == uri);
        let over: Vec<Wish> = over.collect();
        for wish in over {
            self.answer_empty(id, &wish.raw_id);
        }
        self.answer_empty(id, request.raw_id());
        self.tend_feed(id, now);
    }

    /// A client does not wait for its subscription: whether this was one.
    pub(in crate::mux) fn cancel_wish(&mut self, id: SessionId, raw_id: &[u8]) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let before = session.feed.wishes.len();
        session.feed.wishes.retain(|wish| *wish.raw_id != *raw_id);
        before != session.feed.wishes.len()
    }

    /// A notification of an upstream subscription, which has the id `id` at the child.
    pub(in crate::mux) fn tell_feed(
        &mut self,
        child: ChildId,
        session: SessionId,
        id: u64,
        line: &[u8],
        envelope: &Envelope<'_>,
        method: &str,
    ) {
        let Some(params) = envelope.params else { return };
        if method == "notifications/subscriptions/acknowledged" {
            return self.feed_acknowledged(child, session, id, params);
        }
        let Some(to) = self.sessions.get(&session) else { return };
        let wanted = match method {
            "notifications/tools/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed" => true,
            "notifications/resources/updated" => {
                let uri = members::<Params<'_>>(params).ok().and_then(|it| text(it.uri?));
                uri.is_some_and(|uri| to.subscriptions.iter().any(|held| covers(held, &uri)))
            }
            _ => return self.drop_from(child, "a notification that no subscription asks for"),
        };
        if !wanted || to.era != Some(Era::Legacy) || !to.feed.hears(id) {
            return;
        }
        let mut splice = Splice::of(line);
        take_tag_off(&mut splice, params);
        self.send(session, |out| splice.write(out));
    }

    fn feed_acknowledged(&mut self, child: ChildId, id: SessionId, ours: u64, params: &RawValue) {
        let honoured = honoured(params);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(settled) = session.feed.acknowledged(ours, &honoured, self.now) else { return };
        session.subscriptions.extend(settled.met.iter().map(|wish| wish.uri.clone()));
        self.timers.clear_all(|timer| *timer == Timer::Feed(id));
        for listen in settled.old {
            self.cancel_listen(child, listen, "another one takes its place");
        }
        for wish in settled.met {
            self.answer_empty(id, &wish.raw_id);
        }
        for wish in settled.unmet {
            self.refuse(id, Some(&wish.raw_id), &not_this());
        }
        self.tend_feed(id, self.now);
        self.close_if_done(id);
    }

    fn cancel_listen(&mut self, child: ChildId, listen: u64, why: &str) {
        if self.settle(child, listen).is_some() {
            self.send_cancel(child, listen, why);
        }
    }

    /// The server has ended an upstream subscription, or refused it.
    pub(in crate::mux) fn feed_ended(
        &mut self,
        _child: ChildId,
        session: SessionId,
        answer: &Envelope<'_>,
    ) {
        #[derive(Deserialize)]
        struct Error {
            code: i64,
        }
        let cause = match answer.error {
            None => Cause::Ended,
            Some(error) => match members::<Error>(error) {
                Ok(error) if error.code == Code::MethodNotFound as i64 => Cause::NoMethod,
                _ => Cause::Refused,
            },
        };
        let listen = answer.id.and_then(our_id).unwrap_or_default();
        self.feed_over(session, listen, cause, answer.error);
    }

    /// An upstream subscription is over in another way than by its answer.
    pub(in crate::mux) fn feed_lost(&mut self, _child: ChildId, session: SessionId, listen: u64) {
        self.feed_over(session, listen, Cause::Ended, None);
    }

    fn feed_over(&mut self, id: SessionId, listen: u64, cause: Cause, error: Option<&RawValue>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(ended) = session.feed.ended(listen, cause, self.now) else { return };
        self.timers.clear_all(|timer| *timer == Timer::Feed(id));
        self.timers.set(ended.rest, Timer::Feed(id));
        for wish in ended.unmet {
            match error {
                // What the server says of it, in its own words.
                Some(error) if cause == Cause::Refused => {
                    let (raw_id, error) = (&*wish.raw_id, error.get().as_bytes());
                    let parts: [&[u8]; 5] =
                        [br#"{"jsonrpc":"2.0","id":"#, raw_id, br#","error":"#, error, b"}"];
                    self.send(id, |out| out.extend_from_slice(&parts.concat()));
                }
                Some(_) => self.refuse(id, Some(&wish.raw_id), &not_told()),
                None => self.refuse(id, Some(&wish.raw_id), &not_now()),
            }
        }
        self.tend_feed(id, self.now);
        self.close_if_done(id);
    }

    fn refuse_wishes(&mut self, id: SessionId, failure: &Failure) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for wish in std::mem::take(&mut session.feed.wishes) {
            self.refuse(id, Some(&wish.raw_id), failure);
        }
        self.close_if_done(id);
    }

    /// A child is gone: what its sessions heard through it comes from the next one.
    pub(in crate::mux) fn lose_feeds(&mut self, child: ChildId, key: &SlotKey, why: &Failure) {
        let sessions = self.slots.get(key).map(|slot| slot.sessions.clone()).unwrap_or_default();
        self.timers.clear_all(|timer| matches!(timer, Timer::Feed(it) if sessions.contains(it)));
        for id in sessions {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if !session.feed.is_of(child) {
                continue;
            }
            for wish in session.feed.lose() {
                self.refuse(id, Some(&wish.raw_id), why);
            }
            self.close_if_done(id);
        }
    }

    /// A session is over: its upstream subscription ends at the child.
    pub(in crate::mux) fn end_feed(&mut self, child: ChildId, session: &Session) {
        if session.feed.is_of(child) {
            for listen in session.feed.ids() {
                self.cancel_listen(child, listen, "the client is gone");
            }
        }
    }
}

fn has_room(session: &Session, uri: &str) -> bool {
    let wished = session.feed.wishes.iter().map(|wish| wish.uri.len());
    let lengths = session.subscriptions.iter().map(String::len).chain(wished);
    let (count, bytes) = lengths.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length));
    count < RESOURCES && bytes + uri.len() <= RESOURCE_BYTES
}

/// Takes the mark of the subscription off a notification, and the `_meta` that nothing else is in.
fn take_tag_off(splice: &mut Splice<'_>, params: &RawValue) {
    let is_tag = |key: &str| key == META_SUBSCRIPTION;
    let Some(meta) = members::<Params<'_>>(params).ok().and_then(|params| params.meta) else {
        return;
    };
    let alone = is_empty_object(&without_members(meta.get(), is_tag));
    let (whole, ranges) = if alone {
        (params, member_ranges(params.get(), |key| key == "_meta"))
    } else {
        (meta, member_ranges(meta.get(), is_tag))
    };
    let start = splice.range(whole).start;
    for range in ranges {
        splice.remove(start + range.start..start + range.end);
    }
}

/// The resources that an acknowledgement agrees to.
fn honoured(params: &RawValue) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Acknowledged {
        notifications: Agreed,
    }
    #[derive(Deserialize)]
    struct Agreed {
        #[serde(default, rename = "resourceSubscriptions")]
        uris: Option<BTreeSet<String>>,
    }
    let found = members::<Acknowledged>(params).ok();
    found.and_then(|it| it.notifications.uris).unwrap_or_default()
}

/// What a server says that offers no subscriptions.
fn not_told() -> Failure {
    Failure::new(Code::MethodNotFound, "subscriptions", "this server tells no changes of resources")
}

/// What a server says of a resource without subscriptions.
fn not_this() -> Failure {
    Failure::new(
        Code::InvalidParams,
        "subscriptions",
        "the server does not tell changes of this resource",
    )
}

fn not_now() -> Failure {
    Failure::new(
        Code::Unavailable,
        "subscriptions",
        "the server ended the subscription before it held",
    )
}
