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
use std::path::PathBuf;

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
use super::tree::Access;
use super::{doors, enter, tree};
use crate::post;
use crate::sys::{self, Forked};
use crate::wire::stage::{Backend, CREDENTIALS};

/// The role's whole life. `leash` ends with the keeper.
pub(super) fn run(mut given: Given, failed: OwnedFd, leash: OwnedFd) {
    let duty = watch().and_then(|watch| start(&mut given, &failed, watch));
    go_on(duty, given, failed, &leash);
}

/// As pid 1 does, without namespaces: for a server with secrets, whose stderr somebody has to read. Whoever it
/// leaves behind is the keeper's to end.
pub(super) fn beside(mut given: Given, failed: OwnedFd, leash: OwnedFd) {
    let duty = watch().and_then(|watch| {
        let way = given.handover.take();
        // In the server's own process, whose number is part of it.
        let granted = |given: &Given| tree::granted_outside(&given.plan, &given.data);
        fork(&mut given, granted, &failed, Post { watch, way, vault: None })
    });
    go_on(duty, given, failed, &leash);
}

fn go_on(duty: Result<Option<Duty>, Failure>, given: Given, failed: OwnedFd, leash: &OwnedFd) {
    match duty {
        Ok(Some(mut duty)) => {
            drop((given, failed));
            duty.wait(leash);
        }
        // The server's own process has come back: it has said why.
        Ok(None) => {}
        Err(failure) => failure::tell(&failed, &failure.word()),
    }
}

/// A session of its own, and its signals as a descriptor.
fn watch() -> Result<SignalFd, Failure> {
    let watch = || -> io::Result<SignalFd> {
        nix::sys::prctl::set_name(c"tenantd-init")?;
        // Whoever of the host waits on the terminal's signals is not in here.
        unistd::setsid()?;
        let signals: SigSet = [SIGCHLD, SIGTERM].into_iter().collect();
        signals.thread_block()?;
        Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
    };
    watch().map_err(Failure::during("start pid 1"))
}

/// Makes the place and forks the server.
fn start(given: &mut Given, failed: &OwnedFd, watch: SignalFd) -> Result<Option<Duty>, Failure> {
    let way = given.handover.take();
    given.secrets = Secrets::take(&given.plan, way.as_ref())?;
    let plan = &given.plan;
    // Directories of the new root are for the server to enter, whoever makes them.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let mut granted = tree::build(plan, &given.data, given.lent.as_ref())?;
    let vault = Vault::open(plan).map_err(Failure::during("make a place for its credentials"))?;
    enter::name_host(plan)?;
    let egress = given.doors.as_ref().map(AsFd::as_fd);
    doors::open(&plan.network, egress).map_err(Failure::during("make its network"))?;
    enter::close_proc(plan.backend)?;
    if let (Backend::Root, Some(identity)) = (plan.backend, &plan.identity) {
        // While it may: the user that it becomes may not.
        enter::limit_capabilities(CapabilitySet::empty());
        enter::become_user(identity).map_err(Failure::during("become the tenant's user"))?;
    }
    if let Some(vault) = &vault {
        granted.push((CREDENTIALS.into(), tree::READ));
        let put = given.secrets.files(plan).try_for_each(|(file, value)| vault.put(file, value));
        put.map_err(Failure::during("put its credentials into their files"))?;
    }
    fork(given, |_| Ok(granted), failed, Post { watch, way, vault })
}

/// What pid 1 has when its server is started.
struct Post {
    watch: SignalFd,
    way: Option<OwnedFd>,
    vault: Option<Vault>,
}

fn fork(
    given: &mut Given,
    granted: impl FnOnce(&Given) -> Result<Vec<(PathBuf, Access)>, Failure>,
    failed: &OwnedFd,
    post: Post,
) -> Result<Option<Duty>, Failure> {
    let Post { watch, way, vault } = post;
    let keeping = Keeping::new(&given.plan, &given.secrets, way, vault, &mut given.stderr);
    let keeping = keeping.map_err(Failure::during("read its stderr"))?;
    let own = unistd::getpid();
    match sys::fork_single_threaded().map_err(Failure::during("fork"))? {
        Forked::Child => {
            let granted = granted(given)?;
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
            Ok(Some(Duty { watch, server, keeping }))
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
            let Some(said) = self.look(leash) else { return };
            if said && gone(leash) {
                return;
            }
            self.keeping.serve();
            while let Ok(Some(signal)) = self.watch.read_signal() {
                if i32::try_from(signal.ssi_signo) == Ok(SIGTERM as i32) {
                    // It may be gone already; its end is seen as a child's death.
                    let _ = killpg(self.server, SIGTERM);
                }
            }
            if let Some(word) = reap(self.server) {
                self.keeping.finish();
                // A keeper that is gone needs to know nothing.
                let _ = post::send(leash, &word, &[], SendFlags::DONTWAIT);
                return;
            }
        }
    }

    /// Waits until something happens: whether it is the keeper. Nothing where it cannot be seen: better an end
    /// than a server that nobody watches.
    fn look(&self, leash: &OwnedFd) -> Option<bool> {
        let mut ready = vec![
            PollFd::new(leash.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
        ];
        ready.extend(self.keeping.polled());
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
        Some(ready[0].any() == Some(true))
    }
}

/// Whether the keeper's end of the leash is closed. Nothing is ever said on it.
fn gone(leash: &OwnedFd) -> bool {
    let got = sys::receive_datagram(leash, &mut [0; 1], RecvFlags::DONTWAIT);
    !matches!(got, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
