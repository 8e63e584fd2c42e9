//! The shim: `tenantd connect`, started by the MCP client as if it were the server.
//!
//! It hands its stdin and stdout over and waits; it sees no message unless it must copy (a terminal, a
//! file) or answer a refusal. Std only, no runtime, no argument parser of the other commands: it is
//! started for every session, and stays for all of it.

mod copy;
pub mod door;
pub(in crate::cli) mod keep;
mod launch;
mod manager;
mod refuse;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use door::{Choice, Session};

pub use launch::main as launch_main;

use crate::names::Target;
use crate::sys;
use crate::wire::{FAREWELL_MAX, Farewell, Refusal};

/// Wrong usage (sysexits(3)).
const USAGE: u8 = 64;
/// The supervisor or the server is not to be had.
const UNAVAILABLE: u8 = 69;

/// What the command line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    choice: Choice,
    target: Option<String>,
    strict: bool,
}

/// The command's entry; `None` where the full command line has to answer (`--help`).
pub fn main(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let code = match parse(arguments) {
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => return None,
        Err(message) => {
            let reason = "usage".to_owned();
            refuse::answer(&Refusal { message, code: USAGE, reason, elsewhere: false })
        }
    };
    Some(ExitCode::from(code))
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments::default();
    for argument in arguments {
        let text = argument.to_str().ok_or("an argument is not UTF-8 (write TENANT[/SERVER])")?;
        match text {
            "--help" | "-h" => return Ok(None),
            "--user" if parsed.choice == Choice::Any => parsed.choice = Choice::User,
            "--system" if parsed.choice == Choice::Any => parsed.choice = Choice::System,
            "--user" | "--system" => return Err("give --user or --system, once".to_owned()),
            "--strict" => parsed.strict = true,
            _ if text.starts_with('-') => {
                let text = text.escape_debug();
                return Err(format!("unknown option {text} (see tenantd connect --help)"));
            }
            _ if parsed.target.is_some() => {
                return Err("connect takes one TENANT[/SERVER]".to_owned());
            }
            _ => {
                Target::parse(text).map_err(|error| error.to_string())?;
                parsed.target = Some(text.to_owned());
            }
        }
    }
    Ok(Some(parsed))
}

fn run(arguments: &Arguments) -> u8 {
    // What this process is handed is the client's own; nothing else of this uid need look into it.
    if sys::become_undumpable().is_err() {
        return UNAVAILABLE;
    }
    let bridge = match copy::Bridge::build() {
        Ok(bridge) => bridge,
        Err(error) => {
            say(&format!("cannot use stdin or stdout: {error}"));
            return UNAVAILABLE;
        }
    };
    let target = arguments.target.as_deref();
    match door::open(arguments.choice, target, arguments.strict, bridge.stdin(), bridge.stdout()) {
        Ok(session) => {
            let copied = bridge.start();
            let code = wait(session);
            copied.finish();
            code
        }
        Err(refusal) => refuse::answer(&refusal),
    }
}

/// Waits for the mux's farewell, or for its end.
fn wait(session: Session) -> u8 {
    let lifeline = UnixStream::from(session.lifeline);
    let mut line = Vec::new();
    let most = FAREWELL_MAX as u64;
    // An error is an end as well.
    let _ = Read::take(lifeline, most).read_to_end(&mut line);
    let farewell = serde_json::from_slice::<Farewell>(line.trim_ascii_end());
    let farewell = farewell.unwrap_or_else(|_| Farewell {
        reason: "the tenant's mux is gone; connect again".to_owned(),
        code: UNAVAILABLE,
    });
    if !farewell.reason.is_empty() {
        say(&farewell.reason);
    }
    farewell.code
}

/// One line for the person, on stderr.
fn say(message: &str) {
    // Clients may have closed stderr; then nobody reads it.
    let _ = writeln!(io::stderr(), "tenantd: {message}");
}

/// Puts `/dev/null` in the place of stdin and stdout, so that their ends are the mux's to close.
fn let_go() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Duplicates of the descriptors that this process was started with.
fn own_stdio() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Arguments>, String> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn the_shim_knows_its_few_words() {
        let want =
            Arguments { choice: Choice::User, target: Some("acme/git".to_owned()), strict: true };
        assert_eq!(parsed(&["--user", "acme/git", "--strict"]), Ok(Some(want)));
        assert_eq!(parsed(&[]), Ok(Some(Arguments::default())));
        assert_eq!(parsed(&["--help"]), Ok(None));
        for bad in [&["Acme"][..], &["a", "b"], &["--x"], &["--user", "--system"]] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
