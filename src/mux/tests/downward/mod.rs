//! Modern clients on a legacy server: what each end of the exchange sees.

mod asked;
mod ends;
mod logs;
mod requests;
mod streams;

use serde_json::{Value, json};

use super::Desk;
use crate::mux::outbox::{ChildId, End};
use crate::names::SessionId;

/// What the legacy server of these tests says of itself: odd on purpose where bytes count.
const GREETING: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"tasks":{"list":{}},"resources":{"subscribe":true,"listChanged":true},"logging":{},"x":1.0e2},"serverInfo":{"name":"s","version":"\u0031"},"instructions":"do \u0061"}"#;

/// Everything that a client can be asked for.
const ALL: &str = r#"{"elicitation":{},"sampling":{},"roots":{}}"#;

/// A modern request, with these capabilities and more members of its `_meta`.
fn request(id: &str, method: &str, params: &str, capabilities: &str, more: &str) -> String {
    let comma = if params.is_empty() { "" } else { "," };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{comma}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"m","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{capabilities}{more}}}}}}}"#
    )
}

/// A call that can be asked for everything.
fn call(id: &str) -> String {
    request(id, "tools/call", r#""name":"t""#, ALL, "")
}

fn listen(id: &str, filter: &str) -> String {
    request(id, "subscriptions/listen", &format!(r#""notifications":{filter}"#), "{}", "")
}

impl Desk {
    /// A session that sends this first, on a legacy server that is started for it.
    fn first(&mut self, id: u64, uid: u32, line: &str) -> (SessionId, ChildId) {
        let session = self.open(id, uid);
        self.client(session, line);
        self.acts();
        let child = if self.asked.is_empty() {
            self.exchange.ready_child(session).expect("a running child")
        } else {
            let child = self.start();
            self.greet(child);
            child
        };
        (session, child)
    }

    /// A modern session that has heard what the legacy server is.
    fn crossed(&mut self, id: u64, uid: u32) -> (SessionId, ChildId) {
        let (session, child) =
            self.first(id, uid, &request("\"d\"", "server/discover", "", "{}", ""));
        assert_eq!(self.client_heard(session).len(), 1);
        (session, child)
    }

    /// The legacy server's side of the handshake; gives what it was told of the client.
    fn greet(&mut self, child: ChildId) -> Value {
        let mut told = Value::Null;
        for _ in 0..2 {
            let Some(line) = self.server_heard(child).pop() else { break };
            let id = line["id"].to_string();
            if line["method"] == "server/discover" {
                let error = json!({"code": -32601, "message": "?"});
                self.server(
                    child,
                    &json!({"jsonrpc":"2.0","id":line["id"],"error":error}).to_string(),
                );
            } else {
                assert_eq!(line["method"], "initialize");
                told = line["params"].clone();
                self.server(
                    child,
                    &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{GREETING}}}"#),
                );
                break;
            }
        }
        told
    }

    /// The last request that the server heard: its id.
    fn passed(&mut self, child: ChildId) -> String {
        let heard = self.server_heard(child);
        heard.last().expect("a request")["id"].to_string()
    }

    /// The server's answer to a request of ours.
    fn answers(&mut self, child: ChildId, id: &str, result: &str) {
        self.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    }

    /// The one message that a client has heard.
    fn one_line(&mut self, session: SessionId) -> Value {
        let mut heard = self.client_heard(session);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// The one line that an end has heard.
    fn line(&mut self, end: End) -> String {
        let mut heard = self.heard(end);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    fn is_silent(&mut self, session: SessionId) {
        assert_eq!(self.heard(End::Session(session)), Vec::<String>::new());
    }
}
