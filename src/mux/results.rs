//! Giving a modern server's result again, to whom its server allows it: what is left of its time in the
//! place of what it had, and in the words of the client's era.

use std::time::Instant;

use serde_json::value::RawValue;

use super::cache::{Principal, Wanted, ttl_of};
use super::child::Slot;
use super::cross::upward;
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::request::Request;
use crate::mcp::envelope::{Envelope, Params};
use crate::mcp::era::{self, Era};
use crate::mcp::splice::Splice;
use crate::names::SessionId;

impl Exchange {
    fn slot_of(&mut self, child: ChildId) -> Option<&mut Slot> {
        self.slots.get_mut(&self.children.get(&child)?.slot)
    }

    /// A result passes that may be given again.
    pub(super) fn keep_result(
        &mut self,
        child: ChildId,
        session: SessionId,
        wanted: Wanted,
        result: &RawValue,
    ) {
        let now = self.now;
        let Some(session) = self.sessions.get(&session) else { return };
        let asker = Principal::of(&session.holder);
        if let Some(slot) = self.slot_of(child) {
            slot.cache.put(wanted, asker, result, now);
        }
    }

    /// A server says that something has changed, to whomever: what was kept of it is old.
    pub(super) fn forget_results(&mut self, child: ChildId, method: &str, params: &Params<'_>) {
        if let Some(slot) = self.slot_of(child) {
            slot.cache.heard(method, params);
        }
    }

    /// Answers a request from what its modern server allows to be given again; says whether it did, and if
    /// not, whether its answer may be kept.
    pub(super) fn answer_again(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) -> Result<(), Option<Wanted>> {
        let asker = self.sessions.get(&session).ok_or(None)?;
        let asker = Principal::of(&asker.holder);
        let slot = self.slot_of(child).ok_or(None)?;
        let wanted = slot.cache.wanted(request).ok_or(None)?;
        let Some((result, left)) = slot.cache.get(&wanted, asker, now) else {
            return Err(Some(wanted));
        };
        let line = era::result(request.raw_id(), result.get().as_bytes());
        let Ok(Envelope { result: Some(result), .. }) = Envelope::read(&line) else {
            return Err(Some(wanted));
        };
        let mut splice = Splice::of(&line);
        if request.era() == Era::Legacy {
            upward::strip_result(&mut splice, result);
        } else if let Some(ttl) = ttl_of(result) {
            splice.replace(ttl, left.to_string().into_bytes());
        }
        self.count_call(session);
        self.send(session, |out| splice.write(out));
        Ok(())
    }
}
