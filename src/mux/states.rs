//! To whom a modern server gave its `requestState`: a server that several principals share sees all of them
//! as one client, and could not tell that one brings what another was given (2026-07-28,
//! basic/patterns/mrtr#security). The bytes are never touched: a digest is remembered.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashSet;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::again::input_of;
use super::child::Pending;
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::request::Request;
use super::session::Whose;
use crate::mcp::envelope::{REQUEST_STATE, may_have, members, text};
use crate::mcp::era::Era;
use crate::mcp::error::{Code, Failure};
use crate::mcp::method::Method;
use crate::names::SessionId;

/// How many states of one principal are remembered; its oldest are forgotten first.
pub(super) const STATES: usize = 1024;
/// Of how many principals of one server.
pub(super) const PRINCIPALS: usize = 256;

type Digest = [u8; blake3::OUT_LEN];

/// The states of one principal.
#[derive(Debug, Default)]
struct Given {
    known: FxHashSet<Digest>,
    by_age: VecDeque<Digest>,
}

/// The states that a slot's servers gave away, by principal.
#[derive(Debug, Default)]
pub(super) struct States(BTreeMap<u32, Given>);

impl States {
    /// A state was given to somebody.
    pub(super) fn give(&mut self, state: &RawValue, uid: u32) {
        if self.0.len() >= PRINCIPALS && !self.0.contains_key(&uid) {
            // Whoever has fewest has least to lose, and starts its call over.
            let fewest = self.0.iter().min_by_key(|(_, given)| given.known.len());
            if let Some(fewest) = fewest.map(|(uid, _)| *uid) {
                self.0.remove(&fewest);
            }
        }
        let given = self.0.entry(uid).or_default();
        let digest = digest(state);
        if given.known.insert(digest) {
            given.by_age.push_back(digest);
        }
        if given.by_age.len() > STATES
            && let Some(oldest) = given.by_age.pop_front()
        {
            given.known.remove(&oldest);
        }
    }

    /// How many there are of each principal.
    #[cfg(any(test, fuzzing))]
    pub(super) fn lengths(&self) -> impl ExactSizeIterator<Item = usize> {
        self.0.values().map(|given| given.known.len().max(given.by_age.len()))
    }

    /// Whether a state was given to somebody.
    pub(super) fn was_given(&self, state: &RawValue, uid: u32) -> bool {
        self.0.get(&uid).is_some_and(|given| given.known.contains(&digest(state)))
    }
}

/// The digest of what a state says: a client may write the same text with other escapes.
fn digest(state: &RawValue) -> Digest {
    match text(state) {
        Some(said) => blake3::hash(said.as_bytes()),
        None => blake3::hash(state.get().as_bytes()),
    }
    .into()
}

impl Exchange {
    /// Remembers to whom a result gives a state.
    pub(super) fn learn_state(
        &mut self,
        child: ChildId,
        session: SessionId,
        pending: &Pending,
        result: &RawValue,
    ) {
        #[derive(Deserialize)]
        struct Typed<'a> {
            #[serde(borrow, rename = "resultType")]
            kind: &'a RawValue,
        }
        // Also for a legacy client, whose request goes there again with it.
        let asks = pending.method.may_need_input() && may_have(result, &REQUEST_STATE);
        if !asks || !self.is_shared_modern(child) {
            return;
        }
        let typed = members::<Typed<'_>>(result).ok().and_then(|typed| text(typed.kind));
        if typed.is_none_or(|kind| kind != "input_required") {
            return;
        }
        let Ok(Some(input)) = input_of(Some(result)) else { return };
        let uid = self.sessions.get(&session).map(|session| session.holder.uid);
        if let (Some(state), Some(uid)) = (input.request_state, uid)
            && let Some(slot) = self.children.get(&child).and_then(|c| self.slots.get_mut(&c.slot))
        {
            slot.states.give(state, uid);
        }
    }

    /// Why a request to a modern server may not bring the state that it brings, if it may not; of whichever
    /// era its client is, the server reads it alike.
    pub(super) fn foreign_state(
        &self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
    ) -> Option<Failure> {
        if !Method::of(request.method).may_need_input() {
            return None;
        }
        // Read here: of a legacy request without `_meta` nothing else was.
        let brought = match input_of(request.envelope.params) {
            Ok(input) => input?.request_state.filter(|state| state.get() != "null")?,
            Err(malformed) => return Some(super::dress::bad(malformed)),
        };
        if !self.is_shared_modern(child) {
            return None;
        }
        let uid = self.sessions.get(&session)?.holder.uid;
        let slot = self.children.get(&child).and_then(|child| self.slots.get(&child.slot))?;
        (!slot.states.was_given(brought, uid)).then(|| {
            Failure::new(
                Code::Denied,
                "request-state",
                "this requestState was not given to you, or too long ago; start the call over without it",
            )
        })
    }

    /// Whether a child is modern and several principals can use it.
    fn is_shared_modern(&self, child: ChildId) -> bool {
        self.children
            .get(&child)
            .is_some_and(|it| it.era == Some(Era::Modern) && it.slot.whose == Whose::Tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn a_state_is_known_however_it_is_escaped_and_to_nobody_else() {
        let mut states = States::default();
        states.give(&raw(r#""\u00e9\/""#), 1);
        assert!(states.was_given(&raw("\"é/\""), 1));
        assert!(!states.was_given(&raw("\"é/\""), 2));
        assert!(!states.was_given(&raw("\"é\""), 1));
        states.give(&raw("\"é/\""), 2);
        assert!(states.was_given(&raw("\"é/\""), 1), "given twice, it is of both");
    }

    #[test]
    fn many_states_of_one_principal_cost_no_other_one_its_own() {
        let mut states = States::default();
        states.give(&raw("\"mine\""), 1);
        for n in 0..2 * STATES {
            states.give(&raw(&n.to_string()), 2);
        }
        assert!(states.was_given(&raw("\"mine\""), 1));
        assert!(!states.was_given(&raw("0"), 2));
        assert_eq!((states.0[&2].known.len(), states.0[&2].by_age.len()), (STATES, STATES));
        // Whoever has fewest goes: not who has many.
        let last = raw(&(2 * STATES - 1).to_string());
        for uid in 3..3 + 2 * u32::try_from(PRINCIPALS).expect("few") {
            states.give(&raw("1"), uid);
        }
        assert_eq!(states.0.len(), PRINCIPALS);
        assert!(states.was_given(&last, 2));
        states.give(&raw("\"one more\""), 2);
        assert_eq!(states.0.len(), PRINCIPALS, "who is known already takes nobody's place");
    }

    #[test]
    fn a_state_that_is_given_again_and_again_is_one() {
        let mut states = States::default();
        for _ in 0..2 * STATES {
            states.give(&raw("1"), 1);
        }
        states.give(&raw("2"), 1);
        assert!(states.was_given(&raw("1"), 1));
        assert_eq!(states.0[&1].by_age.len(), 2);
    }
}
