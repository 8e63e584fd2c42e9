//! What a process outside shares with others by name or number: made to be looked for from inside a sandbox.
//! Removed when it is dropped.

use std::ffi::CString;
use std::io;

use nix::libc::{
    IPC_CREAT, IPC_EXCL, IPC_RMID, O_CREAT, O_EXCL, O_RDWR, SYS_add_key, SYS_keyctl, SYS_mq_open,
    SYS_mq_unlink, SYS_msgctl, SYS_msgget, SYS_semctl, SYS_semget, SYS_shmctl, SYS_shmget,
};

use crate::sys::{Argument, attempt};

/// linux/keyctl.h
const KEYCTL_UNLINK: i32 = 9;
const KEY_SPEC_USER_KEYRING: i32 = -4;
/// Open to everybody: only the sandbox is to stand in the way.
const MODE: i32 = 0o666;

/// One object of each kind.
#[derive(Debug)]
pub struct Planted {
    undo: Vec<Undo>,
}

#[derive(Debug)]
enum Undo {
    Sysv(nix::libc::c_long, i32),
    Queue(CString),
    Key(i32),
}

impl Planted {
    /// Makes them: System V objects by `key`, a message queue and a key of the user's keyring by `name`.
    /// What the machine does not have is left out.
    pub fn new(key: i32, name: &str) -> Self {
        let mut planted = Self { undo: Vec::new() };
        let flags = Argument::Number(IPC_CREAT | IPC_EXCL | MODE);
        let (key, one) = (Argument::Number(key), Argument::Number(1));
        planted.keep(attempt(SYS_shmget, &[key, one, flags]), |id| Undo::Sysv(SYS_shmctl, id));
        planted.keep(attempt(SYS_semget, &[key, one, flags]), |id| Undo::Sysv(SYS_semctl, id));
        planted.keep(attempt(SYS_msgget, &[key, flags]), |id| Undo::Sysv(SYS_msgctl, id));
        if let Ok(name) = CString::new(name) {
            planted.named(&name);
        }
        planted
    }

    fn named(&mut self, name: &CString) {
        let text = Argument::Bytes(name.as_bytes_with_nul());
        let flags = Argument::Number(O_CREAT | O_EXCL | O_RDWR);
        let queue =
            attempt(SYS_mq_open, &[text, flags, Argument::Number(MODE), Argument::Number(0)]);
        self.keep(queue, |_| Undo::Queue(name.clone()));
        let ring = Argument::Number(KEY_SPEC_USER_KEYRING);
        let key =
            [Argument::Bytes(b"user\0"), text, Argument::Bytes(b"x"), Argument::Number(1), ring];
        self.keep(attempt(SYS_add_key, &key), Undo::Key);
    }

    fn keep(&mut self, made: io::Result<nix::libc::c_long>, undo: impl FnOnce(i32) -> Undo) {
        self.undo.extend(made.ok().and_then(|id| i32::try_from(id).ok()).map(undo));
    }

    /// How many there are: five where the machine has all.
    pub fn count(&self) -> usize {
        self.undo.len()
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let number = Argument::Number;
        for undo in &self.undo {
            // What is gone already needs no removal.
            let _ = match undo {
                Undo::Sysv(call, id) if *call == SYS_semctl => {
                    attempt(*call, &[number(*id), number(0), number(IPC_RMID)])
                }
                Undo::Sysv(call, id) => attempt(*call, &[number(*id), number(IPC_RMID), number(0)]),
                Undo::Queue(name) => {
                    attempt(SYS_mq_unlink, &[Argument::Bytes(name.as_bytes_with_nul())])
                }
                Undo::Key(id) => {
                    let ring = number(KEY_SPEC_USER_KEYRING);
                    attempt(SYS_keyctl, &[number(KEYCTL_UNLINK), number(*id), ring])
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planted_is_found_and_then_gone() {
        let key = i32::from_ne_bytes(std::process::id().to_ne_bytes()) | 0x7400_0000;
        let planted = Planted::new(key, &format!("tenantd-test-{key}"));
        assert_eq!(planted.count(), 5);
        let found = |_: ()| {
            attempt(SYS_shmget, &[Argument::Number(key), Argument::Number(0), Argument::Number(0)])
        };
        assert!(found(()).is_ok());
        drop(planted);
        assert!(found(()).is_err());
    }
}
