//! A raw MCP client: lines in, lines out, nothing decoded unless a test asks.
//!
//! Every read has a deadline, so that a hang is a failed test with a reason.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::home::as_owner;
use super::weapon::as_user;

/// How long anything may take before a test fails: far more than a loaded machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The newest protocol version with a handshake.
pub(crate) const LEGACY: &str = "2025-11-25";
/// The newest protocol version, without one.
pub(crate) const MODERN: &str = "2026-07-28";

/// Waits until `fd` can be read (or is at its end); `false` at the deadline.
pub(crate) fn readable(fd: impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return true,
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// The lines of a descriptor, each within a deadline.
pub(crate) struct Lines {
    file: File,
    buffer: VecDeque<u8>,
}

impl Lines {
    pub(crate) fn new(fd: impl Into<OwnedFd>) -> Self {
        Self { file: fd.into().into(), buffer: VecDeque::new() }
    }

    /// The next line without its end, within the deadline; `None` at the end of the stream.
    pub(crate) fn next(&mut self, within: Duration) -> Option<String> {
        match self.try_next(within) {
            Ok(line) => line,
            Err(()) => panic!(
                "no line within {within:?}; unfinished: {:?}",
                String::from_utf8_lossy(self.buffer.make_contiguous())
            ),
        }
    }

    /// As [`Lines::next`], but `Err` at the deadline.
    pub(crate) fn try_next(&mut self, within: Duration) -> Result<Option<String>, ()> {
        let deadline = Instant::now() + within;
        let mut searched = 0;
        loop {
            let unseen = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n');
            if let Some(at) = unseen {
                let mut line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                line.pop();
                return Ok(Some(String::from_utf8(line).expect("a line of UTF-8")));
            }
            searched = self.buffer.len();
            if !readable(&self.file, deadline) {
                return Err(());
            }
            let mut chunk = [0; 64 * 1024];
            match self.file.read(&mut chunk).expect("read") {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => panic!("the stream ended in the middle of a line"),
                count => self.buffer.extend(&chunk[..count]),
            }
        }
    }
}

/// Which protocol a session speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// With a handshake, up to 2025-11-25.
    Legacy,
    /// With `_meta` in every request, from 2026-07-28 on.
    Modern,
}

/// One raw client and the process that it talks to.
pub(crate) struct Session {
    child: Child,
    stdin: Option<File>,
    stdout: Lines,
    stderr: tempfile::NamedTempFile,
    era: Era,
    next_id: u64,
    /// What came that was no answer to the request waited for.
    pub(crate) aside: Vec<Value>,
}

impl Session {
    /// Starts `command` with pipes, which are the owner's: a supervisor opens them anew.
    pub(crate) fn spawn(command: Command) -> Self {
        as_owner(|| Self::spawn_as_is(command))
    }

    /// Starts `command` with pipes of who asks.
    pub(crate) fn spawn_as_is(mut command: Command) -> Self {
        let stderr = tempfile::NamedTempFile::new().expect("a temporary file");
        let log = File::options().append(true).open(stderr.path()).expect("an open file");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let spawned = command.spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = OwnedFd::from(child.stdin.take().expect("a pipe")).into();
        let stdout = Lines::new(child.stdout.take().expect("a pipe"));
        let aside = Vec::new();
        Self { child, stdin: Some(stdin), stdout, stderr, era: Era::Legacy, next_id: 1, aside }
    }

    /// As [`Session::spawn`], with pipes of this uid and gid and an environment, ids and namespaces that
    /// are those of `command`.
    pub(crate) fn spawn_with_pipes_of(who: (u32, u32), mut command: Command) -> Self {
        let pipes = || (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
        let ((stdin, to), (from, stdout)) = as_user(who.0, who.1, pipes);
        let stderr = tempfile::NamedTempFile::new().expect("a temporary file");
        let log = File::options().append(true).open(stderr.path()).expect("an open file");
        command.stdin(stdin).stdout(stdout).stderr(log);
        let spawned = command.spawn();
        let child = spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let (stdin, stdout) = (Some(OwnedFd::from(to).into()), Lines::new(from));
        Self { child, stdin, stdout, stderr, era: Era::Legacy, next_id: 1, aside: Vec::new() }
    }

    /// The process id of what was started.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line.
    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    /// Sends one line to a session that may be over.
    pub(crate) fn try_send(&mut self, line: &str) -> std::io::Result<()> {
        self.stdin.as_mut().expect("an open session").write_all(format!("{line}\n").as_bytes())
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let written = self.stdin.as_mut().expect("an open session").write_all(bytes);
        written.unwrap_or_else(|error| panic!("cannot send: {error}; stderr: {}", self.stderr()));
    }

    /// Sends one message.
    pub(crate) fn send_json(&mut self, message: &Value) {
        self.send(&message.to_string());
    }

    /// The next line; `None` at the end of the stream. Fails at the deadline.
    pub(crate) fn recv(&mut self) -> Option<String> {
        self.recv_within(DEADLINE)
    }

    /// As [`Session::recv`], with a deadline of the test's own.
    pub(crate) fn recv_within(&mut self, within: Duration) -> Option<String> {
        match self.stdout.try_next(within) {
            Ok(line) => line,
            Err(()) => panic!("no line within {within:?}; stderr: {}", self.stderr()),
        }
    }

    /// The next message, decoded.
    pub(crate) fn recv_json(&mut self) -> Value {
        let line = self.recv().unwrap_or_else(|| panic!("the end; stderr: {}", self.stderr()));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next message for which `wanted` holds; others are put aside.
    pub(crate) fn recv_until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.aside.iter().position(&wanted) {
            return self.aside.remove(at);
        }
        loop {
            let message = self.recv_json();
            if wanted(&message) {
                return message;
            }
            self.aside.push(message);
        }
    }

    /// The next notification or request of this method; others are put aside.
    pub(crate) fn recv_method(&mut self, method: &str) -> Value {
        self.recv_until(|message| message["method"] == method)
    }

    /// Sends a request with an id of its own and returns the id; parameters as the era has them.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = json!(self.next_id);
        self.next_id += 1;
        let params = self.params(params);
        self.send_json(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The answer to the request with this id.
    pub(crate) fn answer(&mut self, id: &Value) -> Value {
        self.recv_until(|message| message["id"] == *id && message.get("method").is_none())
    }

    /// Sends a request and returns its answer, the whole message.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        self.answer(&id)
    }

    /// Sends a request and returns the `result` of its answer; an error fails the test.
    pub(crate) fn result(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.request(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Calls a tool and returns the `result`.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Sends a notification.
    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.send_json(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The legacy handshake, with these client capabilities; returns the whole answer.
    pub(crate) fn initialize(&mut self, capabilities: Value) -> Value {
        let answer = self.request(
            "initialize",
            json!({
                "protocolVersion": LEGACY,
                "capabilities": capabilities,
                "clientInfo": {"name": "raw", "version": "1"},
            }),
        );
        self.notify("notifications/initialized", json!({}));
        answer
    }

    /// `server/discover`; the session is modern from here on. Returns the whole answer.
    pub(crate) fn discover(&mut self) -> Value {
        self.era = Era::Modern;
        self.request("server/discover", json!({}))
    }

    /// Opens a session of the era: the handshake or the discovery.
    pub(crate) fn open(&mut self, era: Era) -> Value {
        match era {
            Era::Legacy => self.initialize(json!({})),
            Era::Modern => self.discover(),
        }
    }

    fn params(&self, mut params: Value) -> Value {
        if self.era == Era::Modern {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            let mine = meta.as_object().expect("an object").clone();
            match &mut params["_meta"] {
                Value::Object(given) => mine.into_iter().for_each(|(key, value)| {
                    given.entry(key).or_insert(value);
                }),
                absent => *absent = meta,
            }
        }
        params
    }

    /// Closes our end of its stdin.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Closes stdin, reads what still comes, and waits for the end of the process.
    pub(crate) fn close(mut self) -> ExitStatus {
        self.hang_up();
        while self.recv().is_some() {}
        self.child.wait().expect("wait")
    }

    /// Waits for the process after its stdout has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        while self.recv().is_some() {}
        self.child.wait().expect("wait")
    }

    /// Kills the process, as a client that crashes.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// What the process wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        let bytes = std::fs::read(self.stderr.path()).expect("read");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The text of a tool's result.
#[track_caller]
pub(crate) fn said(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}"))
}
