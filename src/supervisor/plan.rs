//! What a mux is told of its tenant: the part of the configuration that it needs, and no more.

use std::time::Duration;

use crate::config::tenant::{Limit, Server, Settings, Start, Tenant};
use crate::wire::{self, MuxPlan, ServerPlan};

/// The plan of `tenant`.
pub(super) fn of(tenant: &Tenant, settings: &Settings, supervisor_uid: u32) -> MuxPlan {
    MuxPlan {
        wire: wire::VERSION,
        tenant: tenant.id.clone(),
        name: tenant.name.clone(),
        digest: tenant.digest.clone(),
        start_digest: tenant.start_digest.clone(),
        servers: tenant.servers.iter().map(server).collect(),
        features: tenant.features.clone(),
        message_size: tenant.quota.message_size,
        supervisor_uid,
        drain_ms: millis(settings.drain),
        orphan_timeout_ms: millis(settings.orphan_timeout),
    }
}

fn server(server: &Server) -> ServerPlan {
    ServerPlan {
        name: server.name.clone(),
        share: server.share,
        max_children: server.max_children,
        always: server.start == Start::Always,
        idle_timeout_ms: limit(server.idle_timeout),
        request_timeout_ms: limit(server.request_timeout),
        start_timeout_ms: millis(server.start_timeout),
        shared_capabilities: server.shared_capabilities.clone(),
        held: None,
    }
}

fn limit(limit: Limit<Duration>) -> Limit<u64> {
    match limit {
        Limit::At(duration) => Limit::At(millis(duration)),
        Limit::Unlimited => Limit::Unlimited,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
