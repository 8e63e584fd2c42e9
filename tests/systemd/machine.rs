//! A machine of a test's own: a real systemd as PID 1 in namespaces, with the project's units and binary in
//! their places, gone with everything in it when the value is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use crate::support::{DEADLINE, Held, Session, puppet, tenantd};

/// Where the test server is inside.
pub(crate) const PUPPET: &str = "/opt/tests/puppet";
/// Where the rehearsal of the sandbox is inside.
pub(crate) const REHEARSAL: &str = "/opt/tests/rehearsal";
/// How long between two looks at a condition: each look is a process or two.
const LOOK: Duration = Duration::from_millis(20);

/// A booted machine.
pub(crate) struct Machine {
    boot: Child,
    /// PID 1 of the machine, as seen from outside.
    init: u32,
    log: tempfile::NamedTempFile,
}

impl Machine {
    /// Boots; `None`, said loudly, where that cannot be. In CI that is a failure.
    pub(crate) fn boot() -> Option<Self> {
        Self::boot_with(&[])
    }

    /// As [`Machine::boot`], with more paths bound to places inside (`PATH:PLACE`).
    pub(crate) fn boot_with(binds: &[String]) -> Option<Self> {
        let root = root_file_system()?;
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let output = || Stdio::from(log.reopen().expect("a log"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut boot = Command::new(here.join("tests/systemd/boot"));
        boot.arg(&root).args(binds).stdin(Stdio::null()).stdout(output()).stderr(output());
        let mut bind = |file: &Path, place: &str| {
            boot.arg(format!("{}:{place}", file.display()));
        };
        bind(tenantd(), "/usr/bin/tenantd");
        bind(&puppet(), PUPPET);
        bind(&here.join("tests/systemd/rehearsal"), REHEARSAL);
        for unit in ["tenantd.service", "tenantd.socket"] {
            bind(&here.join("systemd").join(unit), &format!("/etc/systemd/system/{unit}"));
            bind(&here.join("systemd/user").join(unit), &format!("/etc/systemd/user/{unit}"));
        }
        let mut machine = Self { boot: boot.spawn().expect("bash"), init: 0, log };
        machine.wait_for_boot();
        Some(machine)
    }

    fn wait_for_boot(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let ended = self.boot.try_wait().expect("waited");
            assert!(ended.is_none() && Instant::now() < deadline, "no boot: {}", self.console());
            if let Some(init) = self.find_init() {
                self.init = init;
                let state = self.command(&["systemctl", "is-system-running"]).output();
                let state = String::from_utf8(state.expect("nsenter").stdout).expect("UTF-8");
                if ["running", "degraded"].contains(&state.trim()) {
                    self.run(&["systemctl", "log-target", "journal"]);
                    return;
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The only child of what was spawned, once it is systemd.
    fn find_init(&self) -> Option<u32> {
        let outer = self.boot.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        let init = children.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name.trim() == "systemd").then_some(init)
    }

    /// What systemd said on its console.
    fn console(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// A place of the machine, seen from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Writes a file of root's in the machine, with its directories.
    pub(crate) fn file(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// A tenant's file of the system's supervisor.
    pub(crate) fn tenant(&self, id: &str, text: &str) -> &Self {
        self.file(&format!("/etc/tenantd/tenants.d/{id}.toml"), text);
        self
    }

    /// Adds lines to a unit (`tenantd.service`) of the system, or of every user (`user`).
    pub(crate) fn drop_in(&self, manager: &str, unit: &str, text: &str) {
        self.file(&format!("/etc/systemd/{manager}/{unit}.d/test.conf"), text);
        if manager == "system" {
            self.run(&["systemctl", "daemon-reload"]);
        }
    }

    /// A program inside, as root.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.to_string()).args(["--all", "--"]);
        command.args(arguments).current_dir("/").env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("SYSTEMD_PAGER", "");
        command
    }

    /// A program inside, as one of its people, as a login would start it.
    pub(crate) fn command_as(&self, user: &str, arguments: &[&str]) -> Command {
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{}", self.uid(user));
        let home = format!("HOME=/home/{user}");
        let become_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "env"];
        self.command(&[&become_user[..], &[&*runtime, &*home], arguments].concat())
    }

    /// The uid of one of its people.
    pub(crate) fn uid(&self, user: &str) -> String {
        self.run(&["id", "-u", user]).trim().to_owned()
    }

    /// Runs a program inside to its good end and returns what it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.succeed(self.command(arguments))
    }

    /// As [`Machine::run`], as one of its people.
    pub(crate) fn run_as(&self, user: &str, arguments: &[&str]) -> String {
        self.succeed(self.command_as(user, arguments))
    }

    fn succeed(&self, mut command: Command) -> String {
        let output = command.stdin(Stdio::null()).output().expect("nsenter");
        let text = said(&output);
        assert!(output.status.success(), "{command:?}: {text}; {}", self.journal());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A property of a unit of the system (systemctl show).
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "-p", property, unit]).trim().to_owned()
    }

    /// Everything that the journal holds of tenantd.
    pub(crate) fn journal(&self) -> String {
        let journal = self.command(&["journalctl", "--no-pager", "-o", "short-monotonic"]).output();
        said(&journal.expect("nsenter"))
    }

    /// Opens a session of the system's supervisor as root.
    pub(crate) fn connect(&self, target: &str) -> Session {
        Session::spawn_ourselves(self.command(&["tenantd", "connect", target]))
    }

    /// Opens a session as one of its people.
    pub(crate) fn connect_as(&self, user: &str, target: &str) -> Session {
        Session::spawn_ourselves(self.command_as(user, &["tenantd", "connect", target]))
    }

    /// Every process in a control group and below it, each held.
    pub(crate) fn processes(&self, group: &str) -> Vec<Held> {
        let mut held = Vec::new();
        let mut next = vec![self.path(&format!("/sys/fs/cgroup{group}"))];
        while let Some(directory) = next.pop() {
            let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            held.extend(pids.lines().filter_map(|pid| Held::of(pid.parse().ok()?)));
            let below = fs::read_dir(&directory).into_iter().flatten().flatten();
            next.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        held
    }

    /// The processes of the system's service.
    pub(crate) fn service(&self) -> Vec<Held> {
        self.processes("/system.slice/tenantd.service")
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !so() {
            assert!(Instant::now() < deadline, "never: {what}; {}", self.journal());
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.init != 0 {
            eprintln!("the machine's journal:\n{}", self.journal());
        }
        // Its PID 1 dies with what was spawned, and everything inside with PID 1.
        let _ = self.boot.kill();
        let _ = self.boot.wait();
    }
}

/// What a program said, both ways.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn root_file_system() -> Option<PathBuf> {
    let default = || concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-deps").into();
    let cache = PathBuf::from(std::env::var_os("TENANTD_TEST_CACHE").unwrap_or_else(default));
    let made = cache.join("systemd.made").exists();
    if geteuid().is_root() && made {
        return Some(cache.join("systemd"));
    }
    let why = if made { "only root can boot a systemd" } else { "there is no systemd to boot" };
    let ci = std::env::var_os("CI").is_some();
    assert!(!ci, "{why} (run tests/run as root): in CI nothing is skipped");
    eprintln!("SKIPPED: {why} (run tests/run as root, which makes it)");
    None
}
