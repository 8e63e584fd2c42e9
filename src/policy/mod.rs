//! Decides, purely: who may open a session on what, at what moment. Never acts, reads no file, has no
//! clock: what it must know is handed in.
//!
//! The order of [`admit`] is the order of what a stranger may learn: that a tenant exists at all comes
//! only after a grant. A reason that can be cured lets the session wait ([`Verdict::Wait`]), and that as
//! well only after a grant; every other is final.

pub mod grant;
pub mod reason;
pub mod secret;

pub use grant::{Access, Asker};
pub use reason::Reason;

use crate::config::tenant::{Layer, Limit, Server, Status, Tenant};
use crate::names::{ServerName, Target, TenantId};

/// Sessions that may wait for a file that was never good: the default of `quota.sessions`.
const BROKEN_SESSIONS: u32 = 32;

/// What is true at the moment of the decision.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Seconds since the epoch.
    pub now: i64,
    /// Sessions that the tenant has open.
    pub open_sessions: u32,
    /// The sandbox layers that hold on this machine.
    pub layers: &'a [Layer],
    /// Whether the asker would rather be refused than wait.
    pub strict: bool,
}

/// What a session is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The server that it is bound to.
    pub server: ServerName,
    /// The permissions that it has.
    pub permissions: Vec<String>,
}

/// The decision.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Open it.
    Admit(Terms),
    /// Open it, to wait: the reason is curable, and the session is told of it and of its cure.
    Wait(Terms, Reason),
    /// Do not: the reason is final, or the asker is strict.
    Refuse(Reason),
}

/// Which tenant a target means: the one it names, else the only one that the asker may use.
///
/// # Errors
/// [`Reason::NoTenant`] and [`Reason::ChooseTenant`].
pub fn choose<'a>(
    target: &Target,
    tenants: impl Iterator<Item = &'a Tenant>,
    asker: &Asker<'_>,
) -> Result<TenantId, Reason> {
    if let Some(tenant) = &target.tenant {
        return Ok(tenant.clone());
    }
    let mut usable = tenants.filter(|tenant| asker.access(tenant).is_some());
    match (usable.next(), usable.next()) {
        (None, _) => Err(Reason::NoTenant),
        (Some(only), None) => Ok(only.id.clone()),
        (Some(first), Some(second)) => {
            let rest = [first, second].into_iter().chain(usable);
            Err(Reason::ChooseTenant(rest.map(|tenant| tenant.id.clone()).collect()))
        }
    }
}

/// Whether a session opens. `id` is the tenant as it was asked for, `tenant` what there is of it.
pub fn admit(
    id: &TenantId,
    server: Option<&ServerName>,
    tenant: Option<&Tenant>,
    asker: &Asker<'_>,
    moment: Moment<'_>,
) -> Verdict {
    // One path for "no such tenant" and "no grant": neither text nor code nor order tells which.
    let found = tenant.and_then(|tenant| asker.access(tenant).map(|access| (tenant, access)));
    let Some((tenant, access)) = found else {
        return Verdict::Refuse(Reason::UnknownTenant(id.clone()));
    };
    let server = match bind(tenant, server, &access) {
        Ok(server) => server,
        Err(reason) => return Verdict::Refuse(reason),
    };
    let terms = Terms { server: server.name.clone(), permissions: access.permissions };
    let most = tenant.quota.sessions;
    conclude(id, terms, runs(tenant, server, moment), most, moment)
}

/// Whether a session opens on a tenant whose file was never good. No grant can be read from it: it
/// waits for who needs none, the owner; an admin hears why, and nobody else that it is there. `broken` is
/// [`Reason::Broken`].
pub fn admit_broken(
    id: &TenantId,
    server: Option<&ServerName>,
    broken: Reason,
    admin: bool,
    asker: &Asker<'_>,
    moment: Moment<'_>,
) -> Verdict {
    if !asker.owner {
        return Verdict::Refuse(if admin { broken } else { Reason::UnknownTenant(id.clone()) });
    }
    let server = server.cloned().unwrap_or_else(ServerName::main);
    let terms = Terms { server, permissions: vec![grant::ADMIN.to_owned()] };
    conclude(id, terms, Err(broken), Limit::At(BROKEN_SESSIONS), moment)
}

/// The last steps: a strict asker hears at once what another waits for; who waits is counted as well.
fn conclude(
    id: &TenantId,
    terms: Terms,
    runs: Result<(), Reason>,
    most: Limit<u32>,
    moment: Moment<'_>,
) -> Verdict {
    let room = within_quota(id, most, moment.open_sessions);
    match (runs, room) {
        (Err(reason), _) if moment.strict || !reason.is_curable() => Verdict::Refuse(reason),
        (_, Err(full)) => Verdict::Refuse(full),
        (Err(reason), Ok(())) => Verdict::Wait(terms, reason),
        (Ok(()), Ok(())) => Verdict::Admit(terms),
    }
}

/// The server that a session is bound to.
fn bind<'a>(
    tenant: &'a Tenant,
    wanted: Option<&ServerName>,
    access: &Access,
) -> Result<&'a Server, Reason> {
    let allowed = |server: &&Server| access.reaches(&server.name);
    let choices = || tenant.servers.iter().filter(allowed).map(|s| s.name.clone()).collect();
    if let Some(wanted) = wanted {
        return tenant.server(wanted).filter(allowed).ok_or_else(|| Reason::UnknownServer {
            tenant: tenant.id.clone(),
            server: wanted.clone(),
            choices: choices(),
        });
    }
    if let Some(server) = tenant.default_server().filter(allowed) {
        return Ok(server);
    }
    let mut usable = tenant.servers.iter().filter(allowed);
    match (usable.next(), usable.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Reason::ChooseServer { tenant: tenant.id.clone(), choices: choices() }),
    }
}

/// Whether a server of the tenant may run at this moment.
///
/// # Errors
/// [`Reason::Suspended`], [`Reason::TrialOver`] and [`Reason::NotIsolated`].
pub fn runs(tenant: &Tenant, server: &Server, moment: Moment<'_>) -> Result<(), Reason> {
    served(tenant, moment.now)?;
    isolated(tenant, server, moment)
}

/// Whether the tenant's status lets it be served at `now`.
///
/// # Errors
/// [`Reason::Suspended`] and [`Reason::TrialOver`].
pub fn served(tenant: &Tenant, now: i64) -> Result<(), Reason> {
    match tenant.status {
        Status::Active => Ok(()),
        Status::Suspended => Err(Reason::Suspended(tenant.id.clone())),
        Status::Trial { until } if now < until => Ok(()),
        Status::Trial { .. } => Err(Reason::TrialOver(tenant.id.clone())),
    }
}

fn isolated(tenant: &Tenant, server: &Server, moment: Moment<'_>) -> Result<(), Reason> {
    let missing = missing_layers(server, moment.layers);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Reason::NotIsolated { tenant: tenant.id.clone(), missing })
}

/// The layers that a server requires and the machine lacks.
pub fn missing_layers(server: &Server, held: &[Layer]) -> Vec<Layer> {
    server.sandbox.require.iter().copied().filter(|layer| !held.contains(layer)).collect()
}

fn within_quota(id: &TenantId, most: Limit<u32>, open: u32) -> Result<(), Reason> {
    if most.allows(open.saturating_add(1)) {
        return Ok(());
    }
    Err(Reason::SessionQuota { tenant: id.clone(), most: most.or(open) })
}

#[cfg(test)]
mod tests;
