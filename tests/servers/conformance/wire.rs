//! What goes over the wire: requests in, answers and notifications out.

use std::io::{self, Write};

use serde_json::{Value, json};

/// What an error of the modern era for a missing capability is numbered.
pub(crate) const MISSING_CAPABILITY: i64 = -32021;
/// A protocol version that this server does not speak.
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;
/// No such method, in this era.
pub(crate) const NO_METHOD: i64 = -32601;
/// Parameters that make no sense.
pub(crate) const BAD_PARAMS: i64 = -32602;
/// A request out of place, such as one before the handshake.
pub(crate) const BAD_REQUEST: i64 = -32600;
/// No such resource, up to 2025-11-25.
pub(crate) const NO_RESOURCE: i64 = -32002;

/// A request as it came.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) params: Value,
}

impl Request {
    /// A member of the modern envelope; null where there is none.
    pub(crate) fn envelope(&self, member: &str) -> &Value {
        &self.params["_meta"][format!("io.modelcontextprotocol/{member}")]
    }

    /// A member of the parameters that is a text; empty where it is none.
    pub(crate) fn text(&self, member: &str) -> &str {
        self.params[member].as_str().unwrap_or_default()
    }
}

/// Why a request gets no result.
pub(crate) enum Refusal {
    /// It gets an error.
    Error(i64, &'static str, Value),
    /// It gets nothing: its client has cancelled it.
    Silence,
}

/// What becomes of a request.
pub(crate) type Outcome = Result<Value, Refusal>;

/// An error without data.
pub(crate) fn refuse<T>(code: i64, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Error(code, message, Value::Null))
}

/// Writes one message. A client that is gone is no error here.
fn say(message: &Value) {
    let mut output = io::stdout().lock();
    let line = format!("{message}\n");
    let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
}

/// Answers a request.
pub(crate) fn answer(id: &Value, outcome: Outcome) {
    match outcome {
        Ok(result) => say(&json!({"jsonrpc": "2.0", "id": id, "result": result})),
        Err(Refusal::Error(code, message, data)) => {
            let mut error = json!({"code": code, "message": message});
            if !data.is_null() {
                error["data"] = data;
            }
            say(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
        Err(Refusal::Silence) => {}
    }
}

/// Sends a notification.
pub(crate) fn notify(method: &str, params: Value) {
    say(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
}

/// Sends a request of our own.
pub(crate) fn ask(id: u64, method: &str, params: &Value) {
    say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
}

/// A result that is one text.
pub(crate) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}
