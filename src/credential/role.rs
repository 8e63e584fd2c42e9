//! The role's life: it makes itself unreadable, becomes who it is to be, and watches its one worker.
//!
//! ```text
//! main: birth -> identity -> [ hears the worker, says each line ] --done--------> Done, ends
//!                                  |        |                      --out of time--> TimedOut, Done, ends
//! worker (a plain thread):  open the store, do the deed            --panicked-----> Refused, Done, ends
//! ```
//!
//! A worker that hangs ends with the process, wherever it is: every store keeps a secret whole or not at all. That
//! the supervisor is gone is no reason to stop: a login's new token may be on its way into the store, and no server
//! gives it twice.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use rustix::thread::CapabilitySet;

use super::{BUS, login, work};
use crate::post::{self, PostError};
use crate::sys;
use crate::wire::credential::{CredentialPlan, Deed, FromCredential, StorePlan, Trouble};
use crate::wire::{self, Birth, Identity};

/// Lines that wait to be said: the worker can wait for them, since it has the time of all.
const LINES: usize = 16;

/// The role's entry.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<(), PostError> {
    be_unreadable()?;
    stay_to_the_end().map_err(std::io::Error::from)?;
    let (birth, descriptors) = post::birth()?;
    let count = descriptors.len();
    let mut descriptors = descriptors.into_iter();
    let (Birth::Credential, Some(plan), Some(control)) =
        (birth, descriptors.next(), descriptors.next())
    else {
        return Err(PostError::Descriptors(count));
    };
    let plan: CredentialPlan = post::unseal(plan)?;
    if plan.wire != wire::VERSION {
        return Err(PostError::Descriptors(0));
    }
    let lock = has_logins(&plan.deed).then(|| login::lock(&plan.lock)).transpose()?;
    match &plan.identity {
        Some(Identity { uid, gid, groups }) => {
            sys::become_user(*uid, *gid, groups, CapabilitySet::empty())?;
        }
        None => sys::give_up_capabilities()?,
    }
    if let StorePlan::SecretService { bus } = &plan.store {
        // The store's crate takes the bus from nowhere else.
        sys::set_variable_single_threaded(BUS, bus)?;
    }
    let until = Instant::now() + Duration::from_millis(plan.within_ms);
    let late = late(&plan);
    let (says, heard) = sync_channel(LINES);
    let given: Vec<OwnedFd> = descriptors.collect();
    let worker = std::thread::Builder::new().name("store".to_owned());
    worker.spawn(move || work::work(&plan, given, lock.as_ref(), &says, until))?;
    watch(&heard, until, late, &control)
}

/// Whether there may be something to renew, or to end at a server.
fn has_logins(deed: &Deed) -> bool {
    match deed {
        Deed::HandOver { accounts } | Deed::Logout { accounts } => {
            accounts.iter().any(|wanted| wanted.login.is_some())
        }
        Deed::Keep { .. } | Deed::Forget { .. } => false,
    }
}

/// Passes on what the worker says until it is done, or its time is over.
fn watch(
    heard: &Receiver<FromCredential>,
    until: Instant,
    late: String,
    control: &OwnedFd,
) -> Result<(), PostError> {
    // A supervisor that does not read these few lines is gone, or its role is soon.
    let say = |line: &FromCredential| post::send(control, line, &[], SendFlags::empty());
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let (trouble, reason) = match heard.recv_timeout(left) {
            Ok(FromCredential::Done) => return say(&FromCredential::Done),
            Ok(line) => {
                // Nobody may hear it any more; the deed is done all the same.
                let _ = say(&line);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => (Trouble::TimedOut, late),
            Err(RecvTimeoutError::Disconnected) => {
                let why =
                    "the store's program failed (its file may be damaged, or its service at fault)";
                (Trouble::Refused, why.to_owned())
            }
        };
        say(&FromCredential::Failed { account: None, trouble, reason })?;
        return say(&FromCredential::Done);
    }
}

/// What to do about a store that did not answer in time.
fn late(plan: &CredentialPlan) -> String {
    let seconds = plan.within_ms.div_ceil(1000);
    match &plan.store {
        StorePlan::SecretService { .. } => format!(
            "the keyring did not answer within {seconds} s (it may be asking for its password in a window on the \
             desktop: unlock it there, and try again)"
        ),
        StorePlan::EncryptedFile { directory, .. } => format!(
            "the encrypted file below {} could not be used within {seconds} s (another process may hold its lock, or \
             the disk does not answer)",
            directory.display()
        ),
        StorePlan::Keyutils => format!("the kernel's keyring did not answer within {seconds} s"),
    }
}

/// Nobody of its user looks into it, it leaves no core, and what it makes is its own.
fn be_unreadable() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // It was started through a descriptor, whose number would be its name.
    nix::sys::prctl::set_name(c"tenantd-secrets")?;
    sys::become_undumpable()?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    nix::sys::prctl::set_no_new_privs()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Nobody knows what is in the words of a panic.
    std::panic::set_hook(Box::new(|_| ()));
    Ok(())
}

/// Is not ended by a signal that asks to: a server gives a login's next token once, and it may be on its way
/// into the store. What hangs has a limit of time, and SIGKILL remains. For every thread: there is one yet.
fn stay_to_the_end() -> nix::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect::<SigSet>().thread_block()
}

/// How the worker says a line; one that nobody hears is lost with its process.
pub(super) fn say(says: &SyncSender<FromCredential>, line: FromCredential) {
    let _ = says.send(line);
}
