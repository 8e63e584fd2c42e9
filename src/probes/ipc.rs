//! What processes share by name or number without a file: System V objects, queues, shared memory, keys;
//! and descriptors that were left open.

use std::ffi::CString;
use std::fs::File;

use nix::libc::{
    SYS_add_key, SYS_keyctl, SYS_mq_open, SYS_msgget, SYS_request_key, SYS_semget, SYS_shmget,
    c_long,
};

use super::attempt::{Attempt, deed, reached, with};
use super::run::Scene;
use super::{Probe, probe};
use crate::sys::{Argument, attempt};

/// linux/keyctl.h
const KEYCTL_SEARCH: i32 = 10;
const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
const KEY_SPEC_USER_KEYRING: i32 = -4;

pub(super) const PROBES: &[Probe] = &[
    probe("ipc.shared-memory", "another process's System V memory is found", "shmget", |s| {
        sysv(s, SYS_shmget, 3)
    }),
    probe("ipc.semaphores", "another process's System V semaphores are found", "semget", |s| {
        sysv(s, SYS_semget, 3)
    }),
    probe("ipc.messages", "another process's System V messages are found", "msgget", |s| {
        sysv(s, SYS_msgget, 2)
    }),
    probe("ipc.queue", "another process's message queue is opened", "mq_open", |s| {
        named(s.brief.objects.mqueue.as_deref(), "a queue", |name| {
            let flags = Argument::Number(nix::libc::O_RDONLY | nix::libc::O_NONBLOCK);
            deed(attempt(SYS_mq_open, &[Argument::Bytes(name), flags]))
        })
    }),
    probe("ipc.dev-shm", "another process's shared memory is opened", "open", |s| {
        with(s.brief.objects.shm.as_deref(), "shared memory", |name| {
            deed(File::open(format!("/dev/shm/{name}")))
        })
    }),
    probe("ipc.key-found", "a key of the user's keyring is found", "keyctl KEYCTL_SEARCH", |s| {
        named(s.brief.objects.key.as_deref(), "a key", |name| {
            let arguments = [
                Argument::Number(KEYCTL_SEARCH),
                Argument::Number(KEY_SPEC_USER_KEYRING),
                Argument::Bytes(b"user\0"),
                Argument::Bytes(name),
                Argument::Number(0),
            ];
            deed(attempt(SYS_keyctl, &arguments))
        })
    }),
    probe("ipc.key-requested", "a key of the user's session is found", "request_key", |s| {
        named(s.brief.objects.key.as_deref(), "a key", |name| {
            let none = Argument::Number(0);
            deed(attempt(
                SYS_request_key,
                &[Argument::Bytes(b"user\0"), Argument::Bytes(name), none, none],
            ))
        })
    }),
    probe("ipc.key-made", "a key is stored in the kernel", "add_key", |_| {
        let arguments = [
            Argument::Bytes(b"user\0"),
            Argument::Bytes(b"tenantd-probe\0"),
            Argument::Bytes(b"x"),
            Argument::Number(1),
            Argument::Number(KEY_SPEC_PROCESS_KEYRING),
        ];
        deed(attempt(SYS_add_key, &arguments))
    }),
    probe("ipc.descriptors", "a descriptor was left open", "fcntl F_GETFD", |s| {
        match &*s.inherited {
            [] => Attempt::blocked("none but the standard three"),
            some => Attempt::open(format!("open: {some:?}")),
        }
    }),
    probe("ipc.own-keyring", "the user's keyring is listed", "open /proc/keys", |_| {
        // The list may be readable and empty: what matters is whether it shows anything.
        match std::fs::read_to_string("/proc/keys") {
            Ok(keys) => {
                Attempt::open_if(!keys.is_empty(), format!("{} keys", keys.lines().count()))
            }
            Err(error) => reached(Err::<(), _>(error)),
        }
    }),
];

/// The object with the key that the brief names, which must exist; the last argument, flags, is 0.
fn sysv(s: &Scene<'_>, call: c_long, arguments: usize) -> Attempt {
    with(s.brief.objects.sysv, "System V objects", |key| {
        let all = [key, 0, 0].map(Argument::Number);
        deed(attempt(call, all.get(..arguments).unwrap_or(&all)))
    })
}

fn named(name: Option<&str>, what: &str, attempt: impl FnOnce(&[u8]) -> Attempt) -> Attempt {
    with(name.and_then(|name| CString::new(name).ok()), what, |name| {
        attempt(name.as_bytes_with_nul())
    })
}
