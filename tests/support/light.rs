//! A client without a shim: it hands socket ends over at the session door and speaks MCP on the others.
//! For tests that need sessions by the thousand. Its caller's thread must be who owns the supervisor.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::door::ask_door;
use super::session::DEADLINE;

/// An open session.
pub(crate) struct Light {
    stream: BufReader<UnixStream>,
    lifeline: UnixStream,
}

/// Why a session ended, as its lifeline says.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reason: String,
    /// The shim's exit code; 69 where the mux died.
    pub(crate) code: u64,
}

impl Light {
    /// Opens a session; the door's answer where it refuses.
    pub(crate) fn open(door: &Path, target: &str) -> Result<Self, Value> {
        let (near, far) = UnixStream::pair().expect("a pair");
        let (lifeline, theirs) = UnixStream::pair().expect("a pair");
        for ours in [&near, &lifeline] {
            ours.set_read_timeout(Some(DEADLINE)).expect("set");
        }
        let asked = json!({"do": "open", "target": target, "strict": false}).to_string();
        let with: [OwnedFd; 3] =
            [far.try_clone().expect("cloned").into(), far.into(), theirs.into()];
        match ask_door(door, asked.as_bytes(), &with) {
            Some(answer) if answer["is"] == "open" => {
                Ok(Self { stream: BufReader::new(near), lifeline })
            }
            answer => Err(answer.unwrap_or_default()),
        }
    }

    /// Sends bytes; an end of the session shows when reading.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// Sends a request.
    pub(crate) fn ask(&mut self, id: u64, method: &str, params: Value) {
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(format!("{line}\n").as_bytes());
    }

    /// The next message; `None` at the end of the session.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no message and no end: {error}"),
        }
    }

    /// The answer to a request; other messages on the way are let pass.
    pub(crate) fn answer(&mut self, id: u64) -> Option<Value> {
        loop {
            let message = self.next()?;
            if message["id"] == id {
                return Some(message);
            }
        }
    }

    /// Shakes hands in the legacy way; false where the session ended instead.
    pub(crate) fn initialize(&mut self) -> bool {
        let client = json!({"name": "light", "version": "1"});
        let hello =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        self.ask(0, "initialize", hello);
        let greeted = self.answer(0).is_some();
        self.send(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
        greeted
    }

    /// No more requests.
    pub(crate) fn hang_up(&mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Write);
    }

    /// What the lifeline says when the session is over.
    pub(crate) fn farewell(mut self) -> Ended {
        let mut line = String::new();
        let _ = self.lifeline.read_to_string(&mut line);
        let said: Value = serde_json::from_str(line.trim()).unwrap_or_default();
        let reason = said["reason"].as_str().unwrap_or("the mux is gone").to_owned();
        Ended { reason, code: said["code"].as_u64().unwrap_or(69) }
    }
}
