//! A person at a desktop: a uid, a home in passwd, and `/run/user/UID` after a login. No `TENANTD_HOME`:
//! every path of tenantd is where it would be for anybody.
//!
//! All of it is in a mount namespace of the test's own thread, and the uid is the test's own, so that no two
//! tests meet and nothing of the machine is changed. Only root can make a person.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::processes::{Held, left_after};
use super::session::{DEADLINE, Session};
use super::tenantd;

/// Far above the uids of people and services, and below `uid_range`.
const FIRST_UID: u32 = 100_000_000;
/// How many persons one test process can make.
const PERSONS: u32 = 64;

/// The person; its drop ends every process of the uid.
pub(crate) struct Person {
    uid: u32,
    home: tempfile::TempDir,
}

impl Person {
    /// A person who has never logged in, in a mount namespace that this thread moves to. `None`, and
    /// loudly, for a test that is not root.
    pub(crate) fn new() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root can make a user (run tests/run as root)");
            return None;
        }
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        assert!(number < PERSONS, "more persons than uids");
        let uid = FIRST_UID + std::process::id() * PERSONS + number;
        let home = tempfile::Builder::new().prefix("td-home-").tempdir_in("/tmp");
        let person = Self { uid, home: home.expect("a directory") };
        person.enter_namespace();
        person.make_own(person.home());
        person.directory(".config/tenantd/tenants.d");
        Some(person)
    }

    fn enter_namespace(&self) {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        mount(Some("tmpfs"), "/run/user", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .expect("an empty /run/user");
        let mut passwd = fs::read_to_string("/etc/passwd").expect("passwd");
        let (uid, home) = (self.uid, self.home().display());
        passwd.push_str(&format!("person-{uid}:x:{uid}:{uid}::{home}:/bin/sh\n"));
        let file = self.home().join("passwd");
        fs::write(&file, passwd).expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("chmod");
        mount(Some(&file), "/etc/passwd", none, MsFlags::MS_BIND, none).expect("bound");
    }

    /// The uid, which is the gid as well.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// The home that passwd names.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// `/run/user/UID`.
    pub(crate) fn run(&self) -> PathBuf {
        format!("/run/user/{}", self.uid).into()
    }

    /// Where the sockets are without a login.
    pub(crate) fn fallback(&self) -> PathBuf {
        format!("/tmp/tenantd-{}", self.uid).into()
    }

    /// Makes `/run/user/UID`, a file system of its own as systemd-logind makes it.
    pub(crate) fn log_in(&self) -> &Self {
        fs::create_dir(self.run()).expect("made");
        let options = format!("mode=700,uid={0},gid={0}", self.uid);
        mount(Some("tmpfs"), &self.run(), Some("tmpfs"), MsFlags::empty(), Some(&*options))
            .expect("mounted");
        self
    }

    /// Takes `/run/user/UID` away with everything in it.
    pub(crate) fn log_out(&self) {
        umount2(&self.run(), MntFlags::MNT_DETACH).expect("unmounted");
        fs::remove_dir(self.run()).expect("removed");
    }

    /// Makes a directory of the person's own in the home, with its parents.
    pub(crate) fn directory(&self, below: &str) -> PathBuf {
        let mut path = self.home().to_owned();
        for part in Path::new(below) {
            path.push(part);
            if !path.exists() {
                fs::create_dir(&path).expect("made");
                self.make_own(&path);
            }
        }
        path
    }

    /// Gives a file or directory to the person, closed to others.
    pub(crate) fn make_own(&self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.uid)).expect("chown");
        fs::set_permissions(path, Permissions::from_mode(0o700)).expect("chmod");
    }

    /// Writes a tenant's file.
    pub(crate) fn tenant(&self, id: &str, text: &str) -> &Self {
        let path = self.home().join(format!(".config/tenantd/tenants.d/{id}.toml"));
        fs::write(&path, text).expect("written");
        self.make_own(&path);
        self
    }

    /// A program with the least environment that a client leaves its servers, as the person.
    pub(crate) fn program(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        command.uid(self.uid).gid(self.uid);
        command
    }

    /// The binary under test with that environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(tenantd());
        command.args(arguments);
        command
    }

    /// Starts a command with pipes of the person's.
    pub(crate) fn spawn(&self, command: Command) -> Session {
        Session::spawn_with_pipes_of((self.uid, self.uid), command)
    }

    /// `tenantd connect TARGET`, as [`Person::command`].
    pub(crate) fn connect(&self, target: &str) -> Session {
        self.spawn(self.command(&["connect", target]))
    }

    /// Runs the binary to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("started")
    }

    /// What `tenantd status --json` says, or its exit code and stderr.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let output = self.output(&["status", "--user", "--json"]);
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The supervisor that the person's clients find. Each look is a whole process, so that looking again
    /// and again is no busy loop.
    pub(crate) fn supervisor(&self) -> Held {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.status();
            let pid = status.as_ref().ok().and_then(|status| status["supervisor"]["pid"].as_u64());
            match pid.and_then(|pid| Held::of(u32::try_from(pid).ok()?)) {
                Some(held) => return held,
                None => assert!(Instant::now() < deadline, "no supervisor: {status:?}"),
            }
        }
    }

    /// Every process of the person.
    pub(crate) fn processes(&self) -> Vec<Held> {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let numbers = entries.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("status")).ok()?;
            let uids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            uids.split_whitespace().any(|uid| uid == self.uid.to_string()).then_some(pid)
        });
        numbers.filter_map(Held::of).collect()
    }

    /// The person's supervisors: those who serve and those who only tried.
    pub(crate) fn supervisors(&self) -> Vec<Held> {
        let serves = |held: &Held| {
            let line = fs::read(format!("/proc/{}/cmdline", held.pid)).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"serve")
        };
        self.processes().into_iter().filter(serves).collect()
    }

    /// Waits until a file is there, or is not.
    pub(crate) fn until_exists(&self, path: &Path, there: bool) {
        let deadline = Instant::now() + DEADLINE;
        while path.symlink_metadata().is_ok() != there {
            assert!(Instant::now() < deadline, "{} there: {}", path.display(), !there);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let stopped = self.output(&["stop", "--user"]).status.success();
        let left = left_after(self.processes(), Duration::from_secs(5));
        // The thread may be another person's next.
        let _ = umount2("/etc/passwd", MntFlags::MNT_DETACH);
        let _ = umount2("/run/user", MntFlags::MNT_DETACH);
        // Only what the person made there: a test may have put something else in its place.
        if self.fallback().symlink_metadata().is_ok_and(|meta| meta.uid() == self.uid) {
            let _ = fs::remove_dir_all(self.fallback());
        }
        if !std::thread::panicking() && stopped {
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}
