//! `credential`: secrets are set, listed, removed and taken from files, and never shown.
//!
//! A value is read here into memory that is zeroed, sealed into a descriptor and handed to the supervisor's
//! session door. It is never an argument, never in a message, and this process leaves no core.

mod import;
mod init;
mod list;
mod prompt;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::args::credential::{
    Credential, CredentialCommand, ListCredentials, RemoveCredential, SetCredential,
};
use super::connect::keep::{Keeping, Kept};
use super::control::{Absence, Control, modes};
use super::failure::{DONE, Failure, NO_PERMISSION};
use super::{print, rooms};
use crate::control::RemovedReply;
use crate::names::TenantId;
use crate::post;
use crate::sys;
use crate::wire::credential::{SECRET_MAX, Source};

/// Why a secret on the command line is not taken.
pub(super) const NOT_AS_ARGUMENT: &str = "\
a secret is never an argument: other processes can read it while this one runs, and your shell has it in its \
history now (take it out there, and replace the secret where it came from). Leave it out to be asked for it, or \
pipe it in: tenantd credential set TENANT NAME < FILE";

/// `tenantd credential`
pub(super) fn run(args: &Credential) -> anyhow::Result<u8> {
    match &args.command {
        CredentialCommand::Set(args) => set(args, false),
        CredentialCommand::Rotate(args) => set(args, true),
        CredentialCommand::List(args) => list(args),
        CredentialCommand::Remove(args) => remove(args),
        CredentialCommand::Import(args) => import::run(args),
        CredentialCommand::Init(args) => init::run(args),
    }
}

/// Whether a command line that cannot be parsed may hold a secret, so that it must not be quoted.
pub(super) fn may_hold_secret(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let (first, second) = (arguments.nth(1), arguments.next());
    first.is_some_and(|word| word == "credential")
        && second.is_some_and(|word| word == "set" || word == "rotate")
}

fn set(args: &SetCredential, rotate: bool) -> anyhow::Result<u8> {
    // What is in memory from here on is in no core file and in no debugger of this user's.
    sys::become_undumpable().context("cannot protect the memory of this process")?;
    let SetCredential { tenant, name, which } = args;
    if !is_name(name) {
        // Not quoted: it may be the secret itself.
        let said = "NAME is not the name of a credential (letters, digits, '-', '_', '.' and ':'; a secret is \
                    never an argument)";
        return Err(Failure::usage(said).into());
    }
    let secret = read(tenant, name).map_err(prompt::obey)?;
    let sealed = post::seal_secret(&secret).context("cannot seal the secret")?;
    drop(secret);
    let keeping = Keeping { tenant, name, source: Source::Set, rotate };
    let kept = rooms::keep(*which, keeping, sealed.as_fd())?;
    writeln!(io::stdout(), "{}", stored(tenant, name, &kept))?;
    Ok(DONE)
}

/// As the configuration has it: what is no name there cannot be one here.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(good)
}

fn stored(tenant: &TenantId, name: &str, kept: &Kept) -> String {
    let whose = match &kept.user {
        Some(user) => format!("{name} of {} in {tenant}", print::word(user)),
        None => format!("{name} of {tenant}"),
    };
    match kept.replaced {
        true => format!("{whose} is stored in the place of the one before"),
        false => format!("{whose} is stored"),
    }
}

/// The secret, from a person or from a pipe.
fn read(tenant: &TenantId, name: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    from_stdin(&format!("{name} of {tenant}"))
}

fn from_stdin(what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return prompt::ask(stdin.as_fd(), what);
    }
    whole(&mut stdin.lock())
}

/// A secret that another command needs: typed twice and not shown, or all of stdin.
pub(super) fn secret(what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    from_stdin(what).map_err(prompt::obey)
}

/// All of it, without its one trailing newline.
fn whole(from: &mut impl io::Read) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let room = SECRET_MAX + 2;
    // As large as it can become: growing would leave copies behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    from.take(room).read_to_end(&mut secret).context("cannot read the secret from stdin")?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(Failure::usage("stdin is empty, nothing was stored").into());
    }
    if secret.len() as u64 > SECRET_MAX {
        return Err(too_large().into());
    }
    Ok(secret)
}

fn too_large() -> Failure {
    Failure::usage(format!(
        "the secret is larger than {} KiB, nothing was stored",
        SECRET_MAX / 1024
    ))
}

fn list(args: &ListCredentials) -> anyhow::Result<u8> {
    let tenant = args.tenant.as_ref().map(TenantId::as_str);
    let reply = ask(args.which, |control| control.list_credentials(tenant))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
    } else {
        out.write_all(list::render(&reply, print::now()).as_bytes())?;
    }
    Ok(DONE)
}

fn remove(args: &RemoveCredential) -> anyhow::Result<u8> {
    let RemoveCredential { tenant, name, of, which } = args;
    let reply =
        ask(*which, |control| control.remove_credential(tenant.as_str(), name, of.as_deref()))?;
    io::stdout().write_all(removed(tenant, name, &reply).as_bytes())?;
    Ok(DONE)
}

fn removed(tenant: &TenantId, name: &str, reply: &RemovedReply) -> String {
    let name = print::word(name);
    if reply.removed.is_empty() {
        return format!("{name} of {tenant} was not set\n");
    }
    let line = |whose: &Option<String>| match whose {
        Some(user) => format!("{name} of {} in {tenant} is removed\n", print::word(user)),
        None => format!("{name} of {tenant} is removed\n"),
    };
    let mut lines: String = reply.removed.iter().map(line).collect();
    lines.push_str("servers that had it are started anew, and wait for another one\n");
    lines
}

/// Asks the supervisors that are meant, until one knows what it is about.
pub(super) fn ask<T>(
    which: super::args::Which,
    mut question: impl FnMut(&mut Control) -> Result<Option<T>, Failure>,
) -> anyhow::Result<T> {
    let mut unknown = false;
    for mode in modes(which) {
        match Control::at(&rooms::layout(mode)?) {
            Ok(mut control) => match question(&mut control)? {
                Some(answer) => return Ok(answer),
                None => unknown = true,
            },
            Err(Absence::Because(failure)) if which.user || which.system => {
                return Err(failure.into());
            }
            Err(_) => {}
        }
    }
    if unknown {
        let said = "there is no such tenant, or none that you may use (tenantd status lists yours)";
        return Err(Failure::new(NO_PERMISSION, said).into());
    }
    // Says where nobody listens, and how to change that.
    Control::find(which)?;
    Err(Failure::unavailable("no supervisor answers").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        whole(&mut &*bytes).map(|secret| secret.to_vec())
    }

    #[test]
    fn stdin_is_the_secret_without_one_line_end() {
        for (bytes, secret) in
            [("x", "x"), ("x\n", "x"), ("x\n\n", "x\n"), ("a\nb\n", "a\nb"), (" x ", " x ")]
        {
            assert_eq!(read(bytes.as_bytes()).expect("a secret"), secret.as_bytes(), "{bytes:?}");
        }
        assert!(read(b"").is_err() && read(b"\n").is_err());
        let most = usize::try_from(SECRET_MAX).expect("fits");
        let mut longest = vec![b'x'; most];
        assert_eq!(read(&longest).expect("a secret").len(), most);
        longest.push(b'\n');
        assert_eq!(read(&longest).expect("a secret").len(), most);
        longest.push(b'\n');
        assert!(read(&longest).is_err());
    }

    #[test]
    fn a_command_line_with_a_secret_is_known() {
        let words = |line: &str| line.split(' ').map(Into::into).collect::<Vec<_>>().into_iter();
        for line in ["tenantd credential set acme x y", "tenantd credential rotate"] {
            assert!(may_hold_secret(words(line)), "{line}");
        }
        for line in ["tenantd", "tenantd credential list x y", "tenantd set credential"] {
            assert!(!may_hold_secret(words(line)), "{line}");
        }
    }
}
