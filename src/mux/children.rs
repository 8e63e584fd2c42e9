//! The descriptors of running servers and the tasks that read and write them.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_local;

use super::driver::{Driver, Tasks};
use super::exchange::Exchange;
use super::log::LINE;
use super::outbox::{ChildId, End};
use super::pipe::{Input, Output, Turn};
use crate::mcp::line::{Framer, Line};
use crate::names::ServerName;
use crate::post;
use crate::sys;
use crate::wire::FromMux;
use crate::wire::stage::{KEEPER_TERM, KeeperWord};

/// How long after the end of its stdout a server's keeper has to say that it died.
const SILENCE: Duration = Duration::from_millis(80);

/// One child's descriptors. Dropping them ends the lifeline: its keeper kills what is left.
pub(super) struct ChildWire {
    /// With its writer task, which would keep it open.
    stdin: Option<(Rc<Output>, Tasks)>,
    lifeline: Rc<AsyncFd<OwnedFd>>,
    pub(super) pidfd: Rc<OwnedFd>,
    stopping: Cell<bool>,
    _tasks: Tasks,
}

impl ChildWire {
    /// The server's stdin, until it is closed.
    pub(super) fn stdin(&self) -> Option<Rc<Output>> {
        self.stdin.as_ref().map(|(output, _)| output.clone())
    }
}

/// A server's stdout or stderr, which two tasks read: one as it comes, one to the end after the death.
struct Stream {
    input: Input,
    framer: RefCell<Framer>,
}

impl Stream {
    fn new(from: OwnedFd, longest: usize) -> io::Result<Rc<Self>> {
        let framer = RefCell::new(Framer::new(longest));
        Ok(Rc::new(Self { input: Input::new(from)?, framer }))
    }
}

impl Driver {
    /// Takes a child over: stdin, stdout, stderr, lifeline and its keeper's pidfd.
    pub(super) fn adopt_child(
        self: &Rc<Self>,
        id: ChildId,
        pid: i32,
        program: String,
        [stdin, stdout, stderr, lifeline, pidfd]: [OwnedFd; 5],
    ) -> io::Result<()> {
        let Some(server) =
            self.exchange.borrow().children.get(&id).map(|child| child.slot.server.clone())
        else {
            // Nobody wants it any more; without its lifeline it ends.
            return Ok(());
        };
        let stdin = Rc::new(Output::new(stdin)?);
        let lifeline = Rc::new(sys::watch(lifeline)?);
        let limit = self.exchange.borrow().line_limit();
        let (stdout, stderr) = (Stream::new(stdout, limit)?, Stream::new(stderr, LINE)?);
        let mut writer = Tasks::default();
        writer.spawn(self.clone().write_on(End::Child(id), stdin.clone()));
        let mut tasks = Tasks::default();
        tasks.spawn(self.clone().read_server(id, stdout.clone()));
        tasks.spawn(self.clone().read_stderr(id, server.clone(), stderr.clone()));
        tasks.spawn(self.clone().watch_keeper(id, server, lifeline.clone(), [stdout, stderr]));
        let wire = ChildWire {
            stdin: Some((stdin, writer)),
            lifeline,
            pidfd: Rc::new(pidfd),
            stopping: Cell::new(false),
            _tasks: tasks,
        };
        self.children.borrow_mut().insert(id, wire);
        self.with(|exchange, now| exchange.child_started(id, pid, program, now));
        Ok(())
    }

    async fn read_server(self: Rc<Self>, id: ChildId, stdout: Rc<Stream>) {
        let read = |exchange: &mut Exchange, line: Line<'_>, now| {
            exchange.child_line(id, line, now);
        };
        while self.read_chunk(&stdout.input, &stdout.framer, read).await != Turn::Over {
            // A changed configuration may have changed it.
            stdout.framer.borrow_mut().set_limit(self.exchange.borrow().line_limit());
        }
        // Usually its keeper tells of its death now. If not, it lives on and can never answer again.
        tokio::time::sleep(SILENCE).await;
        let stopping = self.children.borrow().get(&id).is_some_and(|wire| wire.stopping.get());
        if !stopping {
            self.with(|exchange, now| {
                exchange.child_ended(id, "it closed its stdout and lived on", false, now);
            });
        }
    }

    async fn read_stderr(self: Rc<Self>, id: ChildId, server: ServerName, stderr: Rc<Stream>) {
        loop {
            let mut lines = Vec::new();
            let read = |_: &mut Exchange, line: Line<'_>, _| lines.push(kept(line));
            let turn = self.read_chunk(&stderr.input, &stderr.framer, read).await;
            self.hear_stderr(id, &server, lines);
            if turn == Turn::Over {
                return;
            }
        }
    }

    fn hear_stderr(&self, id: ChildId, server: &ServerName, lines: Vec<Vec<u8>>) {
        for line in lines {
            self.exchange.borrow_mut().heard_stderr(id, &line);
            self.write_log(server, &line);
        }
    }

    /// Waits for the keeper's last word, or for its silence.
    async fn watch_keeper(
        self: Rc<Self>,
        id: ChildId,
        server: ServerName,
        lifeline: Rc<AsyncFd<OwnedFd>>,
        [stdout, stderr]: [Rc<Stream>; 2],
    ) {
        let word = loop {
            let Ok(mut ready) = lifeline.readable().await else { return };
            let mut buffer = [0; 4096];
            match post::receive::<KeeperWord>(&lifeline, &mut buffer, RecvFlags::DONTWAIT) {
                // It lives; its end is still to come.
                Ok((KeeperWord::Confined { .. }, _)) => {}
                Ok((KeeperWord::Limited { what }, _)) => self.limited(id, &server, what),
                Ok((word, _)) => break Some(word),
                Err(post::PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                Err(_) => break None,
            }
        };
        // What it said before it died still counts.
        let read = |exchange: &mut Exchange, line: Line<'_>, now| {
            exchange.child_line(id, line, now);
        };
        while let (Turn::Some(_), _) = self.read_now(&stdout.input, &stdout.framer, read) {}
        let mut lines = Vec::new();
        let mut read = |_: &mut Exchange, line: Line<'_>, _| lines.push(kept(line));
        while let (Turn::Some(_), _) = self.read_now(&stderr.input, &stderr.framer, &mut read) {}
        self.hear_stderr(id, &server, lines);
        let (reason, permanent) = last_word(word);
        self.with(|exchange, now| exchange.child_ended(id, &reason, permanent, now));
    }

    /// A limit was met and the server runs on: whoever looks after it is told, its sessions by itself.
    fn limited(&self, id: ChildId, server: &ServerName, what: String) {
        self.exchange.borrow_mut().child_limited(id, &what);
        self.tell(&FromMux::Limited { child: id, server: server.clone(), what });
    }

    /// Closes the server's stdin; after a while asks for SIGTERM; after another has it killed.
    pub(super) fn stop_child(self: &Rc<Self>, id: ChildId, patience: Duration) {
        let mut children = self.children.borrow_mut();
        let Some(wire) = children.get_mut(&id) else { return };
        if wire.stopping.replace(true) {
            return;
        }
        wire.stdin = None;
        let lifeline = Rc::downgrade(&wire.lifeline);
        spawn_local(async move {
            tokio::time::sleep(patience).await;
            let Some(line) = lifeline.upgrade() else { return };
            // A keeper that is gone has nobody left to ask.
            let _ = sys::send_datagram(line.as_fd(), KEEPER_TERM, &[], SendFlags::DONTWAIT);
            drop(line);
            tokio::time::sleep(patience).await;
            if let Some(line) = lifeline.upgrade() {
                // Its keeper sees the end, kills, and can still say how it went.
                let _ = rustix::net::shutdown(line.as_fd(), Shutdown::Write);
            }
        });
    }
}

/// What is kept of a line of stderr.
fn kept(line: Line<'_>) -> Vec<u8> {
    match line {
        Line::Whole(line) => line.to_vec(),
        Line::TooLong(_) => b"tenantd: a line was too long to keep".to_vec(),
    }
}

/// Exit codes of a command line that another try does not mend: usage and configuration (sysexits(3)),
/// not executable and not found (POSIX, Shell Command Language, 2.8.2).
const POINTLESS: [i32; 4] = [64, 78, 126, 127];

/// How the server ended, and whether another start is pointless.
fn last_word(word: Option<KeeperWord>) -> (String, bool) {
    match word {
        Some(KeeperWord::Exited { code }) => {
            (format!("it exited with code {code}"), POINTLESS.contains(&code))
        }
        Some(KeeperWord::Signalled { signal }) => (format!("it was ended by {signal}"), false),
        Some(KeeperWord::NotStarted { reason, permanent }) => (reason, permanent),
        Some(KeeperWord::OutOfMemory) => {
            let said = "it was killed for want of memory (raise quota.memory)";
            (said.to_owned(), false)
        }
        Some(KeeperWord::Confined { .. } | KeeperWord::Limited { .. }) | None => {
            ("its keeper was killed".to_owned(), false)
        }
    }
}
