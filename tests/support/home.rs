//! A supervisor of a test's own: a temporary home, the real binary, and nothing left when it is dropped.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use serde_json::Value;

use super::groups::remove_groups;
use super::processes::{Held, descendants, known_inside_as, left_after, working_below};
use super::session::{DEADLINE, Session, readable};
use super::weapon::as_user;
use super::{child, tenantd};

/// How long everything that a supervisor started may outlive its SIGTERM.
const GONE: Duration = Duration::from_secs(5);

/// The user that user-mode tests belong to when the tests run as root (`tests/run` makes it).
pub(crate) fn test_user() -> Option<User> {
    let name = std::env::var("TENANTD_TEST_USER").ok()?;
    if name.is_empty() || !geteuid().is_root() {
        return None;
    }
    let user = User::from_name(&name).expect("passwd");
    Some(user.unwrap_or_else(|| panic!("there is no user {name}")))
}

/// Makes a command run as that user.
pub(crate) fn as_test_user(command: &mut Command) -> &mut Command {
    if let Some(user) = test_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Does something on a thread that is the user whom the supervisor belongs to: what the kernel notes of
/// a connection or a pipe is who made it.
pub(crate) fn as_owner<T: Send>(deed: impl FnOnce() -> T + Send) -> T {
    match test_user() {
        Some(user) => as_user(user.uid.as_raw(), user.gid.as_raw(), deed),
        None => deed(),
    }
}

/// Gives a file to who runs the supervisor.
pub(crate) fn own(path: &Path) {
    if let Some(user) = test_user() {
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
    }
}

/// A directory for everything, with the configuration that a test writes.
pub(crate) struct Home {
    root: tempfile::TempDir,
    /// Whether it is root's: a system supervisor believes no other configuration.
    system: bool,
    /// What becomes the supervisor of user mode, where that is not the binary at once.
    starter: Option<PathBuf>,
}

impl Home {
    /// An empty home, 0700, owned by who will run the supervisor. Directly below /tmp, because a
    /// socket's path has 107 bytes at most.
    pub(crate) fn new() -> Self {
        Self::of(false, 0o700)
    }

    /// As [`Home::new`], for a supervisor in system mode: root's, and others may pass through it to the
    /// sockets, as they can in a real system.
    pub(crate) fn system() -> Self {
        Self::of(true, 0o711)
    }

    /// As [`Home::new`], for a supervisor that can make no user namespace by itself, as bubblewrap can.
    pub(crate) fn with_bubblewrap() -> Self {
        let mut home = Self::new();
        home.starter = Some(child("only_bubblewrap"));
        home
    }

    fn of(system: bool, mode: u32) -> Self {
        let root = tempfile::Builder::new().prefix("td-").tempdir_in("/tmp").expect("a directory");
        let home = Self { root, system, starter: None };
        fs::set_permissions(home.path(), Permissions::from_mode(mode)).expect("chmod");
        home.own(home.path());
        home.directory("config/tenants.d");
        home
    }

    /// Its path: `TENANTD_HOME`.
    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    /// Makes a directory in it, with its parents.
    pub(crate) fn directory(&self, below: &str) -> PathBuf {
        let mut path = self.path().to_owned();
        for part in Path::new(below) {
            path.push(part);
            if !path.exists() {
                fs::create_dir(&path).expect("made");
                fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("chmod");
                self.own(&path);
            }
        }
        path
    }

    /// Writes a file in it.
    pub(crate) fn file(&self, below: &str, text: &str) -> PathBuf {
        let path = self.path().join(below);
        fs::write(&path, text).expect("written");
        self.own(&path);
        path
    }

    /// Writes a tenant's file.
    pub(crate) fn tenant(&self, id: &str, text: &str) -> &Self {
        self.file(&format!("config/tenants.d/{id}.toml"), text);
        self
    }

    /// Writes `tenantd.toml`.
    pub(crate) fn settings(&self, text: &str) -> &Self {
        self.file("config/tenantd.toml", text);
        self
    }

    /// The tenant's data directory.
    pub(crate) fn data(&self, tenant: &str) -> PathBuf {
        self.path().join("state/tenants").join(tenant).join("data")
    }

    fn own(&self, path: &Path) {
        if !self.system {
            own(path);
        }
    }

    /// The binary under test, at home here.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tenantd());
        command.args(arguments).env("TENANTD_HOME", self.path()).current_dir("/");
        as_test_user(&mut command);
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("started")
    }

    /// What `tenantd status --json` says.
    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The part of the status that is about one tenant, as soon as it is as wanted. Each look is a whole
    /// process, so that looking again and again is no busy loop.
    pub(crate) fn tenant_status(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut status = self.status();
            let tenants = status["tenants"].as_array_mut().expect("tenants");
            let found = tenants.iter_mut().find(|tenant| tenant["id"] == id).map(Value::take);
            match found {
                Some(tenant) if wanted(&tenant) => return tenant,
                _ => assert!(Instant::now() < deadline, "{id} never came to be so: {status}"),
            }
        }
    }

    /// The keeper of a tenant's one server, as soon as that runs.
    pub(crate) fn keeper(&self, tenant: &str) -> Held {
        let pid = |tenant: &Value| tenant["servers"][0]["children"][0]["pid"].as_u64();
        let status = self.tenant_status(tenant, |tenant| pid(tenant).is_some());
        let pid = pid(&status).and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
        Held::of(pid).expect("the keeper")
    }

    /// The process that the tenant's one server calls by this number: in its sandbox they are counted anew.
    pub(crate) fn process(&self, tenant: &str, number: u32) -> Held {
        let keeper = self.keeper(tenant);
        known_inside_as(number, keeper.pid)
            .unwrap_or_else(|| panic!("{tenant}: nothing below {} is {number}", keeper.pid))
    }

    /// The process of the tenant's one server: pid 1 of its sandbox starts nothing else.
    pub(crate) fn server(&self, tenant: &str) -> Held {
        self.process(tenant, 2)
    }

    /// Opens a session through `tenantd connect`.
    pub(crate) fn connect(&self, target: &str) -> Session {
        Session::spawn(self.command(&["connect", target]))
    }

    /// Starts a supervisor and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Supervisor<'_> {
        self.start_with(&[])
    }

    /// As [`Home::start`], with further arguments of `serve`.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Supervisor<'_> {
        let mut command = self.user_command(&[]);
        as_test_user(&mut command).args(arguments);
        self.launch(command)
    }

    /// What starts a supervisor in user mode, through a command that becomes it, as who runs the test.
    pub(crate) fn user_command(&self, wrapper: &[&str]) -> Command {
        self.serving(wrapper, "--user")
    }

    /// Starts a supervisor in system mode, as who runs the test: root.
    pub(crate) fn start_system(&self) -> Supervisor<'_> {
        self.start_system_under(&[])
    }

    /// As [`Home::start_system`], through a command that becomes it (`prlimit`, `env`).
    pub(crate) fn start_system_under(&self, wrapper: &[&str]) -> Supervisor<'_> {
        self.launch(self.system_command(wrapper))
    }

    /// As [`Home::start`], of another program than the one under test: a copy that can be replaced.
    pub(crate) fn start_program(&self, program: &Path) -> Supervisor<'_> {
        let mut command = Command::new(program);
        command.args(["serve", "--user"]);
        command.env("TENANTD_HOME", self.path()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        as_test_user(&mut command);
        self.launch(command)
    }

    /// What starts a supervisor in system mode.
    pub(crate) fn system_command(&self, wrapper: &[&str]) -> Command {
        self.serving(wrapper, "--system")
    }

    fn serving(&self, wrapper: &[&str], mode: &str) -> Command {
        let starter = self.starter.iter().map(|starter| starter.as_os_str());
        let program = starter.chain([tenantd().as_os_str()]);
        let mut all = wrapper.iter().map(AsRef::as_ref).chain(program);
        let mut command = Command::new(all.next().expect("the binary"));
        command.args(all).args(["serve", mode]);
        command.env("TENANTD_HOME", self.path()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a supervisor by this command and waits until it says that it is ready.
    pub(crate) fn launch(&self, mut command: Command) -> Supervisor<'_> {
        let path = self.path().join("notify");
        let _ = fs::remove_file(&path); // of a supervisor before this one
        let notify = UnixDatagram::bind(&path).expect("bound");
        self.own(&path);
        let log = self.file("serve.log", "");
        let stderr = fs::File::options().append(true).open(&log).expect("a log");
        command.env("NOTIFY_SOCKET", &path);
        let child = command.stderr(stderr).spawn();
        let mut supervisor =
            Supervisor { home: self, child: child.expect("started"), notify, stopped: false };
        supervisor.until_told("READY=1");
        supervisor
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.system {
            remove_groups(&self.path().join("state"));
        }
    }
}

/// A running supervisor; dropping it stops it and looks for what it left behind.
pub(crate) struct Supervisor<'a> {
    home: &'a Home,
    child: Child,
    notify: UnixDatagram,
    stopped: bool,
}

impl Supervisor<'_> {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens a session through `tenantd connect`.
    pub(crate) fn connect(&self, target: &str) -> Session {
        self.home.connect(target)
    }

    /// Waits for a line of sd_notify(3).
    pub(crate) fn until_told(&mut self, wanted: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut buffer = [0; 4096];
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.stopped = true;
                panic!("the supervisor ended ({status}) before {wanted}: {}", self.log());
            }
            // Short turns, so that the end of the supervisor is noticed as well.
            let turn = deadline.min(Instant::now() + Duration::from_millis(200));
            if readable(&self.notify, turn) {
                let count = self.notify.recv(&mut buffer).expect("a datagram");
                if String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == wanted) {
                    return;
                }
            } else {
                assert!(Instant::now() < deadline, "no {wanted}: {}", self.log());
            }
        }
    }

    /// What it tells systemd next, if anything within this time.
    pub(crate) fn next_word(&self, within: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        readable(&self.notify, Instant::now() + within).then(|| {
            let count = self.notify.recv(&mut buffer).expect("a datagram");
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        })
    }

    /// What it wrote to stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("serve.log")).unwrap_or_default()
    }

    /// Every process that descends from it.
    pub(crate) fn descendants(&self) -> Vec<Held> {
        descendants(self.pid())
    }

    /// Ends it by SIGTERM. Fails if anything that it started still lives five seconds later.
    pub(crate) fn stop(mut self) {
        let left = self.end();
        assert!(left.is_empty(), "left behind: {left:?}; {}", self.log());
    }

    /// SIGKILL: what it started is not its any more.
    pub(crate) fn kill(mut self) {
        self.stopped = true;
        self.child.kill().expect("killed");
        self.child.wait().expect("buried");
    }

    fn end(&mut self) -> Vec<String> {
        self.stopped = true;
        let mut held = self.descendants();
        held.extend(Held::of(self.pid()));
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        let _ = kill(pid, Signal::SIGTERM);
        let mut left = left_after(held, GONE);
        let _ = self.child.wait();
        left.extend(left_after(servers_below(self.home.path()), Duration::ZERO));
        left
    }
}

/// Servers of this home that are still there. Sessions may outlive their supervisor for a moment and
/// name the home in their environment: they are not meant.
fn servers_below(root: &Path) -> Vec<Held> {
    working_below(&root.join("state"))
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        let left = self.end();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:?}; {}", self.log());
        } else {
            eprintln!("the supervisor's log:\n{}", self.log());
        }
    }
}
