//! Egress: the one way out for a tenant's servers whose network is an allowlist.
//!
//! One process for each tenant that has such a server. A sandbox has a network of its own in which
//! nothing is but listening sockets; the stage hands them to this process, which knows for each the one
//! destination that it may dial, or reads from a CONNECT request where its program wants to go.
//!
//! ```text
//! [sandbox: program --127.64.0.N:port--> listener]===accept===> egress --resolve, judge, dial--> host
//!                   --127.0.0.1:3128--> proxy ]===accept===^
//! ```
//!
//! It passes bytes on and reads none of them, except where it puts a credential into requests ([`inject`]);
//! it writes one line for each connection. What a server may
//! reach it knows from the supervisor alone: a listener that is not in that list is closed.

mod address;
mod allow;
mod budget;
mod confine;
mod dial;
mod inject;
mod log;
mod proxy;
mod relay;
mod resolve;
mod serve;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;

use rustix::thread::CapabilitySet;
use tokio::task::LocalSet;

use crate::post::{self, PostError};
use crate::sys;
use crate::wire::egress::EgressPlan;
use crate::wire::{self, Birth, Identity};

/// The most listeners of one server: an allowlist has 254 entries, and a wildcard adds its port to
/// each exact host below it.
const LISTENERS_MAX: usize = 4096;

/// The role's entry.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<(), PostError> {
    // It was started through a descriptor, whose number would be its name.
    nix::sys::prctl::set_name(c"tenantd-egress").map_err(std::io::Error::from)?;
    sys::become_undumpable()?;
    nix::sys::prctl::set_no_new_privs().map_err(std::io::Error::from)?;
    let (birth, descriptors) = post::birth()?;
    if birth != Birth::Egress {
        return Err(PostError::Descriptors(descriptors.len()));
    }
    let [plan, control, log] = post::exactly(descriptors)?;
    let plan: EgressPlan = post::unseal(plan)?;
    if plan.wire != wire::VERSION {
        return Err(PostError::Descriptors(0));
    }
    raise_descriptor_limit();
    match &plan.identity {
        Some(Identity { uid, gid, groups }) => {
            sys::become_user(*uid, *gid, groups, CapabilitySet::empty())?;
        }
        None => sys::give_up_capabilities()?,
    }
    // Without Landlock the filter is the only wall, and it is there in any case.
    let fileless = confine::to_names()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, serve(&plan, control, log, &fileless))?;
    Ok(())
}

async fn serve(
    plan: &EgressPlan,
    control: OwnedFd,
    log: OwnedFd,
    fileless: &confine::Fileless,
) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&control, true)?;
    confine::to_its_work(fileless)?;
    let control = sys::watch(control)?;
    let log = log::Log::new(plan.tenant.clone(), log.into());
    let dialer = dial::Dialer::new(plan.upstream.as_ref());
    serve::serve(control, Rc::clone(&serve::shared(dialer, log))).await;
    Ok(())
}

/// Every connection takes two; the soft limit is for programs that use select.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it connections wait for others to end.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
