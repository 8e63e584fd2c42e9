//! A supervisor of the demo: a real `tenantd serve` in a home of its own, ended when it is dropped.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::super::admin::ended;
use super::super::control::{Absence, Control};
use super::alarm::{Alarm, Part};
use crate::control::{ChildStatus, StatusReply, TenantStatus};
use crate::paths::{HOME_VARIABLE, Layout, Mode, RUNTIME_VARIABLE};

/// How long a supervisor may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to stop; it gives its tenants 5 s.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);
/// It leaves by itself when the demo was killed and could not stop it.
const IDLE_EXIT: &str = "5m";
/// How much of its log is shown when it fails, bytes.
const LOG_SHOWN: i64 = 2_000;

/// A supervisor that runs.
pub(super) struct House {
    pub(super) layout: Layout,
    root: PathBuf,
    child: Child,
    process: OwnedFd,
}

impl House {
    /// Writes the tenants into a new home at `root` and starts a supervisor on it.
    pub(super) fn open(
        binary: &Path,
        root: PathBuf,
        mode: Mode,
        tenants: &[(&str, &str)],
        alarm: &Alarm,
    ) -> anyhow::Result<Self> {
        let layout = Layout::rooted(mode, &root);
        fs::create_dir_all(layout.tenants()).context("cannot make the demo's home")?;
        for (tenant, text) in tenants {
            write(&layout, tenant, text)?;
        }
        let ready = UnixDatagram::bind(root.join("ready.sock")).context("cannot make a socket")?;
        let mut serve = serve(binary, &root, mode).context("cannot write the demo's log")?;
        let (child, process) = alarm.start(Part::Supervisor, &mut serve)?;
        let house = Self { layout, root, child, process };
        house.wait_until_ready(&ready)?;
        Ok(house)
    }

    /// Adds a tenant while the supervisor runs, which watches the directory of their files.
    pub(super) fn add(&self, tenant: &str, text: &str) -> anyhow::Result<()> {
        write(&self.layout, tenant, text)
    }

    /// The supervisor's process; readable at its end.
    pub(super) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// The supervisor's process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its control API says.
    pub(super) fn status(&self) -> anyhow::Result<StatusReply> {
        let mut control = Control::at(&self.layout).map_err(|absence| match absence {
            Absence::Nobody => anyhow::anyhow!("the supervisor does not listen"),
            Absence::Because(failure) => failure.into(),
        })?;
        Ok(control.status()?)
    }

    /// One tenant of it.
    pub(super) fn tenant(&self, id: &str) -> anyhow::Result<TenantStatus> {
        let tenants = self.status()?.tenants;
        tenants
            .into_iter()
            .find(|tenant| tenant.id == id)
            .with_context(|| format!("status does not show tenant {id}"))
    }

    /// The child of the tenant's one server, and its process id.
    pub(super) fn server(&self, id: &str) -> anyhow::Result<(ChildStatus, i64)> {
        let servers = self.tenant(id)?.servers;
        let held: Vec<_> = servers.iter().filter_map(|server| server.held.clone()).collect();
        let children = servers.into_iter().flat_map(|server| server.children);
        let mut running = children.filter_map(|child| child.pid.map(|pid| (child, pid)));
        running.next().with_context(|| match held.as_slice() {
            [] => format!("status shows no running server of {id}"),
            [why, ..] => why.clone(),
        })
    }

    /// A command of this binary in this home.
    pub(super) fn command(&self, binary: &Path) -> Command {
        command(binary, &self.root)
    }

    /// Where processes of the demo write what they have to say.
    pub(super) fn log(&self) -> io::Result<File> {
        log(&self.root)
    }

    /// Stops it; an error if it does not stop by itself.
    pub(super) fn close(mut self) -> anyhow::Result<()> {
        if self.stop() { Ok(()) } else { bail!("the supervisor did not stop and was killed") }
    }

    fn stop(&mut self) -> bool {
        // Each of these fails only where it has ended already.
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
        let by_itself = ended(&self.process, STOPPED_WITHIN).unwrap_or(false);
        if !by_itself {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        by_itself
    }

    /// Waits for READY=1, as a service manager does (sd_notify(3)), or for the supervisor's end.
    fn wait_until_ready(&self, ready: &UnixDatagram) -> anyhow::Result<()> {
        let until = Instant::now() + READY_WITHIN;
        let mut buffer = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut watched = [
                PollFd::new(ready.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.process.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, timeout) {
                Ok(0) => bail!("the supervisor was not ready in time:\n{}", self.last_words()),
                Ok(_) if watched[0].any() == Some(true) => {
                    let size = ready.recv(&mut buffer).context("cannot hear the supervisor")?;
                    if buffer[..size].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                        return Ok(());
                    }
                }
                Ok(_) => bail!("the supervisor ended at once:\n{}", self.last_words()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for the supervisor"),
            }
        }
    }

    fn last_words(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.root.join("demo.log"))?;
            let size = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
            file.seek(SeekFrom::End(-size.min(LOG_SHOWN)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(super::super::print::text(&String::from_utf8_lossy(&bytes)))
        };
        read().unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

fn write(layout: &Layout, tenant: &str, text: &str) -> anyhow::Result<()> {
    fs::write(layout.tenants().join(format!("{tenant}.toml")), text)
        .with_context(|| format!("cannot write the demo's tenant {tenant}"))
}

fn serve(binary: &Path, root: &Path, mode: Mode) -> io::Result<Command> {
    let mut command = command(binary, root);
    command
        .arg("serve")
        .arg(format!("--{}", mode.as_str()))
        .args(["--idle-exit", IDLE_EXIT])
        .env("NOTIFY_SOCKET", root.join("ready.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log(root)?);
    Ok(command)
}

/// A process that knows this home and no other, in a group of its own: a Ctrl-C in the terminal is for
/// the demo alone, which then ends the others in order.
fn command(binary: &Path, root: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(binary);
    command.env(HOME_VARIABLE, root).process_group(0).current_dir(root);
    for foreign in [RUNTIME_VARIABLE, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(foreign);
    }
    for foreign in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        command.env_remove(foreign);
    }
    command
}

fn log(root: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(root.join("demo.log"))
}
