//! What a mux is told of its tenant: the part of the configuration that it needs, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::tenant::{Limit, Server, Settings, Share, Start, Tenant};
use crate::names::{ServerName, TenantId};
use crate::policy::{self, Moment};
use crate::wire::{self, Ailment, MuxPlan, ServerPlan};

/// The plan of `tenant` as it holds at this moment.
pub(super) fn of(
    tenant: &Tenant,
    settings: &Settings,
    supervisor_uid: u32,
    moment: Moment<'_>,
) -> MuxPlan {
    let server = |server| ServerPlan {
        held: policy::runs(tenant, server, moment).err().map(|reason| reason.ailment()),
        ..self::server(server)
    };
    MuxPlan {
        name: tenant.name.clone(),
        digest: tenant.digest.clone(),
        start_digest: tenant.start_digest.clone(),
        servers: tenant.servers.iter().map(server).collect(),
        features: tenant.features.clone(),
        message_size: tenant.quota.message_size,
        ..empty(tenant.id.clone(), settings, supervisor_uid)
    }
}

/// The plan of a tenant whose file was never good: the servers that its sessions name, each held.
pub(super) fn of_broken(
    tenant: &TenantId,
    servers: BTreeSet<ServerName>,
    ailment: &Ailment,
    settings: &Settings,
    supervisor_uid: u32,
) -> MuxPlan {
    let server = |name| ServerPlan {
        name,
        share: Share::Tenant,
        max_children: 1,
        always: false,
        idle_timeout_ms: Limit::Unlimited,
        request_timeout_ms: Limit::Unlimited,
        start_timeout_ms: 0,
        shared_capabilities: Vec::new(),
        held: Some(ailment.clone()),
    };
    let servers = servers.into_iter().map(server).collect();
    MuxPlan { servers, ..empty(tenant.clone(), settings, supervisor_uid) }
}

fn empty(tenant: TenantId, settings: &Settings, supervisor_uid: u32) -> MuxPlan {
    MuxPlan {
        wire: wire::VERSION,
        name: tenant.to_string(),
        tenant,
        digest: String::new(),
        start_digest: String::new(),
        servers: Vec::new(),
        features: BTreeMap::new(),
        message_size: Limit::Unlimited,
        identity: None,
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
