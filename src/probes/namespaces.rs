//! Namespaces: whether they are the server's own, and whether it can make or enter others. A user namespace
//! of its own would give a server every capability in it, and with that most of the kernel's attack surface.

use std::fs::File;

use nix::sched::{CloneFlags, setns, unshare};

use super::attempt::{Attempt, Outcome, deed, reached, with};
use super::run::Scene;
use super::{Probe, probe};
use crate::sys;

pub(super) const PROBES: &[Probe] = &[
    probe("namespaces.user", "the user namespace is the host's", "readlink", |s| same(s, "user")),
    probe("namespaces.mount", "the mount namespace is the host's", "readlink", |s| same(s, "mnt")),
    probe("namespaces.process", "the process namespace is the host's", "readlink", |s| {
        same(s, "pid")
    }),
    probe("namespaces.network", "the network namespace is the host's", "readlink", |s| {
        if s.brief.host_network {
            return Attempt::failed("the tenant's file asks for it (sandbox.network = \"host\")");
        }
        same(s, "net")
    }),
    probe("namespaces.ipc", "the IPC namespace is the host's", "readlink", |s| same(s, "ipc")),
    probe("namespaces.name", "the host's name is shared", "readlink", |s| same(s, "uts")),
    probe("namespaces.cgroup", "the cgroup namespace is the host's", "readlink", |s| {
        same(s, "cgroup")
    }),
    probe(
        "namespaces.user-allowed",
        "a user namespace could be made if no filter looked",
        "open max_user_namespaces",
        |s| match same(s, "user").outcome {
            Outcome::Blocked => allowed(),
            _ => Attempt::failed("the number is the machine's, not the sandbox's"),
        },
    ),
    probe("namespaces.user-made", "a user namespace is made", "unshare CLONE_NEWUSER", |_| {
        deed(unshare(CloneFlags::CLONE_NEWUSER))
    }),
    probe("namespaces.user-cloned", "a user namespace is made", "clone CLONE_NEWUSER", |_| {
        deed(sys::clone_into_user_namespace(false))
    }),
    probe(
        "namespaces.user-cloned-anew",
        "a user namespace is made",
        "clone3 CLONE_NEWUSER",
        |_| deed(sys::clone_into_user_namespace(true)),
    ),
    probe("namespaces.mount-made", "a mount namespace is made", "unshare CLONE_NEWNS", |_| {
        deed(unshare(CloneFlags::CLONE_NEWNS))
    }),
    probe("namespaces.network-made", "a network namespace is made", "unshare CLONE_NEWNET", |_| {
        deed(unshare(CloneFlags::CLONE_NEWNET))
    }),
    probe("namespaces.entered", "another namespace is entered", "setns", |_| {
        // Its own: the question is whether the call is allowed at all.
        match File::open("/proc/self/ns/net") {
            Ok(own) => reached(setns(own, CloneFlags::empty())),
            Err(error) => deed(Err::<(), _>(error)),
        }
    }),
];

/// How many may be made below this one (namespaces(7)).
fn allowed() -> Attempt {
    match std::fs::read_to_string("/proc/sys/user/max_user_namespaces") {
        Ok(number) => Attempt::open_if(number.trim() != "0", number.trim()),
        Err(error) => deed(Err::<(), _>(error)),
    }
}

/// The link names type and inode number of a namespace (namespaces(7)).
fn same(s: &Scene<'_>, name: &str) -> Attempt {
    with(s.brief.namespaces.get(name), "the host's namespaces", |host| {
        match std::fs::read_link(format!("/proc/self/ns/{name}")) {
            Ok(mine) => {
                Attempt::open_if(mine.as_os_str() == host.as_str(), mine.display().to_string())
            }
            Err(error) => deed(Err::<(), _>(error)),
        }
    })
}
