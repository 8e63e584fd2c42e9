//! The mux: one process per tenant, many client sessions on the tenant's servers.
//!
//! Bytes in, bytes out. The `exchange` decides, pure; the `driver` reads and writes; the `cell` is the
//! line to the supervisor. This process starts nothing, opens nothing and resolves nothing: every
//! descriptor was given to it, and nothing of another tenant ever was.
//!
//! ```text
//!   client --stdin--> sessions --line--> exchange --bytes--> children --stdin--> server
//!   client <-stdout-- driver  <--bytes-- exchange <--line--- children <-stdout-- server
//!                                        |      ^
//!                                   acts v      | events
//!                                          cell <====> supervisor
//! ```

mod ailing;
mod alone;
mod asks;
mod cell;
mod child;
mod children;
mod client;
mod configure;
mod cross;
#[cfg(any(test, fuzzing))]
mod desk;
mod dress;
mod driver;
mod exchange;
mod finish;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod listens;
mod log;
mod memory;
mod outbox;
mod parting;
mod pipe;
mod placard;
mod server;
mod session;
mod sessions;
mod start;
mod status;
#[cfg(test)]
mod tests;
mod timers;
mod waiting;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use tokio::task::{LocalSet, spawn_local};

use crate::post::{self, PostError};
use crate::sys;
use crate::wire::{self, Birth, MuxPlan};

/// The role's entry.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<(), PostError> {
    // It was started through a descriptor, whose number would be its name.
    nix::sys::prctl::set_name(c"tenantd-mux").map_err(std::io::Error::from)?;
    sys::become_undumpable()?;
    nix::sys::prctl::set_no_new_privs().map_err(std::io::Error::from)?;
    let (birth, descriptors) = post::birth()?;
    if birth != Birth::Mux {
        return Err(PostError::Descriptors(descriptors.len()));
    }
    let [plan, listener, log, memory] = post::exactly(descriptors)?;
    let plan: MuxPlan = post::unseal(plan)?;
    if plan.wire != wire::VERSION {
        return Err(PostError::Descriptors(0));
    }
    parting::start()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(plan, listener, log, memory))?;
    Ok(())
}

async fn serve(
    plan: MuxPlan,
    listener: OwnedFd,
    log: OwnedFd,
    memory: OwnedFd,
) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&listener, true)?;
    let listener = sys::watch(listener)?;
    let driver = driver::Driver::new(plan, log.into(), memory.into());
    spawn_local(driver.clone().keep_time());
    spawn_local(driver.clone().serve_cell(listener));
    spawn_local(driver.clone().leave_if_unused());
    driver.over.notified().await;
    Ok(())
}
