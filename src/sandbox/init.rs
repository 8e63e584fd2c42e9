//! Pid 1 of a server's namespaces: makes the tree, starts the server in it, and then only waits. Its end
//! is the end of every process of the namespace (pid_namespaces(7)), by the kernel's hand.
//!
//! ```text
//!            SIGTERM from the keeper: SIGTERM to the server's group
//!   WATCHING -----------------------------------------------------> WATCHING
//!      |  the server ends: says how         the keeper is gone
//!      v                                        v
//!     exit                                     exit
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SIGCHLD, SIGTERM, SigSet, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Pid};
use rustix::net::{RecvFlags, SendFlags};
use rustix::thread::CapabilitySet;

use super::failure::{self, Failure};
use super::keeper::reap;
use super::secrets::Secrets;
use super::secrets::keeping::Keeping;
use super::secrets::vault::Vault;
use super::server::become_server;
use super::stage::Given;
use super::{doors, enter, tree};
use crate::post;
use crate::sys::{self, Forked};
use crate::wire::stage::{Backend, CREDENTIALS};

/// The role's whole life. `leash` ends with the keeper.
pub(super) fn run(mut given: Given, failed: OwnedFd, leash: OwnedFd) {
    match start(&mut given, &failed) {
        Ok(Some(mut duty)) => {
            drop((given, failed));
            duty.wait(&leash);
        }
        // The server's own process has come back: it has said why.
        Ok(None) => {}
        Err(failure) => failure::tell(&failed, &failure.word()),
    }
}

/// Makes the place and forks the server.
fn start(given: &mut Given, failed: &OwnedFd) -> Result<Option<Duty>, Failure> {
    let way = given.handover.take();
    given.secrets = Secrets::take(&given.plan, way.as_ref())?;
    let plan = &given.plan;
    let failing = Failure::during("start pid 1");
    let watch = || -> io::Result<SignalFd> {
        nix::sys::prctl::set_name(c"tenantd-init")?;
        // Whoever of the host waits on the terminal's signals is not in here.
        unistd::setsid()?;
        let signals: SigSet = [SIGCHLD, SIGTERM].into_iter().collect();
        signals.thread_block()?;
        Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
    };
    let watch = watch().map_err(failing)?;
    // Directories of the new root are for the server to enter, whoever makes them.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let mut granted = tree::build(plan, &given.data, given.lent.as_ref())?;
    let vault = Vault::open(plan).map_err(Failure::during("make a place for its credentials"))?;
    if vault.is_some() {
        granted.push((CREDENTIALS.into(), tree::READ));
    }
    enter::name_host(plan)?;
    let egress = given.doors.as_ref().map(AsFd::as_fd);
    doors::open(&plan.network, egress).map_err(Failure::during("make its network"))?;
    enter::close_proc(plan.backend)?;
    if let (Backend::Root, Some(identity)) = (plan.backend, &plan.identity) {
        // While it may: the user that it becomes may not.
        enter::limit_capabilities(CapabilitySet::empty());
        enter::become_user(identity).map_err(Failure::during("become the tenant's user"))?;
    }
    for (file, value) in vault.iter().flat_map(|_| given.secrets.files(plan)) {
        let put = vault.as_ref().map_or(Ok(()), |vault| vault.put(file, value));
        put.map_err(Failure::during("put a credential into its file"))?;
    }
    let own = unistd::getpid();
    match sys::fork_single_threaded().map_err(Failure::during("fork"))? {
        Forked::Child => {
            become_server(given, &granted, failed, own);
            Ok(None)
        }
        Forked::Parent(server) => {
            let hold_nothing = || {
                enter::detach_stdio()?;
                enter::drop_capabilities()?;
                Ok::<(), io::Error>(nix::sys::prctl::set_no_new_privs()?)
            };
            hold_nothing().map_err(Failure::during("let go of what pid 1 does not need"))?;
            Ok(Some(Duty { watch, server, keeping: Keeping::new(plan, way, vault) }))
        }
    }
}

/// What there is to do while the server runs.
struct Duty {
    watch: SignalFd,
    server: Pid,
    keeping: Keeping,
}

impl Duty {
    /// Until the server ends, or the keeper.
    fn wait(&mut self, leash: &OwnedFd) {
        loop {
            let Some([said, handed]) = self.look(leash) else { return };
            if said && gone(leash) {
                return;
            }
            if handed {
                self.keeping.hear();
            }
            while let Ok(Some(signal)) = self.watch.read_signal() {
                if i32::try_from(signal.ssi_signo) == Ok(SIGTERM as i32) {
                    // It may be gone already; its end is seen as a child's death.
                    let _ = killpg(self.server, SIGTERM);
                }
            }
            if let Some(word) = reap(self.server) {
                // A keeper that is gone needs to know nothing.
                let _ = post::send(leash, &word, &[], SendFlags::DONTWAIT);
                return;
            }
        }
    }

    /// Waits until something happens: whether it is the keeper, or a secret that came. Nothing where it cannot
    /// be seen: better an end than a server that nobody watches.
    fn look(&self, leash: &OwnedFd) -> Option<[bool; 2]> {
        let mut ready = vec![
            PollFd::new(leash.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
        ];
        ready.extend(self.keeping.way().map(|way| PollFd::new(way, PollFlags::POLLIN)));
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
        Some([0, 2].map(|at| ready.get(at).is_some_and(|polled| polled.any() == Some(true))))
    }
}

/// Whether the keeper's end of the leash is closed. Nothing is ever said on it.
fn gone(leash: &OwnedFd) -> bool {
    let got = sys::receive_datagram(leash, &mut [0; 1], RecvFlags::DONTWAIT);
    !matches!(got, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
