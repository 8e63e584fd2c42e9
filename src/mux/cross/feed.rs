//! What a legacy session hears of a modern server: one upstream `subscriptions/listen` of its own.
//!
//! A listen asks for the lists that the server tells changes of and for the resources that the session is
//! subscribed to. What is asked for cannot be changed: another listen takes its place, and only when that
//! one is acknowledged the old one is cancelled. Until then the client hears the old one alone, after it
//! the new one alone: each notification comes once, and none is lost between.
//!
//! ```text
//!   none --tend--> asked --acknowledged--> heard --tend, others wanted--> heard + asked --acknowledged--> heard
//!     ^              | late, refused, ended   | ended
//!     +-- a pause ---+------------------------+
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::handshake::Offer;
use super::wishes::Wish;
use crate::mux::child::Child;
use crate::mux::outbox::ChildId;
use crate::mux::session::Raw;

/// How long a server may take to acknowledge a listen.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// The pause after a listen that ended; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest, and how long a listen must have held for the next pause to be the first again.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// A legacy session's upstream subscription.
#[derive(Debug, Default)]
pub(in crate::mux) struct Feed {
    /// The child that the rest is about.
    child: Option<ChildId>,
    offer: Offer,
    /// The one that is heard, and behind it the one that is to take its place.
    open: Vec<Open>,
    /// Requests of the client's that wait for an acknowledgement.
    pub(super) wishes: Vec<Wish>,
    /// The server has no such method, and is not asked again.
    refused: bool,
    pause: Duration,
    /// Nothing is asked for before, unless a client waits for it.
    rest: Option<Instant>,
}

/// One `subscriptions/listen` at the child.
#[derive(Debug)]
struct Open {
    id: u64,
    /// The resources that it asks for.
    uris: BTreeSet<String>,
    acknowledged: bool,
    since: Instant,
}

/// What is to be done about a feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: all is as wanted, or an acknowledgement is awaited.
    None,
    /// Nothing before then.
    Rest(Instant),
    /// Nothing is wanted any more: these are to be cancelled.
    Close(Vec<u64>),
    /// A listen for these resources.
    Listen(BTreeSet<String>),
    /// There is no listen: whoever waits for one is to hear it.
    Refuse,
}

/// What the end of a listen means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was ended, or not acknowledged in time.
    Ended,
    /// It was refused, perhaps for now: servers of the Python SDK refuse more than 1024 at once.
    Refused,
    /// There is no such method.
    NoMethod,
}

impl Feed {
    /// Whether the client waits for an answer.
    pub(in crate::mux) fn is_owed(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// Whether the client's request with this id waits.
    pub(in crate::mux) fn has(&self, raw_id: &[u8]) -> bool {
        self.waiting().any(|waiting| **waiting == *raw_id)
    }

    /// How many listens there are, and what the URIs that are waited for have, bytes.
    #[cfg(any(test, fuzzing))]
    pub(in crate::mux) fn size(&self) -> (usize, usize) {
        (self.open.len(), self.wishes.iter().map(|wish| wish.uri.len()).sum())
    }

    /// The ids of the client's requests that wait.
    pub(in crate::mux) fn waiting(&self) -> impl Iterator<Item = &Raw> {
        self.wishes.iter().map(|wish| &wish.raw_id)
    }

    /// What the child offers, which may be another than the one before.
    pub(super) fn offer(&mut self, id: ChildId, child: Option<&Child>) -> &Offer {
        if self.child != Some(id) {
            let handshake = child.and_then(|child| child.handshake.as_deref());
            let offer = handshake.map(Offer::of).unwrap_or_default();
            let wishes = std::mem::take(&mut self.wishes);
            *self = Self { child: Some(id), offer, wishes, ..Self::default() };
        }
        &self.offer
    }

    /// Whether it is about this child.
    pub(super) fn is_of(&self, child: ChildId) -> bool {
        self.child == Some(child)
    }

    /// The listens at its child.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.open.iter().map(|open| open.id)
    }

    /// The filter of a listen for these resources.
    pub(super) fn filter(&self, uris: &BTreeSet<String>) -> serde_json::Value {
        let mut filter = serde_json::json!({});
        for list in &self.offer.lists {
            filter[format!("{list}ListChanged")] = true.into();
        }
        if !uris.is_empty() {
            filter["resourceSubscriptions"] = uris.iter().map(String::as_str).collect();
        }
        filter
    }

    /// What is to be done for the session to hear what it wants; `held` are its subscriptions.
    pub(super) fn next(&self, held: &BTreeSet<String>, now: Instant) -> Step {
        if self.open.iter().any(|open| !open.acknowledged) {
            return Step::None;
        }
        let wished = self.wishes.iter().map(|wish| &wish.uri);
        let wanted: BTreeSet<String> = held.iter().chain(wished).cloned().collect();
        let nothing = wanted.is_empty() && self.offer.lists.is_empty();
        match self.open.last() {
            Some(heard) if heard.uris == wanted => Step::None,
            Some(_) if nothing => Step::Close(self.ids().collect()),
            None if nothing => Step::None,
            _ if self.refused => Step::Refuse,
            _ if !self.wishes.is_empty() => Step::Listen(wanted),
            _ => match self.rest {
                Some(rest) if rest > now => Step::Rest(rest),
                _ => Step::Listen(wanted),
            },
        }
    }

    /// Notes a listen that goes out; gives the time for its acknowledgement.
    pub(super) fn asked(&mut self, id: u64, uris: BTreeSet<String>, now: Instant) -> Instant {
        self.open.push(Open { id, uris, acknowledged: false, since: now });
        now + ACKNOWLEDGED_WITHIN
    }

    /// Whether a listen is the one that is heard: what another one says is said again by this, or was.
    pub(super) fn hears(&self, id: u64) -> bool {
        self.open.first().is_some_and(|open| open.id == id && open.acknowledged)
    }

    /// The listen that is not acknowledged in time.
    pub(super) fn late(&self, now: Instant) -> Option<u64> {
        let late = |open: &&Open| !open.acknowledged && now >= open.since + ACKNOWLEDGED_WITHIN;
        self.open.iter().find(late).map(|open| open.id)
    }

    /// The server has acknowledged a listen for these resources; `None` where that is no news.
    pub(super) fn acknowledged(
        &mut self,
        id: u64,
        honoured: &BTreeSet<String>,
        now: Instant,
    ) -> Option<Settled> {
        let new = self.open.iter_mut().find(|open| open.id == id && !open.acknowledged)?;
        new.acknowledged = true;
        new.since = now;
        let settled = self.wishes.extract_if(.., |wish| new.uris.contains(&wish.uri));
        let (met, unmet): (Vec<_>, Vec<_>) = settled.partition(|wish| honoured.contains(&wish.uri));
        // A resource that it does not honour need not be asked for again, nor taken back.
        for wish in &unmet {
            new.uris.remove(&wish.uri);
        }
        let old = self.ids().filter(|other| *other != id).collect();
        self.open.retain(|open| open.id == id);
        Some(Settled { old, met, unmet })
    }

    /// A listen is over: gives the wishes that were made with it, and when there may be another one.
    pub(super) fn ended(&mut self, id: u64, cause: Cause, now: Instant) -> Option<Ended> {
        let at = self.open.iter().position(|open| open.id == id)?;
        let over = self.open.remove(at);
        let made = |wish: &mut Wish| !over.acknowledged && over.uris.contains(&wish.uri);
        let unmet: Vec<Wish> = self.wishes.extract_if(.., made).collect();
        let held = over.acknowledged && now.saturating_duration_since(over.since) >= LAST_PAUSE;
        self.pause = match self.pause {
            pause if pause.is_zero() || held => FIRST_PAUSE,
            pause => (2 * pause).min(LAST_PAUSE),
        };
        self.rest = Some(now + self.pause);
        self.refused |= cause == Cause::NoMethod;
        Some(Ended { unmet, rest: now + self.pause })
    }

    /// The child is gone: gives the wishes that nobody answers now.
    pub(super) fn lose(&mut self) -> Vec<Wish> {
        std::mem::take(self).wishes
    }
}

/// What an acknowledgement settles.
#[derive(Debug)]
pub(super) struct Settled {
    /// The listens whose place it takes.
    pub(super) old: Vec<u64>,
    /// The wishes that it grants, and those that it does not.
    pub(super) met: Vec<Wish>,
    pub(super) unmet: Vec<Wish>,
}

/// A listen that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) unmet: Vec<Wish>,
    pub(super) rest: Instant,
}
