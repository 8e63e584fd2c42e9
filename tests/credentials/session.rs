//! A person's session without a display: a bus and GNOME Keyring on it, ended with the test.
//!
//! The bus starts nothing by itself (its configuration names no services), so that nothing outlives a test.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tenantd::wire::Identity;
use tenantd::wire::credential::StorePlan;

use crate::role::Stage;
use crate::support::{as_test_user, own, test_user, wait_until};

const PASSWORD: &[u8] = b"the person's password";

/// A session with a bus.
pub(crate) struct PersonsSession {
    root: tempfile::TempDir,
    bus: Option<Child>,
    keyring: Option<Child>,
}

impl PersonsSession {
    /// A session with a bus on which nobody is.
    pub(crate) fn new() -> Self {
        let mut session = Self::without_bus();
        let config = session.path("bus.conf");
        let text = format!(
            r#"<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
            <policy context="default"><allow send_destination="*" eavesdrop="true"/>
            <allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"#,
            session.path("bus").display()
        );
        fs::write(&config, text).expect("written");
        own(&config);
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg(format!("--config-file={}", config.display()));
        session.bus = Some(session.spawn(&mut command, b""));
        let bus = session.path("bus");
        wait_until("the bus is there", || std::os::unix::net::UnixStream::connect(&bus).is_ok());
        session
    }

    /// A session in which not even a bus is.
    pub(crate) fn without_bus() -> Self {
        let root = tempfile::Builder::new().prefix("td-").tempdir_in("/tmp").expect("a directory");
        fs::set_permissions(root.path(), PermissionsExt::from_mode(0o700)).expect("set");
        own(root.path());
        Self { root, bus: None, keyring: None }
    }

    /// A session whose keyring is open.
    pub(crate) fn unlocked() -> Self {
        let mut session = Self::new();
        session.start_keyring(true);
        session
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.path("bus").display())
    }

    /// The store that is in it, opened by a role that becomes the person.
    pub(crate) fn stage(&self) -> Stage {
        let mut stage = Stage::new(StorePlan::SecretService { bus: self.address() });
        stage.identity = test_user().map(|user| Identity {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: vec![user.gid.as_raw()],
        });
        stage
    }

    /// Starts GNOME Keyring; its first start makes the person's keyring.
    pub(crate) fn start_keyring(&mut self, unlock: bool) {
        let mut command = Command::new("gnome-keyring-daemon");
        command.args(["--foreground", "--components=secrets"]);
        let password = if unlock { PASSWORD } else { b"" };
        if unlock {
            command.arg("--unlock");
        }
        self.keyring = Some(self.spawn(&mut command, password));
        wait_until("the keyring is on the bus", || self.owned("org.freedesktop.secrets"));
    }

    /// Ends GNOME Keyring as a logout does.
    pub(crate) fn stop_keyring(&mut self) {
        end(&mut self.keyring);
        wait_until("the keyring has left the bus", || !self.owned("org.freedesktop.secrets"));
    }

    /// Whether somebody on the bus has this name.
    pub(crate) fn owned(&self, name: &str) -> bool {
        let mut command = Command::new("dbus-send");
        command.arg(format!("--bus={}", self.address())).args([
            "--print-reply=literal",
            "--reply-timeout=5000",
            "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.NameHasOwner",
            &format!("string:{name}"),
        ]);
        let answer = as_test_user(&mut command).output().expect("dbus-send");
        String::from_utf8_lossy(&answer.stdout).contains("boolean true")
    }

    /// Starts a program in this session. Nothing of the test's own is left open in it.
    pub(crate) fn spawn(&self, command: &mut Command, input: &[u8]) -> Child {
        let log = fs::File::create(self.path("log")).expect("a log");
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.root.path())
            .env("XDG_RUNTIME_DIR", self.root.path())
            .env("DBUS_SESSION_BUS_ADDRESS", self.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let mut child = as_test_user(command).spawn().expect("started");
        child.stdin.take().expect("a pipe").write_all(input).expect("written");
        child
    }
}

impl Drop for PersonsSession {
    fn drop(&mut self) {
        end(&mut self.keyring);
        end(&mut self.bus);
    }
}

/// Ends a program of ours, by its own pid.
fn end(child: &mut Option<Child>) {
    let Some(mut child) = child.take() else { return };
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < until {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        std::thread::yield_now();
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Whether a file below a directory holds these bytes.
pub(crate) fn holds(below: &Path, planted: &[u8]) -> bool {
    fs::read_dir(below).expect("listed").flatten().any(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holds(&path, planted),
            Ok(kind) if kind.is_file() => fs::read(&path)
                .is_ok_and(|bytes| bytes.windows(planted.len()).any(|part| part == planted)),
            _ => false,
        }
    })
}
