//! A small MCP client over two pipes: the handshake of either era, requests one at a time, a deadline
//! on everything. `call`, `tools` and `demo` speak through it.
//!
//! A result is handed on as the bytes that came: rmcp's types would drop fields and change numbers, and
//! `--json` promises the server's own answer. It offers a server nothing (no roots, no sampling), and
//! holds one message in memory at most.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::failure::{FAILED, Failure, NO_PERMISSION, UNAVAILABLE};
use super::print;
use super::stream::{Lines, Lost};

/// The revision that needs no handshake.
const MODERN: &str = "2026-07-28";
/// The newest revision with one.
const LEGACY: &str = "2025-11-25";
/// The most pages of one list: a server that never stops giving cursors is broken.
const PAGES: usize = 1_000;

/// The parameters of a request, each already JSON.
pub(super) type Params = BTreeMap<&'static str, Box<RawValue>>;

/// Why a request has no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The other side answered with an error.
    Refused(RpcError),
    /// There is no other side any more, or it does not answer.
    Lost(Lost),
}

/// A JSON-RPC error.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RpcError {
    /// Its code.
    pub(super) code: i64,
    /// Its text.
    #[serde(default)]
    pub(super) message: String,
}

impl From<Lost> for Trouble {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lost(lost) => lost.into(),
            Trouble::Refused(error) => {
                // The positive codes are tenantd's own; the negative ones are the server's.
                let code = match error.code {
                    403 => NO_PERMISSION,
                    408 | 429 | 503 | 507 => UNAVAILABLE,
                    _ => FAILED,
                };
                let message = print::cut(&error.message, 600);
                Self::new(code, format!("{message} (error {})", error.code))
            }
        }
    }
}

/// One message that came in; what is absent is `None`, and `null` too.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
}

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a Params,
}

/// A client of one session.
pub(super) struct Client {
    lines: Lines,
    modern: bool,
    next: u64,
}

impl Client {
    /// A client that writes to `to` and reads from `from`; nothing is sent yet.
    pub(super) fn new(to: OwnedFd, from: OwnedFd, lifeline: Option<OwnedFd>) -> io::Result<Self> {
        Ok(Self { lines: Lines::new(to, from, lifeline)?, modern: false, next: 1 })
    }

    /// Finds out which era the server speaks. What answers discovery is modern; whatever error another
    /// one answers, it is asked for a legacy handshake.
    pub(super) fn handshake(&mut self, within: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + within;
        self.modern = true;
        match self.exchange("server/discover", Params::new(), until) {
            Ok(_) => return Ok(()),
            Err(Trouble::Refused(_)) => self.modern = false,
            Err(lost) => return Err(lost),
        }
        let params = Params::from([
            ("protocolVersion", raw(&LEGACY)),
            ("capabilities", raw(&json!({}))),
            ("clientInfo", raw(&ourselves())),
        ]);
        self.exchange("initialize", params, until)?;
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        Ok(self.lines.send(&initialized.to_string(), until)?)
    }

    /// Sends one request and waits for its result.
    pub(super) fn request(
        &mut self,
        method: &str,
        params: Params,
        within: Duration,
    ) -> Result<Box<RawValue>, Trouble> {
        self.exchange(method, params, Instant::now() + within)
    }

    /// Every tool, over all pages, as the server wrote them.
    pub(super) fn tools(&mut self, within: Duration) -> Result<Vec<Box<RawValue>>, Trouble> {
        let until = Instant::now() + within;
        let mut tools = Vec::new();
        let mut params = Params::new();
        for _ in 0..PAGES {
            let page = self.exchange("tools/list", params, until)?;
            let page: Page = serde_json::from_str(page.get()).map_err(|_| Lost::Garbage)?;
            tools.extend(page.tools);
            let Some(cursor) = page.next_cursor else { return Ok(tools) };
            params = Params::from([("cursor", raw(&cursor))]);
        }
        Err(Lost::Garbage.into())
    }

    /// Calls a tool; `arguments` is a JSON object on one line.
    pub(super) fn call(
        &mut self,
        tool: &str,
        arguments: Box<RawValue>,
        within: Duration,
    ) -> Result<Called, Trouble> {
        let params = Params::from([("name", raw(&tool)), ("arguments", arguments)]);
        let raw = self.request("tools/call", params, within)?;
        let parts = serde_json::from_str(raw.get()).map_err(|_| Lost::Garbage)?;
        Ok(Called { raw, parts })
    }

    fn exchange(
        &mut self,
        method: &str,
        mut params: Params,
        until: Instant,
    ) -> Result<Box<RawValue>, Trouble> {
        let id = self.next;
        self.next += 1;
        if self.modern {
            params.insert("_meta", raw(&envelope_meta()));
        }
        let request = Request { jsonrpc: "2.0", id, method, params: &params };
        let line = serde_json::to_string(&request).map_err(|_| Lost::Garbage)?;
        self.lines.send(&line, until)?;
        self.wait_for(id, until)
    }

    /// Reads until the answer with our id; what a server asks in between is declined.
    fn wait_for(&mut self, id: u64, until: Instant) -> Result<Box<RawValue>, Trouble> {
        let id = id.to_string();
        loop {
            let line = self.lines.receive(until)?;
            let Ok(message) = serde_json::from_str::<Envelope<'_>>(&line) else {
                continue;
            };
            if let Some(method) = &message.method {
                if let Some(theirs) = message.id {
                    let answer = decline(method, theirs);
                    self.lines.send(&answer, until)?;
                }
            } else if message.id.is_some_and(|theirs| theirs.get() == id) {
                return match message.error {
                    Some(error) => Err(Trouble::Refused(error)),
                    None => Ok(message.result.map_or_else(|| raw(&Value::Null), ToOwned::to_owned)),
                };
            }
        }
    }
}

/// The result of a tool call.
pub(super) struct Called {
    /// As it came.
    pub(super) raw: Box<RawValue>,
    /// What of it this client understands.
    pub(super) parts: CallParts,
}

/// What of a tool's result this client understands.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CallParts {
    /// Pieces to show.
    pub(super) content: Vec<Box<RawValue>>,
    /// Data for machines.
    pub(super) structured_content: Option<Box<RawValue>>,
    /// Whether the tool failed.
    pub(super) is_error: bool,
    /// `complete`, or what the server still wants.
    pub(super) result_type: Option<String>,
}

impl CallParts {
    /// The text of each piece; a piece of another kind is its JSON.
    pub(super) fn texts(&self) -> Vec<String> {
        self.content
            .iter()
            .map(|piece| match serde_json::from_str::<Piece>(piece.get()) {
                Ok(Piece { kind, text: Some(text) }) if kind == "text" => text,
                _ => piece.get().to_owned(),
            })
            .collect()
    }
}

#[derive(Deserialize)]
struct Piece {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<Box<RawValue>>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// The answer to a server's own request; its id goes back byte for byte.
fn decline(method: &str, id: &RawValue) -> String {
    let answer = if method == "ping" {
        r#""result":{}"#
    } else {
        r#""error":{"code":-32601,"message":"this client offers nothing to servers"}"#
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#)
}

fn envelope_meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": ourselves(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn ourselves() -> Value {
    json!({ "name": "tenantd", "version": env!("CARGO_PKG_VERSION") })
}

/// JSON of a value that always has one: strings and what `json!` makes.
fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("a string or a JSON value always serializes")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::thread::JoinHandle;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that answers each line with what `answer` makes of it, until nothing comes.
    fn server(
        mut answer: impl FnMut(&Value) -> Vec<String> + Send + 'static,
    ) -> (Client, JoinHandle<Vec<Value>>) {
        let (their_in, to) = nix::unistd::pipe().expect("a pipe");
        let (from, their_out) = nix::unistd::pipe().expect("a pipe");
        let thread = std::thread::spawn(move || {
            let mut out = std::fs::File::from(their_out);
            let mut seen = Vec::new();
            for line in BufReader::new(std::fs::File::from(their_in)).lines() {
                let message: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
                for answer in answer(&message) {
                    writeln!(out, "{answer}").expect("written");
                }
                seen.push(message);
            }
            seen
        });
        (Client::new(to, from, None).expect("a client"), thread)
    }

    fn result(message: &Value, result: &str) -> Vec<String> {
        vec![format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"])]
    }

    fn error(message: &Value, code: i64) -> Vec<String> {
        let id = &message["id"];
        vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#)]
    }

    #[test]
    fn a_modern_server_is_asked_without_a_handshake() {
        let (mut client, server) = server(|message| match message["method"].as_str() {
            Some("server/discover") => result(message, r#"{"supportedVersions":["2026-07-28"]}"#),
            _ => result(message, r#"{"content":[],"big":123456789012345678901234567890}"#),
        });
        client.handshake(SOON).expect("a handshake");
        assert!(client.modern);
        let called = client.call("echo", raw(&json!({})), SOON).expect("a result");
        assert!(called.raw.get().contains("123456789012345678901234567890"), "bytes were changed");
        drop(client);
        let seen = server.join().expect("joined");
        let meta = &seen[1]["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], MODERN);
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn a_legacy_server_gets_its_handshake_and_no_envelope() {
        let (mut client, server) = server(|message| match message["method"].as_str() {
            Some("server/discover") => error(message, -32601),
            Some("initialize") => result(message, "{}"),
            Some("tools/call") => {
                let mut lines = vec![r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#.to_owned()];
                lines.push("not JSON".to_owned());
                lines.push(r#"{"jsonrpc":"2.0","id":"r","method":"roots/list"}"#.to_owned());
                lines.push(
                    r#"{"jsonrpc":"2.0","id":"3","result":{"content":["wrong"]}}"#.to_owned(),
                );
                lines.extend(result(message, r#"{"content":[{"type":"text","text":"hi"}]}"#));
                lines
            }
            _ => Vec::new(),
        });
        client.handshake(SOON).expect("a handshake");
        let called = client.call("echo", raw(&json!({})), SOON).expect("a result");
        assert_eq!(called.parts.texts(), ["hi"]);
        drop(client);
        let seen = server.join().expect("joined");
        assert_eq!(seen[2]["method"], "notifications/initialized");
        assert!(seen[3]["params"].get("_meta").is_none(), "{}", seen[3]);
        assert_eq!(seen[4]["result"], json!({}));
        assert_eq!(seen[5]["error"]["code"], -32601);
    }

    #[test]
    fn tools_come_from_every_page_and_endless_pages_end() {
        let (mut client, _server) = server(|message| match &message["params"]["cursor"] {
            Value::Null => result(message, r#"{"tools":[{"name":"a"}],"nextCursor":""}"#),
            _ => result(message, r#"{"tools":[{"name":"b"}]}"#),
        });
        assert_eq!(client.tools(SOON).expect("tools").len(), 2);
        let (mut endless, _server) =
            self::server(|message| result(message, r#"{"tools":[],"nextCursor":"x"}"#));
        assert!(matches!(endless.tools(SOON), Err(Trouble::Lost(Lost::Garbage))));
    }

    #[test]
    fn a_server_that_is_silent_or_gone_is_not_waited_for() {
        let (mut silent, _server) = server(|_| Vec::new());
        let late = silent.request("ping", Params::new(), Duration::from_millis(20));
        assert!(matches!(late, Err(Trouble::Lost(Lost::Late))));
        let (theirs, to) = nix::unistd::pipe().expect("a pipe");
        let (from, out) = nix::unistd::pipe().expect("a pipe");
        drop((theirs, out));
        let mut gone = Client::new(to, from, None).expect("a client");
        let closed = gone.request("ping", Params::new(), SOON);
        assert!(matches!(closed, Err(Trouble::Lost(Lost::Closed(None)))));
    }
}
