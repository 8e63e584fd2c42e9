//! Fingerprints of a tenant: of all that it means, and of what a running server was started with.
//!
//! BLAKE3 over JSON with sorted maps: equal meaning gives an equal digest, however it was written and
//! in whichever file. Pure.

use serde::Serialize;

use super::tenant::{Server, Share, SharedCapability, Tenant};

/// Fills the two digests in.
pub(super) fn stamp(tenant: &mut Tenant) {
    tenant.not_enforced.sort_unstable();
    // What this version does not enforce is not part of what the tenant means.
    let not_enforced = std::mem::take(&mut tenant.not_enforced);
    (tenant.digest, tenant.start_digest) = (String::new(), String::new());
    let whole = fingerprint(&*tenant);
    tenant.start_digest = fingerprint(&Started::of(tenant));
    tenant.digest = whole;
    tenant.not_enforced = not_enforced;
}

fn fingerprint(value: &impl Serialize) -> String {
    // Fails only for maps whose keys are not text and for what returns errors itself: none of ours.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    blake3::hash(&bytes).to_hex().to_string()
}

/// What a running server holds and cannot be told anew.
#[derive(Serialize)]
struct Started<'a> {
    name: &'a str,
    data: &'a Option<std::path::PathBuf>,
    features: &'a std::collections::BTreeMap<String, bool>,
    open_files: super::tenant::Limit<u32>,
    credentials: &'a [super::tenant::Credential],
    servers: Vec<StartedServer<'a>>,
}

#[derive(Serialize)]
struct StartedServer<'a> {
    name: &'a crate::names::ServerName,
    command: &'a std::path::Path,
    args: &'a [String],
    env: &'a std::collections::BTreeMap<String, String>,
    share: Share,
    // Declared to the server in its handshake.
    shared_capabilities: &'a [SharedCapability],
    sha256: &'a Option<String>,
    sandbox: &'a super::tenant::Sandbox,
    needs: &'a super::tenant::Needs,
}

impl<'a> Started<'a> {
    fn of(tenant: &'a Tenant) -> Self {
        Self {
            name: &tenant.name,
            data: &tenant.data,
            features: &tenant.features,
            open_files: tenant.quota.open_files,
            credentials: &tenant.credentials,
            servers: tenant.servers.iter().map(StartedServer::of).collect(),
        }
    }
}

impl<'a> StartedServer<'a> {
    fn of(server: &'a Server) -> Self {
        Self {
            name: &server.name,
            command: &server.command,
            args: &server.args,
            env: &server.env,
            share: server.share,
            shared_capabilities: &server.shared_capabilities,
            sha256: &server.sha256,
            sandbox: &server.sandbox,
            needs: &server.needs,
        }
    }
}
