//! The extension `io.modelcontextprotocol/tasks` of the modern era. A task has no thread: what it is like
//! follows from how long it has been there and from what its client did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::rounds::{self, Turn};
use crate::server::{Era, Server};
use crate::wire::{BAD_PARAMS, Outcome, Refusal, Request, refuse, text};

/// The tools that become tasks.
pub(crate) const TOOLS: [&str; 6] = [
    "slow_compute",
    "failing_job",
    "protocol_error_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
];
/// How long the jobs take that have no time of their own.
const SHORT: Duration = Duration::from_millis(200);

struct Task {
    tool: String,
    made: Instant,
    stamp: Timestamp,
    takes: Duration,
    cancelled: bool,
    /// What its client still has to answer.
    inputs: Map<String, Value>,
    /// What it has learned so far.
    learned: String,
}

#[derive(Default)]
pub(crate) struct Tasks(Mutex<BTreeMap<String, Task>>);

impl Task {
    fn new(tool: &str, seconds: f64, learned: String) -> Self {
        let takes = if tool == "slow_compute" { Duration::from_secs_f64(seconds) } else { SHORT };
        let wish = |message: &str| {
            let schema = json!({"type": "object", "properties": {"confirm": {"type": "boolean"}}});
            let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
            json!({"method": "elicitation/create", "params": params})
        };
        let keys: &[&str] = match tool {
            "confirm_delete" => &["confirm"],
            "multi_input" => &["first", "second"],
            _ => &[],
        };
        let inputs = keys.iter().map(|key| ((*key).to_owned(), wish(key))).collect();
        let (made, stamp, tool) = (Instant::now(), Timestamp::now(), tool.to_owned());
        Self { tool, made, stamp, takes, cancelled: false, inputs, learned }
    }

    fn status(&self) -> &'static str {
        if self.cancelled {
            "cancelled"
        } else if !self.inputs.is_empty() {
            "input_required"
        } else if self.made.elapsed() < self.takes {
            "working"
        } else if self.tool == "protocol_error_job" {
            "failed"
        } else {
            "completed"
        }
    }

    fn show(&self, id: &str) -> Value {
        json!({
            "taskId": id,
            "status": self.status(),
            "createdAt": self.stamp.to_string(),
            "lastUpdatedAt": Timestamp::now().to_string(),
            "ttlMs": 300_000,
            "pollIntervalMs": 100,
        })
    }

    fn detailed(&self, id: &str) -> Value {
        let mut shown = self.show(id);
        match self.status() {
            "input_required" => shown["inputRequests"] = json!(self.inputs),
            "completed" => {
                shown["result"] = text(&format!("{} is done {}", self.tool, self.learned));
                if self.tool == "failing_job" {
                    shown["result"]["isError"] = json!(true);
                }
            }
            "failed" => shown["error"] = json!({"code": -32603, "message": "it went wrong"}),
            _ => {}
        }
        shown
    }
}

/// `tools/call` of a tool that becomes a task, where its client knows what that is.
pub(crate) fn call(server: &Arc<Server>, request: &Request) -> Outcome {
    let (tool, arguments) = (request.text("name"), &request.params["arguments"]);
    let seconds = arguments["seconds"].as_f64().unwrap_or_default().clamp(0.0, 60.0);
    let capabilities = server.capabilities(request);
    let able = rounds::require(&capabilities, "tasks");
    if server.era == Era::Legacy {
        // Who asked for a task would wait for nothing.
        return Ok(text("done at once, for this era has no such tasks"));
    }
    if able.is_err() && tool == "slow_compute" {
        thread::sleep(Duration::from_secs_f64(seconds));
        return Ok(text("done, without a task"));
    }
    able?;
    let mut learned = String::new();
    if let Some(rounds) = rounds::of(tool, arguments) {
        match rounds.turn(server, request)? {
            Turn::Ask(result) => return Ok(result),
            Turn::Go(answers) => learned = answers.to_string(),
            Turn::No(why) => learned = why,
        }
    }
    Ok(server.tasks.create(Task::new(tool, seconds, learned)))
}

impl Tasks {
    fn create(&self, task: Task) -> Value {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("task-{}", tasks.len());
        let mut shown = task.show(&id);
        shown["resultType"] = json!("task");
        tasks.insert(id, task);
        shown
    }

    /// `tasks/get`, `tasks/update` and `tasks/cancel`
    pub(crate) fn serve(&self, request: &Request) -> Outcome {
        let id = request.text("taskId");
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = tasks.get_mut(id) else {
            return refuse::<Value>(BAD_PARAMS, "there is no such task");
        };
        match request.method.as_str() {
            "tasks/get" => return Ok(task.detailed(id)),
            "tasks/cancel" => task.cancelled |= !matches!(task.status(), "completed" | "failed"),
            _ => {
                let Some(answers) = request.params["inputResponses"].as_object() else {
                    return Err(Refusal::Error(BAD_PARAMS, "there are no answers", Value::Null));
                };
                task.inputs.retain(|key, _| !answers.contains_key(key));
            }
        }
        Ok(json!({}))
    }
}
