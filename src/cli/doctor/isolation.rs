//! `doctor --isolation A B`: the escape probes inside a sandbox of A's, against B while it lives.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rustix::io::FdFlags;

use super::report::{self, Body, Side};
use super::victims::Victims;
use crate::cli::args::Doctor;
use crate::cli::control::Control;
use crate::cli::failure::{DONE, FAILED, Failure};
use crate::cli::{call, rooms};
use crate::config;
use crate::config::tenant::{Limit, Network};
use crate::control::{StatusReply, TenantStatus};
use crate::names::Target;
use crate::paths::{Layout, Mode};
use crate::probes::{Account, Brief};
use crate::sandbox::cgroup::Bounds;

/// The version of the report's shape.
const FORMAT: u32 = 1;

/// Probes, compares, prints.
pub(super) fn run(args: &Doctor, inside: &Target, other: &Target) -> anyhow::Result<u8> {
    let mut control = Control::find(args.which)?;
    let before = control.status()?;
    if inside.tenant == other.tenant {
        return Err(Failure::usage("name two tenants: a tenant is not isolated from itself").into());
    }
    tenant(&before, inside)?;
    // Held to the end: while there is a session the tenants live.
    let sessions = [call::open(args.which, inside), call::open(args.which, other)];
    let status = control.status()?;
    let (a, b) = (tenant(&status, inside)?, tenant(&status, other)?);
    for (tenant, session) in [a, b].into_iter().zip(&sessions) {
        alive(tenant, session.as_ref().err())?;
    }
    let layout = layout(&status)?;
    let victims = Victims::new(layout.mode == Mode::System)?;
    let mut brief = victims.brief(&layout, &status, a, b);
    let bounded = status.supervisor.limits.starts_with("cgroup");
    limits(&mut brief, &layout, inside, bounded);
    let text = serde_json::to_string(&brief)?;
    let server = inside.server.as_ref().map(AsRef::as_ref);
    let reply = control.probe(&a.id, server, &text)?;
    let account: Account = serde_json::from_str(&reply.account)
        .context("the probes said something else than they should")?;
    let without = unconfined(&victims, &brief, &account);
    let probes = report::compare(&account, without.as_ref().ok());
    let counts = report::count(&probes);
    let body = Body {
        format: FORMAT,
        host: nix::unistd::gethostname()?.to_string_lossy().into_owned(),
        kernel: kernel(),
        tenantd: status.supervisor.version.clone(),
        time: jiff::Timestamp::now().to_string(),
        mode: status.supervisor.mode.clone(),
        inside: side(a, Some(reply.server)),
        other: side(b, other.server.as_ref().map(ToString::to_string)),
        uid: account.uid,
        gid: account.gid,
        layers_held: reply.held,
        layers_missing: reply.missing,
        no_comparison: without.err().map(|error| format!("with nothing: {error:#}")),
        counts,
        verdict: if counts.open == 0 { "isolated" } else { "NOT ISOLATED" },
        probes,
    };
    let page = if args.json { report::machine(&body)? } else { report::person(&body) };
    std::io::stdout().lock().write_all(page.as_bytes())?;
    drop(sessions);
    Ok(if counts.open == 0 { DONE } else { FAILED })
}

/// An admin without a grant can open no session; then somebody else must have one.
fn alive(tenant: &TenantStatus, refused: Option<&anyhow::Error>) -> Result<(), Failure> {
    let id = &tenant.id;
    match refused {
        Some(error) if tenant.mux_pid.is_none() => Err(Failure::unavailable(format!(
            "{id} must live to be probed, and has no session: {error:#} (let one of its users open one: \
             tenantd tools {id})"
        ))),
        _ => Ok(()),
    }
}

fn side(tenant: &TenantStatus, server: Option<String>) -> Side {
    Side { id: tenant.id.clone(), server, configuration: tenant.digest.clone() }
}

fn tenant<'a>(status: &'a StatusReply, target: &Target) -> Result<&'a TenantStatus, Failure> {
    let id = target.tenant.as_ref().map(ToString::to_string).unwrap_or_default();
    let found = status.tenants.iter().find(|tenant| tenant.id == id);
    found.ok_or_else(|| {
        Failure::new(crate::cli::failure::NO_PERMISSION, format!("no tenant {id} that you may see"))
    })
}

/// Of the supervisor that answered.
fn layout(status: &StatusReply) -> Result<Layout, Failure> {
    let it = &status.supervisor;
    let system = it.mode == Mode::System.as_str();
    let layout = rooms::layout(if system { Mode::System } else { Mode::User })?;
    let (config, state, log) = (it.config.clone(), it.state.clone(), it.log.clone());
    Ok(Layout { config: config.into(), state: state.into(), log: log.into(), ..layout })
}

/// What the tenant's file allows its servers; `bounded` where control groups are said to hold it.
fn limits(brief: &mut Brief, layout: &Layout, inside: &Target, bounded: bool) {
    let mut loaded = config::load(layout);
    let tenant = inside.tenant.as_ref().and_then(|id| loaded.tenants.remove(id)?.ok());
    let Some(tenant) = tenant else { return };
    let server = match &inside.server {
        Some(name) => tenant.server(name),
        None => tenant.default_server().or(tenant.servers.first()),
    };
    brief.processes_max = at(tenant.quota.processes);
    brief.open_files_max = at(tenant.quota.open_files);
    if bounded {
        let servers = Bounds::of(&tenant.quota).of_servers().processes;
        brief.groups.processes = servers.and_then(|most| u32::try_from(most).ok());
    } else {
        brief.memory_max = at(tenant.quota.memory);
    }
    if let Some(server) = server {
        brief.tmp_bytes = Some(server.sandbox.tmp);
        brief.data_exec = server.sandbox.data_exec;
        brief.host_network = server.sandbox.network == Network::Host;
    }
}

fn at<T>(limit: Limit<T>) -> Option<T> {
    match limit {
        Limit::At(most) => Some(most),
        Limit::Unlimited => None,
    }
}

fn kernel() -> String {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default()
    };
    format!("{} {}", read("ostype").trim(), read("osrelease").trim())
}

/// The same probes by the same user, without a sandbox.
fn unconfined(victims: &Victims, brief: &Brief, inside: &Account) -> anyhow::Result<Account> {
    if inside.uid == 0 {
        anyhow::bail!("the servers run as root, to whom without a sandbox everything is open");
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg("--role=probe").env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        command.uid(inside.uid).gid(inside.gid);
    }
    // One is left open on purpose, to see that such a one would be found.
    let left = rustix::io::dup(victims.descriptor())?;
    rustix::io::fcntl_setfd(&left, FdFlags::empty())?;
    let child = command.spawn();
    drop(left);
    let mut child = child.context("this program cannot be started as them")?;
    let fed = child.stdin.take().map(|mut stdin| stdin.write_all(&serde_json::to_vec(brief)?));
    let mut said = String::new();
    let heard = child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut said));
    child.wait()?;
    fed.transpose()?;
    heard.transpose()?;
    serde_json::from_str(&said).context("they said nothing that can be read")
}
