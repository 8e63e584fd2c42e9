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

mod abilities;
mod again;
mod ailing;
mod alone;
mod asks;
mod cache;
mod cell;
mod child;
mod children;
mod client;
mod configure;
mod confine;
mod cross;
#[cfg(any(test, fuzzing))]
mod desk;
mod dress;
mod driver;
mod exchange;
mod finish;
mod flight;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod hints;
mod listens;
mod lists;
mod log;
mod memory;
mod notices;
mod outbox;
mod parting;
mod pipe;
mod placard;
mod replies;
mod request;
mod results;
mod server;
mod session;
mod sessions;
mod start;
mod states;
mod status;
mod storage;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
mod turns;
mod waiting;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use tokio::task::{LocalSet, spawn_local};

use crate::post::{self, PostError};
use crate::sandbox::cgroup::{Rank, stand_back};
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
    stand_back(Rank::Mux);
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
    // Before anything is opened, or read that is not the supervisor's.
    if let Some(identity) = &plan.identity {
        let none = rustix::thread::CapabilitySet::empty();
        sys::become_user(identity.uid, identity.gid, &identity.groups, none)?;
    }
    let entropy = entropy()?;
    // Without Landlock the filter is the only wall, and it is there in any case.
    let fileless = confine::from_files()?;
    parting::start()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(plan, entropy, listener, log, memory, fileless))?;
    Ok(())
}

/// Random bytes of the kernel's: from its pool, which is there since boot (getrandom(2)).
fn entropy() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    // Up to 256 bytes are never given in part.
    if got == bytes.len() { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

async fn serve(
    plan: MuxPlan,
    entropy: [u8; 32],
    listener: OwnedFd,
    log: OwnedFd,
    memory: OwnedFd,
    fileless: confine::Fileless,
) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&listener, true)?;
    confine::to_its_descriptors(&fileless)?;
    let listener = sys::watch(listener)?;
    let driver = driver::Driver::new(plan, entropy, log.into(), memory.into());
    spawn_local(driver.clone().keep_time());
    spawn_local(driver.clone().serve_cell(listener));
    spawn_local(driver.clone().leave_if_unused());
    driver.over.notified().await;
    Ok(())
}
