//! The tools by which a test makes the puppet do something.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::hunger;
use crate::puppet::{Puppet, Task, say, say_raw, subscription, text};

/// Name, what it does, and whether it is annotated as read-only.
const TOOLS: [(&str, &str, bool); 29] = [
    ("ask", "sends the client a request (method, params) and returns the answer", false),
    ("changed", "adds a tool (name) and says that the list changed", false),
    ("close_stdout", "closes stdout and lives on", false),
    ("context", "returns the request's _meta", true),
    ("deaf", "answers, then never reads again", false),
    ("die", "exits (code) without an answer", false),
    ("die_once", "exits at the first call in this directory, then answers", true),
    ("durable", "makes a task of a text, which the next puppet here still knows (modern)", false),
    ("echo", "returns text", true),
    ("endless", "writes some bytes (bytes) without a line's end, then a line's end", false),
    ("environment", "returns environment, working directory, descriptors and which process", true),
    ("fail", "answers with an error (code, message)", true),
    ("finish", "ends every open subscription with a result", false),
    ("flood_stderr", "writes lines (lines) to stderr, some of them bad", false),
    (
        "grandchild",
        "starts a process in a session of its own that holds our pipes; returns its pid here",
        false,
    ),
    ("hold", "answers when the key is released", false),
    (
        "input",
        "asks for input by results (modern; asks: one map of requests for each, null for none), then \
         returns what it got",
        false,
    ),
    ("log", "logs (level, data) where the request asks for it (modern), then answers", false),
    ("long", "returns a text of some length (bytes)", true),
    ("nap", "sleeps (ms), then returns how many lines came so far", true),
    ("notify", "sends a notification (method, params), then answers", false),
    ("progress", "reports some steps (steps) under the request's token", true),
    ("raw", "writes a line as it is, then answers", false),
    ("release", "answers every call held by a key with a text", false),
    ("run", "runs a program (program, input); returns its code and what it wrote", false),
    ("seen", "returns every line that came so far", true),
    ("tell", "sends a notification (method, params) to whoever subscribed", false),
    ("touch", "says that a resource (uri) changed, if it is subscribed", false),
    ("twice", "sends its answer twice", false),
];

/// The list of tools.
pub(crate) fn list(puppet: &Puppet) -> Value {
    let own = TOOLS.iter().chain(&hunger::TOOLS).map(|(name, description, read_only)| {
        json!({
            "name": name,
            "description": description,
            "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": read_only},
        })
    });
    let extra = puppet.extra_tools.iter();
    own.chain(extra.map(|name| json!({"name": name, "inputSchema": {"type": "object"}}))).collect()
}

/// `tools/call`
pub(crate) fn call(puppet: &mut Puppet, id: Value, params: &Value) {
    let arguments = &params["arguments"];
    let string = |key: &str| arguments[key].as_str().unwrap_or_default();
    let number = |key: &str| arguments[key].as_u64().unwrap_or(0);
    if !puppet.modern && params["task"].is_object() {
        return create_task(puppet, &id, text(string("text")));
    }
    let result = match params["name"].as_str().unwrap_or_default() {
        "ask" => return puppet.ask(string("method"), &arguments["params"], id),
        "hold" => return puppet.held.entry(string("key").to_owned()).or_default().push(id),
        "die" => exit(number("code")),
        "die_once" => die_once(),
        "close_stdout" => return close_stdout(),
        "deaf" => {
            puppet.answer(&id, text("deaf from here on"));
            crate::park_forever();
        }
        "fail" => {
            let code = arguments["code"].as_i64().unwrap_or(-32000);
            return puppet.refuse(&id, code, string("message"), arguments["data"].clone());
        }
        "durable" if puppet.modern => durable(string("text")),
        "input" => return input(puppet, &id, params),
        "log" => log(arguments, &params["_meta"]),
        "twice" => {
            puppet.answer(&id, text("once"));
            text("twice")
        }
        "release" => release(puppet, string("key"), string("text")),
        "changed" => {
            puppet.extra_tools.push(string("name").to_owned());
            puppet.tell("notifications/tools/list_changed", &json!({}));
            text("changed")
        }
        "touch" => touch(puppet, string("uri")),
        "tell" => {
            puppet.tell(string("method"), &arguments["params"]);
            text("told")
        }
        "notify" => {
            let (method, params) = (string("method"), &arguments["params"]);
            say(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
            text("notified")
        }
        "progress" => progress(&params["_meta"]["progressToken"], number("steps")),
        "raw" => {
            say_raw(&format!("{}\n", string("line")));
            text("written")
        }
        "endless" => {
            endless(number("bytes"));
            text("an end after all")
        }
        "finish" => finish(puppet),
        "flood_stderr" => flood_stderr(number("lines")),
        "grandchild" => grandchild(),
        "burn" => text(&hunger::burn(number("ms")).to_string()),
        "forks" => text(&hunger::forks(number("count")).to_string()),
        "hog" => {
            hunger::hog(number("bytes"));
            text("kept")
        }
        "environment" => environment(),
        "run" => run(&arguments["program"], string("input")),
        "echo" => text(string("text")),
        "context" => text(&params["_meta"].to_string()),
        "seen" => text(&json!(puppet.seen).to_string()),
        "nap" => {
            std::thread::sleep(std::time::Duration::from_millis(number("ms")));
            text(&puppet.seen.len().to_string())
        }
        "long" => text(&"x".repeat(usize::try_from(number("bytes")).expect("a length"))),
        added if puppet.extra_tools.iter().any(|name| name == added) => text(added),
        _ => return puppet.refuse(&id, -32602, "there is no such tool", Value::Null),
    };
    puppet.answer(&id, result);
}

#[allow(clippy::disallowed_methods, reason = "dying without a word is the point")]
fn exit(code: u64) -> ! {
    std::process::exit(i32::try_from(code).unwrap_or(1))
}

fn die_once() -> Value {
    if std::path::Path::new("died").exists() {
        return text("alive");
    }
    std::fs::write("died", "").expect("a writable directory");
    exit(1)
}

fn close_stdout() {
    let null = std::fs::File::options().write(true).open("/dev/null").expect("/dev/null");
    nix::unistd::dup2_stdout(&null).expect("dup2");
}

fn release(puppet: &mut Puppet, key: &str, said: &str) -> Value {
    let held = puppet.held.remove(key).unwrap_or_default();
    held.iter().for_each(|id| puppet.answer(id, text(said)));
    text(&held.len().to_string())
}

fn touch(puppet: &Puppet, uri: &str) -> Value {
    if puppet.modern || puppet.subscribed.contains(uri) {
        puppet.tell("notifications/resources/updated", &json!({"uri": uri}));
    }
    text(&puppet.subscribed.len().to_string())
}

fn progress(token: &Value, steps: u64) -> Value {
    if !token.is_null() {
        for step in 1..=steps {
            let params = json!({"progressToken": token, "progress": step, "total": steps});
            say(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
        }
    }
    text(&format!("{steps} steps"))
}

/// Asks the client for something by its results, once for each of its `asks`; then it says what it got.
pub(crate) fn input(puppet: &Puppet, id: &Value, params: &Value) {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let elicitation = json!({
        "method": "elicitation/create",
        "params": {"mode": "form", "message": "Your name?", "requestedSchema": schema},
    });
    let asks = match &params["arguments"]["asks"] {
        Value::Array(asks) => asks.clone(),
        _ => vec![json!({"name": elicitation})],
    };
    let state = params["requestState"].as_str().and_then(|state| state.strip_prefix(STATE));
    let round: usize = state.map_or(0, |round| round.parse().expect("a state of ours"));
    match asks.get(round) {
        Some(ask) => {
            let state = format!("{STATE}{}", round + 1);
            let mut result = json!({"resultType": "input_required", "requestState": state});
            if !ask.is_null() {
                result["inputRequests"] = ask.clone();
            }
            puppet.answer(id, result);
        }
        None => {
            let got =
                json!({"responses": params["inputResponses"], "state": params["requestState"]});
            let mut result = text(&got.to_string());
            result["messages"] = json!([]);
            result["contents"] = json!([{"uri": params["uri"], "text": got.to_string()}]);
            puppet.answer(id, result);
        }
    }
}

/// What stands before the number of rounds in a `requestState`.
const STATE: &str = "state \u{e9} \"as it is\" ";

/// Logs where the request asks for it, as the modern era has it.
fn log(arguments: &Value, meta: &Value) -> Value {
    let level = &meta["io.modelcontextprotocol/logLevel"];
    if level.is_string() {
        let params = json!({"level": arguments["level"], "data": arguments["data"]});
        say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}));
    }
    text(level.as_str().unwrap_or_default())
}

fn endless(bytes: u64) {
    let chunk = "x".repeat(1 << 20);
    let mut left = usize::try_from(bytes).expect("a length");
    while left > 0 {
        let now = left.min(chunk.len());
        say_raw(&chunk[..now]);
        left -= now;
    }
    say_raw("\n");
}

fn finish(puppet: &mut Puppet) -> Value {
    let listens = std::mem::take(&mut puppet.listens);
    for (id, _) in &listens {
        puppet.answer(id, json!({"_meta": subscription(id)}));
    }
    text(&listens.len().to_string())
}

fn flood_stderr(lines: u64) -> Value {
    let mut stderr = std::io::stderr().lock();
    for line in 0..lines {
        let _ = writeln!(stderr, "line {line} of the flood");
    }
    let _ = stderr.write_all(b"not UTF-8: \xff\xfe and \x1b[31mcolour\x1b[0m\n");
    let _ = writeln!(stderr, "{}", "long".repeat(50_000));
    text("flooded")
}

/// What no other process is called, wherever it runs: in a pid namespace every server is number 2.
fn own_name() -> &'static str {
    static NAME: LazyLock<String> =
        LazyLock::new(|| format!("{:016x}", RandomState::new().hash_one(std::process::id())));
    &NAME
}

fn grandchild() -> Value {
    let mut command = Command::new("/proc/self/exe");
    let child = command.env("PUPPET_START", "linger").env("PUPPET_STUBBORN", "1").spawn();
    text(&child.expect("a grandchild").id().to_string())
}

/// The first word is the program. What it leaves running may hold no pipe of ours.
fn run(words: &Value, input: &str) -> Value {
    let words: Vec<_> = words.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut command = Command::new(words.first().expect("a program"));
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return text(&json!({"error": error.to_string()}).to_string()),
    };
    let fed = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let done = child.wait_with_output().expect("it ended");
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = json!({
        "code": done.status.code(),
        "fed": fed.is_ok(),
        "stdout": shown(&done.stdout),
        "stderr": shown(&done.stderr),
    });
    text(&said.to_string())
}

fn environment() -> Value {
    let variables: serde_json::Map<_, _> =
        std::env::vars().map(|(name, value)| (name, json!(value))).collect();
    let mut descriptors: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("/proc/self/fd")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    descriptors.sort();
    let found = json!({
        "env": variables,
        "cwd": std::env::current_dir().ok(),
        "process": own_name(),
        "descriptors": descriptors,
        "arguments": std::env::args().collect::<Vec<_>>(),
    });
    text(&found.to_string())
}

fn create_task(puppet: &mut Puppet, id: &Value, result: Value) {
    let name = format!("task-{}", puppet.tasks.len());
    puppet.tasks.insert(name.clone(), Task { status: "working", result });
    let task = show(&name, "working");
    puppet.answer(id, json!({"task": task}));
    let method = "notifications/tasks/status";
    say(&json!({"jsonrpc": "2.0", "method": method, "params": show(&name, "completed")}));
    puppet.tasks.get_mut(&name).expect("just made").status = "completed";
}

fn show(name: &str, status: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    json!({"taskId": name, "status": status, "createdAt": at, "lastUpdatedAt": at, "ttl": 60000})
}

/// Makes a task of the modern extension. It is a file of the working directory, so that it outlives us.
fn durable(said: &str) -> Value {
    let name = format!("task-of-{}", own_name());
    std::fs::write(&name, said).expect("a writable directory");
    let mut task = show_modern(&name, "working");
    task["resultType"] = json!("task");
    task
}

fn show_modern(name: &str, status: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    json!({"taskId": name, "status": status, "createdAt": at, "lastUpdatedAt": at, "ttlMs": 60000})
}

/// `tasks/*` of the modern extension.
pub(crate) fn durable_task(puppet: &Puppet, method: &str, id: &Value, params: &Value) {
    let name = params["taskId"].as_str().filter(|name| name.starts_with("task-of-"));
    let found = name.and_then(|name| Some((name, std::fs::read_to_string(name).ok()?)));
    match (method, found) {
        ("tasks/get", Some((name, said))) => {
            let mut task = show_modern(name, "completed");
            task["result"] = text(&said);
            puppet.answer(id, task);
        }
        ("tasks/get", None) => puppet.refuse(id, -32602, "there is no such task", Value::Null),
        _ => puppet.refuse(id, -32601, "there is no such method", Value::Null),
    }
}

/// `tasks/*` of 2025-11-25.
pub(crate) fn task(puppet: &mut Puppet, method: &str, id: &Value, params: &Value) {
    let name = params["taskId"].as_str().unwrap_or_default();
    if method == "tasks/list" {
        let all: Value = puppet.tasks.iter().map(|(name, task)| show(name, task.status)).collect();
        return puppet.answer(id, json!({"tasks": all}));
    }
    let Some(task) = puppet.tasks.get_mut(name) else {
        return puppet.refuse(id, -32602, "there is no such task", Value::Null);
    };
    let result = match method {
        "tasks/get" => show(name, task.status),
        "tasks/cancel" => {
            task.status = "cancelled";
            show(name, task.status)
        }
        "tasks/result" => {
            let mut result = task.result.clone();
            result["_meta"] = json!({"io.modelcontextprotocol/related-task": {"taskId": name}});
            result
        }
        _ => return puppet.refuse(id, -32601, "there is no such method", Value::Null),
    };
    puppet.answer(id, result);
}
