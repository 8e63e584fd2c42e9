//! The doors under attack: what one local user can do to keep tenantd from serving another.
//!
//! Each test attacks a real supervisor in system mode as one user, feels the pulse of its loop meanwhile,
//! and opens sessions as another user. Only root can be two users: skipped, loudly, for anybody else.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod backlog;
mod flood;
mod nobodies;
mod pipes;
mod sessions;
mod shortage;
mod silence;
mod watchdog;
mod weapons;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;
use serde_json::{Value, json};
use support::{
    Era, Home, Pulse, Session, Supervisor, Thing, as_user, ask_door, documents_tenant, knock,
    send_with, tenantd, test_user, while_stopped,
};

/// Who is served while the other user attacks; needs no name.
const OTHER: u32 = 65_533;
/// How long a session may take to open while another user attacks: far more than a loaded machine needs,
/// far less than any attack here lasts.
const PROMPT: Duration = Duration::from_secs(3);
/// Connections of one user that are attended at a time at the session door.
const SEATS: usize = 8;
/// Connections of one user that wait for a seat there.
const CHAIRS: usize = 64;
/// A request for a session of `acme`.
const OPEN: &[u8] = br#"{"do":"open","target":"acme","strict":false}"#;
/// A whole question at the control door.
const LIST: &[u8] = b"{\"method\":\"io.tenantd.Supervisor.ListTenants\"}\0";

/// The uid of the attacker; none where a test cannot be two users.
fn attacker() -> Option<u32> {
    let root = nix::unistd::geteuid().is_root();
    let user = test_user().map(|user| user.uid.as_raw());
    if user.is_none() {
        let in_ci = root && std::env::var_os("CI").is_some();
        assert!(!in_ci, "set TENANTD_TEST_USER: in CI nothing is skipped");
        eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    }
    user
}

/// A system home with one tenant that attacker and bystander may use.
fn home(attacker: u32) -> Home {
    let home = Home::system();
    home.tenant("acme", &granted(&documents_tenant(), &[attacker, OTHER]));
    home
}

fn granted(tenant: &str, uids: &[u32]) -> String {
    let users: Vec<_> = uids.iter().map(|uid| format!("\"{uid}\"")).collect();
    format!("{tenant}[[grant]]\nusers = [{}]\n", users.join(", "))
}

/// A supervisor under attack.
struct Arena<'a> {
    home: &'a Home,
    attacker: u32,
    supervisor: Supervisor<'a>,
}

impl<'a> Arena<'a> {
    /// Starts the supervisor, through a command that becomes it, and the tenant's mux.
    fn new(home: &'a Home, attacker: u32, wrapper: &[&str]) -> Self {
        Self::around(home, attacker, home.start_system_under(wrapper))
    }

    fn around(home: &'a Home, attacker: u32, supervisor: Supervisor<'a>) -> Self {
        let arena = Self { home, attacker, supervisor };
        arena.assert_serves();
        arena
    }

    fn session_door(&self) -> PathBuf {
        self.home.path().join("run/session.sock")
    }

    fn control_door(&self) -> PathBuf {
        self.home.path().join("run/tenantd.sock")
    }

    fn pulse(&self) -> Pulse {
        Pulse::of(&self.control_door())
    }

    /// Does something while the supervisor cannot look.
    fn surprised<T>(&self, pulse: &Pulse, deed: impl FnOnce() -> T) -> T {
        pulse.hushed(|| while_stopped(self.supervisor.pid(), deed))
    }

    fn as_attacker<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        as_user(self.attacker, self.attacker, deed)
    }

    /// Sends a datagram to the session door as the attacker. Whether it was taken is not said: the door
    /// may have turned the connection away before.
    fn throw(&self, bytes: &[u8], with: &[&OwnedFd]) -> OwnedFd {
        self.as_attacker(|| {
            let connection = knock(&self.session_door());
            let with: Vec<_> = with.iter().map(|fd| fd.as_fd()).collect();
            let _ = send_with(&connection, bytes, &with, MsgFlags::empty());
            connection
        })
    }

    /// As many connections of the attacker that say nothing.
    fn silent(&self, count: usize) -> Vec<OwnedFd> {
        self.as_attacker(|| (0..count).map(|_| knock(&self.session_door())).collect())
    }

    /// Opens a session as this user, in time.
    #[track_caller]
    fn assert_opens(&self, uid: u32) {
        let since = Instant::now();
        let answer = as_user(uid, uid, || open(&self.session_door()));
        assert_eq!(answer["is"], "open", "{uid}: {answer}");
        assert!(since.elapsed() < PROMPT, "{uid} waited for {:?}", since.elapsed());
    }

    /// A whole session of the bystander, through `tenantd connect`.
    fn assert_serves(&self) {
        let mut session = self.connect(OTHER, "acme");
        session.open(Era::Modern);
        let result = session.call("echo", json!({"text": "well"}));
        assert_eq!(result["content"][0]["text"], "well");
        session.close();
    }

    fn connect(&self, uid: u32, target: &str) -> Session {
        let mut command = std::process::Command::new(tenantd());
        command.args(["connect", "--system", target]).current_dir("/");
        command.env("TENANTD_HOME", self.home.path());
        as_user(uid, uid, || Session::spawn_as_is(command))
    }
}

/// What the door answers to three good descriptors.
fn open(door: &std::path::Path) -> Value {
    let mut kept = Vec::new();
    let nowhere = PathBuf::new();
    let three = [Thing::ReadEnd, Thing::WriteEnd, Thing::Socket];
    let three = three.map(|thing| thing.make(&nowhere, &mut kept));
    ask_door(door, OPEN, &three).expect("an answer")
}
