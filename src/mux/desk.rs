//! An exchange, the time, and what its ends were sent: what its tests and its fuzz targets have in common.

use std::collections::BTreeMap;
use std::time::Instant;

use super::exchange::Exchange;
use super::outbox::{Act, ChildId, End};
use crate::config::tenant::{Limit, Share, SharedCapability};
use crate::names::{ServerName, TenantId};
use crate::wire::{self, Holder, MuxPlan, ServerPlan};

/// An exchange and what its ends have heard.
pub(super) struct Desk {
    pub(super) exchange: Exchange,
    pub(super) now: Instant,
    /// Children that were asked for and have not been started.
    pub(super) asked: Vec<ChildId>,
    acts: Vec<Act>,
}

/// A tenant with one server, and short messages.
pub(super) fn plan(share: Share) -> MuxPlan {
    MuxPlan {
        wire: wire::VERSION,
        tenant: TenantId::parse("acme").expect("a name"),
        name: "Acme".to_owned(),
        start_digest: String::new(),
        digest: String::new(),
        servers: vec![ServerPlan {
            name: ServerName::main(),
            share,
            max_children: 8,
            always: false,
            idle_timeout_ms: Limit::At(600_000),
            request_timeout_ms: Limit::At(600_000),
            start_timeout_ms: 9_000,
            shared_capabilities: vec![SharedCapability::Sampling],
            held: None,
        }],
        features: BTreeMap::new(),
        message_size: Limit::At(4096),
        identity: None,
        supervisor_uid: 0,
        drain_ms: 5_000,
        orphan_timeout_ms: 30_000,
    }
}

/// The members that a modern client puts into the `_meta` of each request.
pub(super) const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"m","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}"#;

impl Desk {
    pub(super) fn of(plan: MuxPlan) -> Self {
        let now = Instant::now();
        Self {
            exchange: Exchange::new(plan, Default::default(), [7; 32], now),
            now,
            asked: Vec::new(),
            acts: Vec::new(),
        }
    }

    pub(super) fn holder(&self, uid: u32) -> Holder {
        let user = format!("u{uid}");
        Holder { uid, gid: uid, groups: Vec::new(), user, permissions: Vec::new() }
    }

    /// The bytes that an end was sent since it was last asked.
    pub(super) fn sent(&mut self, end: End) -> Vec<u8> {
        let Some(queue) = self.exchange.out.queue(end) else { return Vec::new() };
        let bytes = queue.front().to_vec();
        queue.advance(bytes.len());
        bytes
    }

    pub(super) fn acts(&mut self) -> Vec<Act> {
        while let Some(act) = self.exchange.out.next_act() {
            if let Act::Ask { child, .. } = &act {
                self.asked.push(*child);
            }
            self.acts.push(act);
        }
        std::mem::take(&mut self.acts)
    }
}
