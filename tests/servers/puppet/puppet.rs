//! The protocol side of the puppet: two eras, what it remembers, and how it speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::tools;
use crate::variable;

/// A task of the 2025-11-25 kind.
pub(crate) struct Task {
    pub(crate) status: &'static str,
    pub(crate) result: Value,
}

/// The resource that is read only with input.
const ASKING: &str = "puppet://asking";

/// All that the puppet knows.
pub(crate) struct Puppet {
    pub(crate) modern: bool,
    /// Every line that came, as it came.
    pub(crate) seen: Vec<String>,
    /// Calls that wait to be released, by key.
    pub(crate) held: BTreeMap<String, Vec<Value>>,
    /// Our own requests: their id, and the call that waits for the answer.
    pub(crate) asked: BTreeMap<u64, Value>,
    pub(crate) next_request: u64,
    /// `resources/subscribe`.
    pub(crate) subscribed: BTreeSet<String>,
    /// Open `subscriptions/listen`: the id and what was asked for.
    pub(crate) listens: Vec<(Value, Value)>,
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) extra_tools: Vec<String>,
}

/// Writes one message.
pub(crate) fn say(message: &Value) {
    say_raw(&format!("{message}\n"));
}

/// Writes bytes as they are. A client that is gone is no error here.
pub(crate) fn say_raw(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// A result that is one text.
pub(crate) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

impl Puppet {
    pub(crate) fn new(era: &str) -> Self {
        Self {
            modern: era == "modern",
            seen: Vec::new(),
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: 0,
            subscribed: BTreeSet::new(),
            listens: Vec::new(),
            tasks: BTreeMap::new(),
            extra_tools: Vec::new(),
        }
    }

    /// Takes one line; what is not JSON is remembered and dropped, as the SDKs do.
    pub(crate) fn hear(&mut self, line: String) {
        let message: Option<Value> = serde_json::from_str(&line).ok();
        self.seen.push(line);
        let Some(message) = message else { return };
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        match (message.get("id"), method.as_str()) {
            (Some(_), "") => self.answered(&message),
            (Some(id), _) => self.asked_for(&method, id.clone(), &message["params"]),
            (None, _) => self.told(&method, &message["params"]),
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&self, id: &Value, mut result: Value) {
        if self.modern && result.get("resultType").is_none() {
            result["resultType"] = json!("complete");
        }
        say(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    /// Refuses a request.
    pub(crate) fn refuse(&self, id: &Value, code: i64, message: &str, data: Value) {
        let error = json!({"code": code, "message": message, "data": data});
        say(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }

    /// Sends a request of our own, for a call that waits for its answer.
    pub(crate) fn ask(&mut self, method: &str, params: &Value, waiting: Value) {
        let id = self.next_request;
        self.next_request += 1;
        self.asked.insert(id, waiting);
        say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }

    fn answered(&mut self, message: &Value) {
        let waiting = message["id"].as_u64().and_then(|id| self.asked.remove(&id));
        if let Some(call) = waiting.filter(|call| !call.is_null()) {
            self.answer(&call, text(&message.to_string()));
        }
    }

    fn told(&mut self, method: &str, params: &Value) {
        match method {
            "notifications/initialized" if !variable("PUPPET_CHATTY").is_empty() => {
                say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
                self.ask("roots/list", &json!({}), Value::Null);
            }
            "notifications/cancelled" => {
                let id = &params["requestId"];
                self.held.values_mut().for_each(|ids| ids.retain(|held| held != id));
                self.asked.retain(|_, call| call != id);
                self.listens.retain(|(listen, _)| listen != id);
            }
            _ => {}
        }
    }

    fn asked_for(&mut self, method: &str, id: Value, params: &Value) {
        let version = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
        match (self.modern, method) {
            (false, "initialize") => self.answer(&id, self.hello(params)),
            (false, "server/discover") if variable("PUPPET_PROBE") == "silent" => {}
            (false, _) => self.serve(method, id, params),
            (true, "initialize") => {
                let supported = json!({"supported": ["2026-07-28"], "requested": null});
                self.refuse(&id, -32022, "this connection has no handshake", supported);
            }
            (true, _) if version != Some("2026-07-28") => {
                self.refuse(&id, -32602, "the request's _meta has no protocolVersion", Value::Null);
            }
            (true, "server/discover") => self.answer(&id, self.discovery()),
            (true, _) => self.serve(method, id, params),
        }
    }

    fn hello(&self, params: &Value) -> Value {
        json!({
            "protocolVersion": params["protocolVersion"],
            "capabilities": {
                "tools": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true},
                "prompts": {"listChanged": true},
                "logging": {},
                "completions": {},
                "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
            },
            "serverInfo": {"name": "puppet", "version": "1"},
            "instructions": "Does what it is told.",
        })
    }

    fn discovery(&self) -> Value {
        json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": {
                "tools": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true},
                "prompts": {},
                "logging": {},
                "extensions": {"io.modelcontextprotocol/tasks": {}},
            },
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "puppet", "version": "1"}},
            "ttlMs": 0,
            "cacheScope": "private",
        })
    }

    fn serve(&mut self, method: &str, id: Value, params: &Value) {
        let uri = params["uri"].as_str().unwrap_or_default().to_owned();
        match method {
            "ping" => self.answer(&id, json!({})),
            "tools/list" => self.answer(&id, self.list("tools", tools::list(self))),
            "resources/list" => {
                let one = json!([{"uri": "puppet://one", "name": "one"}]);
                self.answer(&id, self.list("resources", one));
            }
            "resources/templates/list" => {
                self.answer(&id, self.list("resourceTemplates", json!([])));
            }
            "prompts/list" => self.answer(&id, self.list("prompts", json!([{"name": "hello"}]))),
            "prompts/get" | "resources/read"
                if params["arguments"]["asks"].is_array() || uri == ASKING =>
            {
                tools::input(self, &id, params);
            }
            "prompts/get" => {
                let said = json!({"role": "user", "content": {"type": "text", "text": "hello"}});
                self.answer(&id, json!({"messages": [said]}));
            }
            "resources/read" => {
                self.answer(&id, json!({"contents": [{"uri": uri, "text": "one"}]}));
            }
            "resources/subscribe" if !self.modern => {
                self.subscribed.insert(uri);
                self.answer(&id, json!({}));
            }
            "resources/unsubscribe" if !self.modern => {
                self.subscribed.remove(&uri);
                self.answer(&id, json!({}));
            }
            "logging/setLevel" if !self.modern => self.answer(&id, json!({})),
            "subscriptions/listen" if self.modern && variable("PUPPET_LISTEN") != "none" => {
                self.listen(id, params);
            }
            "tools/call" => tools::call(self, id, params),
            _ if method.starts_with("tasks/") && self.modern => {
                tools::durable_task(self, method, &id, params);
            }
            _ if method.starts_with("tasks/") => tools::task(self, method, &id, params),
            _ => self.refuse(&id, -32601, "there is no such method", Value::Null),
        }
    }

    fn list(&self, key: &str, items: Value) -> Value {
        let mut list = json!({key: items});
        if self.modern {
            let ttl: u64 = variable("PUPPET_TTL").parse().unwrap_or(0);
            list["ttlMs"] = json!(ttl);
            list["cacheScope"] = json!(if ttl > 0 { "public" } else { "private" });
        }
        list
    }

    fn listen(&mut self, id: Value, params: &Value) {
        let wanted = params["notifications"].clone();
        let params = json!({"notifications": wanted, "_meta": subscription(&id)});
        let method = "notifications/subscriptions/acknowledged";
        say(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
        if variable("PUPPET_LISTEN") == "short" {
            return self.answer(&id, json!({"_meta": subscription(&id)}));
        }
        self.listens.push((id, wanted));
    }

    /// Tells everybody who wants to know.
    pub(crate) fn tell(&self, method: &str, params: &Value) {
        if !self.modern {
            say(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
            return;
        }
        for (id, _) in self.listens.iter().filter(|(_, wanted)| wants(wanted, method, params)) {
            let mut params = params.clone();
            params["_meta"] = subscription(id);
            say(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
        }
    }
}

/// The `_meta` that ties a notification to its `subscriptions/listen`.
pub(crate) fn subscription(id: &Value) -> Value {
    json!({"io.modelcontextprotocol/subscriptionId": id})
}

fn wants(wanted: &Value, method: &str, params: &Value) -> bool {
    let uris = || wanted["resourceSubscriptions"].as_array();
    match method {
        "notifications/tools/list_changed" => wanted["toolsListChanged"] == true,
        "notifications/prompts/list_changed" => wanted["promptsListChanged"] == true,
        "notifications/resources/list_changed" => wanted["resourcesListChanged"] == true,
        "notifications/resources/updated" => {
            uris().is_some_and(|uris| uris.contains(&params["uri"]))
        }
        _ => true,
    }
}
