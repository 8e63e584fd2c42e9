//! The processes behind the demo, by the ids that `status` shows.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::admin::{ended, open_process};
use super::house::House;

/// How long the kernel may take to end a killed process.
const DEAD_WITHIN: Duration = Duration::from_secs(10);

/// The server that this keeper keeps, below pid 1 of its sandbox; the keeper itself where the kernel does
/// not tell (proc(5): `children` needs CONFIG_PROC_CHILDREN).
pub(super) fn server_of(keeper: i64) -> i64 {
    line_of(keeper).last().copied().unwrap_or(keeper)
}

/// A keeper's first child, that one's first child, and so on: pid 1 of the sandbox, and the server.
fn line_of(keeper: i64) -> Vec<i64> {
    let child = |pid: &i64| -> Option<i64> {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    };
    std::iter::successors(child(&keeper), child).collect()
}

/// Kills a process and sees it dead.
pub(super) fn kill_and_wait(pid: i64) -> anyhow::Result<()> {
    let process = open_process(pid).with_context(|| format!("process {pid} is not there"))?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).context("cannot kill it")?;
    if ended(&process, DEAD_WITHIN)? { Ok(()) } else { bail!("process {pid} does not die") }
}

/// Every process that the supervisor started, by name.
pub(super) fn processes(house: &House) -> anyhow::Result<Vec<(String, OwnedFd)>> {
    let mut all = Vec::new();
    for tenant in house.status()?.tenants {
        let keepers = tenant.servers.iter().flat_map(|server| &server.children);
        let keepers: Vec<i64> = keepers.filter_map(|child| child.pid).collect();
        let servers = keepers.iter().flat_map(|keeper| line_of(*keeper));
        let servers = servers.map(|pid| ("server", pid));
        let roles = tenant.mux_pid.into_iter().map(|pid| ("mux", pid));
        let keepers = keepers.iter().map(|pid| ("keeper", *pid));
        for (role, pid) in roles.chain(keepers).chain(servers) {
            if let Some(process) = open_process(pid) {
                all.push((format!("{}'s {role} ({pid})", tenant.id), process));
            }
        }
    }
    Ok(all)
}
