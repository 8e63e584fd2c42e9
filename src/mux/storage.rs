//! A tenant that stores all it may: which of its calls still pass.
//!
//! Reading must go on, and so must freeing space; nobody but its server knows which call does which. What
//! its server's annotations call read-only passes. A tool that they expressly call destructive may delete,
//! but may as well overwrite with more: it passes until the tenant has been seen to grow after it, and then
//! waits as every other call does, [`HELD`] long or until there is room again. So little can be written that
//! way, and a deletion is never refused for its name.
//!
//! ```text
//!   room ---- full: true ----> full: read-only passes; destructive passes, PASSES between two looks
//!    ^                          |  |
//!    +------- full: false ------+  +-- a look finds more than the one before: what passed since waits
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::child::Kind;
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::request::Request;
use crate::mcp::envelope::{members, text};
use crate::mcp::era::{self, Era};
use crate::mcp::error::{Code, Failure};
use crate::mcp::method::Method;
use crate::names::{ServerName, SessionId};

/// How many calls of destructive tools pass between two looks: what they write is bounded by it.
pub(super) const PASSES: usize = 16;
/// How long a tool waits that the tenant was seen to grow after.
const HELD: Duration = Duration::from_secs(5 * 60);
/// How many such tools are remembered; while there are so many, no other destructive one passes.
pub(super) const GROWERS: usize = 1024;
/// When to come back after too many calls between two looks, milliseconds: a full tenant is looked at
/// every second or so.
const NEXT_LOOK_MS: u64 = 2_000;

/// A tool of a server.
type Tool = (ServerName, Box<str>);

/// What the last look found.
#[derive(Debug, Default)]
pub(super) struct Storage {
    full: Option<Full>,
}

#[derive(Debug, Default)]
struct Full {
    used: u64,
    limit: u64,
    /// Calls of destructive tools since the last look.
    passed: usize,
    /// Their tools, and those of the look before: what they write may be seen late.
    lately: [BTreeSet<Tool>; 2],
    /// Tools that the tenant grew after, with when they may try again.
    growers: FxHashMap<Tool, Instant>,
}

impl Full {
    /// Whether a destructive tool may pass now; milliseconds to wait where it may later.
    fn admit(&mut self, tool: Tool, now: Instant) -> Result<(), Option<u64>> {
        if let Some(until) = self.growers.get(&tool).filter(|until| **until > now) {
            let wait = until.saturating_duration_since(now).as_millis();
            return Err(u64::try_from(wait).ok());
        }
        if self.passed >= PASSES || self.growers.len() >= GROWERS {
            return Err(Some(NEXT_LOOK_MS));
        }
        self.passed += 1;
        self.lately[0].insert(tool);
        Ok(())
    }

    /// A look found this much. Where that is more, nobody knows which of the calls it was.
    fn looked(&mut self, used: u64, limit: u64, now: Instant) {
        self.growers.retain(|_, until| *until > now);
        if used > self.used {
            let growers = self.lately.iter().flatten().cloned().map(|tool| (tool, now + HELD));
            self.growers.extend(growers);
        }
        let [new, old] = &mut self.lately;
        *old = std::mem::take(new);
        (self.used, self.limit, self.passed) = (used, limit, 0);
    }
}

impl Exchange {
    /// A look at what the tenant stores. While it is full, every one is told here.
    pub(super) fn storage(&mut self, used: u64, limit: u64, full: bool, now: Instant) {
        self.now = now;
        if !full {
            self.storage.full = None;
            return;
        }
        match &mut self.storage.full {
            Some(full) => full.looked(used, limit, now),
            None => self.storage.full = Some(Full { used, limit, ..Full::default() }),
        }
        let serving = self.children.values().filter(|child| child.serves());
        let ids: Vec<_> = serving.map(|child| child.id).collect();
        ids.into_iter().for_each(|id| self.learn_effects(id, now));
    }

    /// Why a request may not pass, where its tenant has no room for what it might store.
    pub(super) fn no_room(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) -> Option<Failure> {
        self.storage.full.as_ref()?;
        let is_call = Method::of(request.method) == Method::Call;
        if !is_call {
            return None;
        }
        let key = &self.sessions.get(&session)?.slot;
        let slot = self.slots.get(key)?;
        let named = tool(request.envelope.params).map(|name| (slot.hints.of(&name), name));
        let (server, known) = (key.server.clone(), slot.hints.is_known());
        let full = self.storage.full.as_mut()?;
        let retry_after_ms = match named {
            Some((hint, _)) if hint.reads => return None,
            Some((hint, name)) if hint.destroys => match full.admit((server, name), now) {
                Ok(()) => return None,
                Err(wait) => wait,
            },
            // Its server is being asked.
            _ if !known => Some(NEXT_LOOK_MS),
            _ => None,
        };
        let (used, limit) = (full.used, full.limit);
        self.learn_effects(child, now);
        let message = format!(
            "{} stores {used} of {limit} bytes (quota.storage); tools that read or delete still work: \
             free some space",
            self.plan.tenant
        );
        Some(Failure { retry_after_ms, ..Failure::new(Code::Full, "storage", message) })
    }

    /// Where no client has asked a server for its tools yet, we do, once: else nobody could read.
    pub(super) fn learn_effects(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        let known = self.slots.get(&child.slot).is_none_or(|slot| slot.hints.is_known());
        if self.storage.full.is_none() || known || child.asked_for_tools {
            return;
        }
        child.asked_for_tools = true;
        let ours = child.take_id();
        let line = match child.era {
            Some(Era::Modern) => era::modern_request(ours, "tools/list"),
            _ => era::request(ours, "tools/list", &serde_json::json!({})),
        };
        self.send_own(id, ours, Kind::Effects, &line, now);
        self.forget_in_time(id, ours);
    }
}

fn tool(params: Option<&RawValue>) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        name: &'a RawValue,
    }
    text(members::<Named<'_>>(params?).ok()?.name).map(Into::into)
}
