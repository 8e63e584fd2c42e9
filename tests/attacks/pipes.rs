//! What a client does to its own pipes and sockets while the mux writes to them: the tenant's other
//! sessions notice nothing.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, kill};
use rustix::fs::OFlags;

use super::*;
use crate::support::{DEADLINE, Lines, as_owner, puppet_tenant, readable};

/// How long an answer to another session may take: a mux that blocks does not answer at all.
const ANSWERS: Duration = Duration::from_secs(3);
/// More than pipe, socket and queue of a session hold together, bytes.
const FLOOD: usize = 1_000_000;

/// A client that holds its own ends, and copies of those that it handed over.
pub(crate) struct Client {
    pub(crate) to: File,
    pub(crate) from: Option<OwnedFd>,
    pub(crate) lifeline: UnixStream,
    /// What it handed over: stdin, stdout.
    pub(crate) given: Vec<OwnedFd>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Pipes,
    Sockets,
}

impl Client {
    /// Opens a session by hand and greets.
    pub(crate) fn open(home: &Home, kind: Kind) -> Self {
        let pair = || -> (OwnedFd, OwnedFd) {
            match kind {
                Kind::Pipes => rustix::pipe::pipe().expect("a pipe"),
                Kind::Sockets => {
                    let (near, far) = UnixStream::pair().expect("a pair");
                    (near.into(), far.into())
                }
            }
        };
        as_owner(|| {
            let ((stdin, to), (from, stdout)) = (pair(), pair());
            let (lifeline, theirs) = UnixStream::pair().expect("a pair");
            let given = vec![stdin, stdout];
            let door = knock(&home.path().join("run/session.sock"));
            let three = [given[0].as_fd(), given[1].as_fd(), theirs.as_fd()];
            send_with(&door, OPEN, &three, MsgFlags::empty()).expect("sent");
            let answer = crate::support::door_answer(&door).expect("an answer");
            assert_eq!(answer["is"], "open", "{answer}");
            let mut client = Self { to: to.into(), from: Some(from), lifeline, given };
            client.say(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#);
            client
        })
    }

    fn say(&mut self, line: &str) {
        // A session that was closed takes nothing.
        let _ = writeln!(self.to, "{line}");
    }

    /// Asks for far more than fits.
    fn ask_for_a_flood(&mut self) {
        for id in 1..=4 {
            let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": {"name": "long", "arguments": {"bytes": FLOOD}}});
            self.say(&call.to_string());
        }
    }

    /// The flags of what was handed over, changed on the description that it has in common with us.
    fn make_blocking(&self) {
        for fd in &self.given {
            rustix::fs::fcntl_setfl(fd, OFlags::empty()).expect("set");
        }
    }

    /// Whether the mux ended the session.
    pub(crate) fn is_over(&self) -> bool {
        readable(&self.lifeline, Instant::now() + DEADLINE)
    }
}

/// One call of another session, in time.
#[track_caller]
pub(crate) fn assert_answers(other: &mut Session) {
    let since = Instant::now();
    let result = other.call("echo", json!({"text": "well"}));
    assert_eq!(result["content"][0]["text"], "well");
    assert!(since.elapsed() < ANSWERS, "{:?}", since.elapsed());
}

pub(crate) fn puppet_home() -> Home {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(&[], ""));
    home
}

pub(crate) fn other_session(supervisor: &Supervisor<'_>) -> Session {
    let mut other = supervisor.connect("acme");
    other.open(Era::Legacy);
    assert_answers(&mut other);
    other
}

#[test]
fn a_client_that_makes_its_ends_blocking_holds_up_nobody() {
    let home = puppet_home();
    let supervisor = home.start();
    let mut other = other_session(&supervisor);
    for kind in [Kind::Pipes, Kind::Sockets] {
        let mut client = Client::open(&home, kind);
        client.make_blocking();
        client.ask_for_a_flood();
        for _ in 0..20 {
            client.make_blocking();
            assert_answers(&mut other);
        }
        // Read after all, it is all there; a session that fell behind is closed, which is as good.
        let mut lines = Lines::new(client.from.take().expect("its end"));
        let greeting = lines.next(DEADLINE).expect("a line");
        assert!(greeting.contains("protocolVersion"), "{greeting}");
        assert_answers(&mut other);
    }
    supervisor.stop();
}

#[test]
fn a_client_that_shuts_its_sockets_down_ends_its_own_session() {
    use std::net::Shutdown::{Both, Read, Write};
    let home = puppet_home();
    let supervisor = home.start();
    let mut other = other_session(&supervisor);
    for how in [Read, Write, Both] {
        let mut client = Client::open(&home, Kind::Sockets);
        client.ask_for_a_flood();
        assert_answers(&mut other);
        // What it handed over is the mux's as well: both are shut down by this.
        let stdout = UnixStream::from(client.given[1].try_clone().expect("a copy"));
        let from = UnixStream::from(client.from.take().expect("its end"));
        stdout.shutdown(how).expect("shut down");
        from.shutdown(Both).expect("shut down");
        for _ in 0..10 {
            assert_answers(&mut other);
        }
        assert!(client.is_over(), "{how:?}: the session goes on to nowhere");
    }
    supervisor.stop();
}

#[test]
fn a_pipe_that_shrinks_while_the_mux_writes_gets_everything_and_holds_up_nobody() {
    let home = puppet_home();
    let supervisor = home.start();
    let mut other = other_session(&supervisor);
    let mut client = Client::open(&home, Kind::Pipes);
    let from = client.from.take().expect("its end");
    // What is in it does not fit into less: shrunk as soon as it can be, and widened, again and again.
    let resized = from.try_clone().expect("a copy");
    let resize = |bytes: usize| rustix::pipe::fcntl_setpipe_size(&resized, bytes).is_ok();
    assert!(resize(4096) || resize(1 << 16));
    client.ask_for_a_flood();
    let mut lines = Lines::new(from);
    let (mut whole, mut sizes) = (0, [4096, 1 << 20, 8192, 1 << 16].into_iter().cycle());
    while whole < 4 {
        resize(sizes.next().expect("endless"));
        let line = lines.next(DEADLINE).expect("a line");
        let message: Value = serde_json::from_str(&line).expect("whole");
        if message["id"].as_u64().is_some_and(|id| id > 0) {
            let text = message["result"]["content"][0]["text"].as_str().expect("a text");
            assert_eq!(text.len(), FLOOD);
            whole += 1;
        }
        assert_answers(&mut other);
    }
    supervisor.stop();
}

/// A client that is stopped in the middle is one that does not read: nothing waits for it, and when it
/// goes on, so does its session, or it was told why not.
#[test]
fn a_client_that_is_stopped_holds_up_nobody() {
    let home = puppet_home();
    let supervisor = home.start();
    let mut other = other_session(&supervisor);
    let mut stopped = supervisor.connect("acme");
    stopped.open(Era::Legacy);
    let id = stopped.ask("tools/call", json!({"name": "long", "arguments": {"bytes": FLOOD}}));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(stopped.pid()).expect("a pid"));
    kill(pid, Signal::SIGSTOP).expect("stopped");
    for _ in 0..20 {
        assert_answers(&mut other);
    }
    kill(pid, Signal::SIGCONT).expect("it goes on");
    let answer = stopped.answer(&id);
    assert_eq!(answer["result"]["content"][0]["text"].as_str().map(str::len), Some(FLOOD));
    supervisor.stop();
}
