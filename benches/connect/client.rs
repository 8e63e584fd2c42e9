//! The measuring client: blocking reads and writes on one thread, nothing decoded, nothing allocated for
//! a call. What it costs itself is the same on both sides of a comparison.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const DISCOVER: &str = r#"{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;
const READY: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const MODERN_LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;
const ECHO: &str =
    r#""method":"tools/call","params":{"name":"echo","arguments":{"text":"The quick brown fox"}}}"#;
const MODERN_ECHO: &str = r#""method":"tools/call","params":{"name":"echo","arguments":{"text":"The quick brown fox"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;
const BIG: &str = r#""method":"tools/call","params":{"name":"big","arguments":{}}}"#;
/// How long the slowest answer may take before the benchmark gives up, milliseconds.
const PATIENCE_MS: u16 = 30_000;

/// Which of the two eras of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

/// One session with one process.
pub(crate) struct Client {
    child: Child,
    stdin: File,
    stdout: File,
    buffer: Vec<u8>,
    /// How many bytes of the buffer are read and not yet taken.
    filled: usize,
    line: Vec<u8>,
    next_id: u64,
    echo: &'static str,
}

impl Client {
    /// Starts the process; the handshake is not done yet.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = OwnedFd::from(child.stdin.take().expect("a pipe")).into();
        let stdout = OwnedFd::from(child.stdout.take().expect("a pipe")).into();
        let buffer = vec![0; 256 * 1024];
        Self { child, stdin, stdout, buffer, filled: 0, line: Vec::new(), next_id: 2, echo: ECHO }
    }

    /// Starts the process and opens the session.
    pub(crate) fn open(command: Command) -> Self {
        let mut client = Self::spawn(command);
        client.greet();
        client
    }

    /// Starts the process and opens a session of that era.
    pub(crate) fn open_as(era: Era, command: Command) -> Self {
        if era == Era::Legacy {
            return Self::open(command);
        }
        let mut client = Self { echo: MODERN_ECHO, ..Self::spawn(command) };
        for line in [DISCOVER, MODERN_LIST] {
            client.write(&format!("{line}\n"));
            client.answer();
        }
        client
    }

    /// The handshake and the first list of tools.
    pub(crate) fn greet(&mut self) {
        self.write(&format!("{HELLO}\n"));
        self.answer();
        self.write(&format!("{READY}\n{LIST}\n"));
        self.answer();
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its answers.
    pub(crate) fn answers(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    fn write(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).expect("written");
    }

    /// Sends a call of `echo`.
    pub(crate) fn send(&mut self) {
        self.send_call(self.echo);
    }

    fn send_call(&mut self, rest: &str) {
        self.line.clear();
        writeln!(self.line, r#"{{"jsonrpc":"2.0","id":{},{rest}"#, self.next_id).expect("memory");
        self.next_id += 1;
        self.stdin.write_all(&self.line).expect("written");
    }

    /// Reads once and returns how many answers are complete with that.
    pub(crate) fn take_answers(&mut self) -> usize {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        let count = self.stdout.read(&mut self.buffer[self.filled..]).expect("read");
        assert!(
            count > 0,
            "the session ended: {}",
            String::from_utf8_lossy(&self.buffer[..self.filled])
        );
        let new = &self.buffer[self.filled..self.filled + count];
        let lines = memchr::memchr_iter(b'\n', new).count();
        let after = memchr::memrchr(b'\n', new).map(|at| self.filled + at + 1);
        self.filled += count;
        if let Some(after) = after {
            self.check(after);
            self.buffer.copy_within(after..self.filled, 0);
            self.filled -= after;
        }
        lines
    }

    /// An error instead of a result would be measured as a very quick one.
    fn check(&self, end: usize) {
        let line = &self.buffer[..end];
        let head = &line[..line.len().min(200)];
        let refused = memchr::memmem::find(head, br#""error":"#).is_some();
        assert!(!refused, "an error: {}", String::from_utf8_lossy(head));
    }

    fn answer(&mut self) {
        while self.take_answers() == 0 {}
    }

    /// The time of each of `count` calls, one after another.
    pub(crate) fn sequential(&mut self, count: usize) -> Vec<Duration> {
        self.one_by_one(count, self.echo)
    }

    /// The time of each of `count` calls with a result of 100 KB.
    pub(crate) fn large(&mut self, count: usize) -> Vec<Duration> {
        self.one_by_one(count, BIG)
    }

    fn one_by_one(&mut self, count: usize, call: &str) -> Vec<Duration> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.send_call(call);
            self.answer();
            times.push(start.elapsed());
        }
        times
    }

    /// The time of `count` calls of which `window` are always in flight.
    pub(crate) fn in_flight(&mut self, count: usize, window: usize) -> Duration {
        let start = Instant::now();
        let mut sent = 0;
        let mut answered = 0;
        while answered < count {
            while sent < count && sent - answered < window {
                self.send();
                sent += 1;
            }
            answered += self.take_answers();
        }
        start.elapsed()
    }

    /// Closes the session and waits for the process.
    pub(crate) fn close(self) {
        let Self { mut child, stdin, stdout, .. } = self;
        drop((stdin, stdout));
        child.wait().expect("wait");
    }
}

/// The time of `count` calls in all, one in flight in each session.
pub(crate) fn together(clients: &mut [Client], count: usize) -> Duration {
    let start = Instant::now();
    clients.iter_mut().for_each(Client::send);
    let mut sent = clients.len();
    let mut answered = 0;
    while answered < count {
        let ready: Vec<bool> = {
            let answers = clients.iter().map(Client::answers);
            let mut fds: Vec<_> =
                answers.map(|answers| PollFd::new(answers, PollFlags::POLLIN)).collect();
            let count = poll(&mut fds, PollTimeout::from(PATIENCE_MS)).expect("poll");
            assert!(count > 0, "no answer within {PATIENCE_MS} ms");
            fds.iter().map(|fd| fd.any().unwrap_or(false)).collect()
        };
        for (client, _) in clients.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            let lines = client.take_answers();
            answered += lines;
            if lines > 0 && sent < count {
                client.send();
                sent += 1;
            }
        }
    }
    start.elapsed()
}
