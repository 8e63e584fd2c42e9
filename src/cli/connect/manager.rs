//! Starting the user supervisor through the user's service manager: what it starts is in no client's
//! process tree, session or cgroup.
//!
//! Asks `systemctl` and `systemd-run`, each for a bounded time: a manager whose bus hangs must not keep a
//! client waiting that a plain fork could serve. Decides nothing about what runs instead.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::launch::{LOOK, PATH, PATIENCE};
use crate::paths::is_private;

/// How long the manager may take to answer its first question. It answers in milliseconds or, where its
/// bus hangs, after 25 s and more (sd_bus_get_method_call_timeout(3)); clients give up at 10 s.
const ANSWER: Duration = Duration::from_secs(2);
/// The transient unit where no unit is installed.
const UNIT: &str = "tenantd-user.service";
/// What the installed unit has as well: the supervisor says when it is ready and that it turns, a dead one
/// ends no session, and one server that the kernel ends for want of memory does not end all.
const PROPERTIES: [&str; 7] = [
    "--property=Type=notify",
    "--property=NotifyAccess=main",
    "--property=WatchdogSec=30s",
    "--property=KillMode=process",
    "--property=OOMPolicy=continue",
    "--property=TasksMax=infinity",
    "--property=Delegate=yes",
];

/// Asks the user manager for a supervisor: its socket unit, else a transient unit, else the transient unit
/// that another client has started meanwhile. Says whether it did; then the supervisor listens, or its
/// socket does.
pub(super) fn start_supervisor() -> bool {
    let Some(manager) = Manager::find() else { return false };
    match manager.run("systemctl", &["start", "tenantd.socket"], ANSWER) {
        Outcome::Done => true,
        Outcome::Refused => {
            manager.start_transient()
                || manager.run("systemctl", &["start", UNIT], PATIENCE) == Outcome::Done
        }
        Outcome::Silent => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    /// No answer in time, or no such program.
    Silent,
}

struct Manager {
    run: PathBuf,
}

impl Manager {
    /// The user manager of this uid, if there is one: where it listens comes from the uid, as all paths.
    fn find() -> Option<Self> {
        let uid = nix::unistd::getuid();
        let run = PathBuf::from(format!("/run/user/{uid}"));
        let listens = is_private(&run, uid.as_raw()) && run.join("systemd/private").exists();
        listens.then_some(Self { run })
    }

    fn start_transient(&self) -> bool {
        let Ok(own) = std::env::current_exe() else { return false };
        let Some(own) = own.to_str() else { return false };
        let unit = format!("--unit={UNIT}");
        let mut arguments = vec!["--quiet", "--collect", "--working-directory=/", &unit];
        arguments.push("--description=tenantd, started by its first client");
        arguments.extend(PROPERTIES);
        arguments.extend(["--", own, "serve", "--user"]);
        self.run("systemd-run", &arguments, PATIENCE) == Outcome::Done
    }

    fn run(&self, program: &str, arguments: &[&str], within: Duration) -> Outcome {
        let mut command = Command::new(program);
        command.arg("--user").args(arguments).env_clear().current_dir(Path::new("/"));
        command.env("PATH", PATH).env("XDG_RUNTIME_DIR", &self.run);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_or(Outcome::Silent, |child| wait(child, within))
    }
}

fn wait(mut child: Child, within: Duration) -> Outcome {
    let until = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Outcome::Done,
            Ok(Some(_)) => return Outcome::Refused,
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => break,
        }
    }
    // It may have ended by itself just now.
    let _ = child.kill();
    let _ = child.wait();
    Outcome::Silent
}
