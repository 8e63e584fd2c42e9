//! The exchange's rules, told with lines: no process, no clock. Each end sees exactly what is for it.

mod again;
mod any_bytes;
mod bound;
mod cache;
mod downward;
mod fairness;
mod feeds;
mod healing;
mod health;
mod inputs;
mod interleavings;
mod kept;
mod limits;
mod lists;
mod lives;
mod rounds;
mod routing;
mod storage;
mod strangers;
mod upward;

use std::time::Duration;

use serde_json::{Value, json};

use super::desk::{Desk, META, plan};
use super::outbox::{ChildId, End};
use crate::config::tenant::Share;
use crate::mcp::line::Line;
use crate::names::{ServerName, SessionId};

/// Longer than the pauses of a server that is not in a crash loop yet.
pub(super) const PAUSE: Duration = Duration::from_secs(3);

pub(super) const HELLO: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{"sampling":{}},"clientInfo":{"name":"test","version":"1"}}"#;
/// Odd on purpose: whatever is not ours to change has to come back like this.
pub(super) const RESULT: &str =
    r#"{ "n":1.0e2, "big":123456789012345678901234567890, "u":"\ud83d" }"#;

impl Desk {
    pub(super) fn new(share: Share) -> Self {
        Self::of(plan(share))
    }

    pub(super) fn open(&mut self, id: u64, uid: u32) -> SessionId {
        let holder = self.holder(uid);
        self.exchange.open(SessionId(id), ServerName::main(), holder, false, self.now);
        SessionId(id)
    }

    pub(super) fn client(&mut self, session: SessionId, line: &str) {
        self.exchange.client_line(session, Line::Whole(line.as_bytes()), self.now);
    }

    pub(super) fn server(&mut self, child: ChildId, line: &str) {
        self.exchange.child_line(child, Line::Whole(line.as_bytes()), self.now);
    }

    /// What an end was sent since it was last asked.
    pub(super) fn heard(&mut self, end: End) -> Vec<String> {
        let text = String::from_utf8(self.sent(end)).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn client_heard(&mut self, session: SessionId) -> Vec<Value> {
        values(&self.heard(End::Session(session)))
    }

    pub(super) fn server_heard(&mut self, child: ChildId) -> Vec<Value> {
        values(&self.heard(End::Child(child)))
    }

    /// The child that was asked for, started.
    pub(super) fn start(&mut self) -> ChildId {
        self.acts();
        let child = self.asked.pop().expect("a child was asked for");
        self.exchange.child_started(child, 1, "program".to_owned(), self.now);
        child
    }

    /// A child that was asked for and died before it said anything.
    pub(super) fn fall(&mut self) {
        let child = self.start();
        self.exchange.heard_stderr(child, b"cannot\x1b[31m open");
        self.exchange.child_ended(child, "it exited with code 3", false, self.now);
    }

    /// Time passes, and what is due is done.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.exchange.tick(self.now);
    }

    pub(super) fn initialize(&mut self, session: SessionId) {
        let line = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#);
        self.client(session, &line);
    }

    /// The one line that a session hears when it asks.
    pub(super) fn asked(&mut self, session: SessionId, method: &str, params: Value) -> Value {
        let line = json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": params});
        self.client(session, &line.to_string());
        let mut heard = self.client_heard(session);
        assert_eq!(heard.len(), 1, "{method}: {heard:?}");
        heard.remove(0)
    }

    /// A session that has shaken hands with a legacy server.
    pub(super) fn legacy(&mut self, id: u64, uid: u32) -> (SessionId, ChildId) {
        let session = self.open(id, uid);
        self.client(
            session,
            &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
        );
        self.acts();
        let child = if self.asked.is_empty() {
            self.exchange.ready_child(session).expect("a running child")
        } else {
            let child = self.start();
            self.shake(child);
            child
        };
        let heard = self.client_heard(session);
        assert_eq!(heard[0]["result"]["serverInfo"]["name"], "s", "{heard:?}");
        self.client(session, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        self.heard(End::Child(child));
        (session, child)
    }

    /// A legacy server's side of the handshake; gives whatever else it heard.
    pub(super) fn shake(&mut self, child: ChildId) -> Vec<Value> {
        self.shake_with(child, json!({"tools":{},"tasks":{}}))
    }

    /// As [`Desk::shake`], of a server with these capabilities.
    pub(super) fn shake_with(&mut self, child: ChildId, capabilities: Value) -> Vec<Value> {
        let mut others = Vec::new();
        for _ in 0..3 {
            for line in self.server_heard(child) {
                let id = &line["id"];
                match line["method"].as_str() {
                    Some("server/discover") => self.server(
                        child,
                        &json!({"jsonrpc":"2.0","id":id,"error":{"code":-32601,"message":"?"}})
                            .to_string(),
                    ),
                    Some("initialize") => self.server(
                        child,
                        &json!({"jsonrpc":"2.0","id":id,"result":{"protocolVersion":"2025-11-25",
                            "capabilities":capabilities,"serverInfo":{"name":"s","version":"1"}}})
                        .to_string(),
                    ),
                    _ => others.push(line),
                }
            }
        }
        others
    }

    /// The server dies in service.
    pub(super) fn kill(&mut self, child: ChildId) {
        self.exchange.child_ended(child, "it died", false, self.now);
    }

    /// The server answers a request with a result, given as raw text.
    pub(super) fn answer(&mut self, child: ChildId, asked: &Value, result: &str) {
        let id = &asked["id"];
        self.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    }

    /// A modern session on a modern server.
    pub(super) fn modern(&mut self, id: u64) -> (SessionId, ChildId) {
        let session = self.open(id, 1000);
        self.client(session, &format!(r#"{{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{{"_meta":{{{META}}}}}}}"#));
        self.acts();
        if !self.asked.is_empty() {
            let child = self.start();
            let probe = self.server_heard(child).remove(0);
            self.server(child, &discovery(&probe["id"]));
        }
        let child = self.exchange.ready_child(session).expect("a running child");
        let forwarded = self.server_heard(child).pop().expect("the client's own discover");
        self.server(child, &discovery(&forwarded["id"]));
        assert_eq!(self.client_heard(session)[0]["id"], "d");
        (session, child)
    }
}

pub(super) fn discovery(id: &Value) -> String {
    json!({"jsonrpc":"2.0","id":id,"result":{"resultType":"complete",
        "supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,
        "cacheScope":"private",
        "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}})
    .to_string()
}

fn values(lines: &[String]) -> Vec<Value> {
    // A lone surrogate is no text for serde_json; tests that look at bytes use `heard`.
    lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub(super) fn call(id: &str, token: Option<&str>) -> String {
    let meta = token.map_or(String::new(), |t| format!(r#","_meta":{{"progressToken":{t}}}"#));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"{meta}}}}}"#)
}
