//! `reload`, `restart`, `stop`: one question to the supervisor, one line for the person.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::args::{Reload, Restart, Stop, Which};
use super::control::Control;
use super::failure::{CONFIG, DONE, Failure};
use super::print;
use crate::control::ReloadReply;

/// How long `stop` waits for the supervisor's end: its own drain and kill take less than half of it.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// How long a new supervisor may take to answer: it waits up to two seconds for what it takes over.
const REPLACED_WITHIN: Duration = Duration::from_secs(15);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(20);

/// `tenantd reload`: 78 where the configuration has a problem, so that a script sees it.
pub(super) fn reload(args: &Reload) -> anyhow::Result<u8> {
    let reply = Control::find(args.which)?.reload()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
    } else {
        write!(out, "{}", reloaded(&reply))?;
    }
    Ok(if reply.problems.is_empty() { DONE } else { CONFIG })
}

fn reloaded(reply: &ReloadReply) -> String {
    let mut lines = String::new();
    let kinds = [("new", &reply.added), ("changed", &reply.changed), ("gone", &reply.removed)];
    for (kind, tenants) in kinds.into_iter().filter(|(_, tenants)| !tenants.is_empty()) {
        lines.push_str(&format!("{kind}: {}\n", tenants.join(", ")));
    }
    if lines.is_empty() && reply.problems.is_empty() {
        lines.push_str("nothing changed\n");
    }
    for problem in &reply.problems {
        lines.push_str(&format!("problem: {}\n", print::cut(problem, 600)));
    }
    lines
}

/// `tenantd restart`
pub(super) fn restart(args: &Restart) -> anyhow::Result<u8> {
    if args.supervisor {
        return replace(args.which);
    }
    let Some((target, tenant)) = args.target.as_ref().and_then(|t| Some((t, t.tenant.as_ref()?)))
    else {
        return Err(Failure::usage("restart needs a tenant, or --supervisor").into());
    };
    let server = target.server.as_ref().map(AsRef::as_ref);
    Control::find(args.which)?.restart(tenant.as_str(), server)?;
    let what = server.map_or("the servers".to_owned(), |name| format!("server {name}"));
    writeln!(std::io::stdout(), "restarting {what} of {tenant}; sessions go on")?;
    Ok(DONE)
}

/// `tenantd restart --supervisor`: returns when the new one answers.
fn replace(which: Which) -> anyhow::Result<u8> {
    let mut control = Control::find(which)?;
    let before = control.status()?.supervisor.instance;
    let reply = control.restart_supervisor()?;
    // It waits for its connections to end.
    drop(control);
    let deadline = Instant::now() + REPLACED_WITHIN;
    let after = loop {
        // Who is cut off between the two asks again.
        let status = Control::find(which).and_then(|mut control| control.status());
        match status {
            Ok(status) if status.supervisor.instance != before => break status.supervisor,
            _ if Instant::now() < deadline => std::thread::sleep(LOOK),
            Ok(_) => {
                let message = format!(
                    "the supervisor was not replaced, version {} goes on (see its log)",
                    print::word(&reply.from)
                );
                return Err(Failure::unavailable(message).into());
            }
            Err(failure) => return Err(failure.into()),
        }
    };
    let (from, to) = (print::word(&reply.from), print::word(&after.version));
    writeln!(
        std::io::stdout(),
        "the supervisor was replaced: version {from} before, {to} now; sessions go on"
    )?;
    Ok(DONE)
}

/// `tenantd stop`: returns when the supervisor is gone, not when it was told.
pub(super) fn stop(args: &Stop) -> anyhow::Result<u8> {
    let mut control = Control::find(args.which)?;
    let pid = control.status()?.supervisor.pid;
    let process = open_process(pid);
    control.stop()?;
    let gone = match &process {
        Some(process) => {
            ended(process, STOPPED_WITHIN).context("cannot wait for the supervisor")?
        }
        // It was gone before we could look.
        None => true,
    };
    if !gone {
        let seconds = STOPPED_WITHIN.as_secs();
        let message = format!("supervisor {pid} was told to stop and still runs after {seconds} s");
        return Err(Failure::unavailable(message).into());
    }
    writeln!(std::io::stdout(), "stopped")?;
    Ok(DONE)
}

/// A pidfd of a process that somebody told us about.
pub(super) fn open_process(pid: i64) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits until the process of this pidfd has ended (pidfd_open(2): it becomes readable).
pub(super) fn ended(process: &OwnedFd, within: Duration) -> nix::Result<bool> {
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    let mut watched = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut watched, timeout) {
            Ok(ready) => return Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_says_what_changed_and_what_is_wrong() {
        let mut reply =
            ReloadReply { added: vec![], changed: vec![], removed: vec![], problems: vec![] };
        assert_eq!(reloaded(&reply), "nothing changed\n");
        reply.added = vec!["acme".into(), "globex".into()];
        reply.problems = vec!["tenants.d/x.toml:1:1: \x1b[2J".into()];
        let lines = reloaded(&reply);
        assert!(lines.starts_with("new: acme, globex\nproblem: tenants.d/x.toml:1:1: "));
        assert!(!lines.contains('\x1b'));
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat runs");
        let process = open_process(i64::from(child.id())).expect("a pidfd");
        assert_eq!(ended(&process, Duration::ZERO), Ok(false));
        drop(child.stdin.take());
        assert_eq!(ended(&process, Duration::from_secs(10)), Ok(true));
        child.wait().expect("reaped");
        assert!(open_process(0).is_none() && open_process(i64::MAX).is_none());
    }
}
