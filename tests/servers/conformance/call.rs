//! `tools/call` and `prompts/get`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::catalogue;
use crate::rounds::{self, Turn};
use crate::server::{Era, Server};
use crate::tasks;
use crate::wire::{BAD_PARAMS, Outcome, Request, notify, refuse, text};

/// Between two steps of a tool that does something: what comes meanwhile must be served.
const STEP: Duration = Duration::from_millis(50);

fn failed(why: &str) -> Value {
    let mut result = text(why);
    result["isError"] = json!(true);
    result
}

/// `tools/call`
pub(crate) fn tool(server: &Arc<Server>, request: &Request) -> Outcome {
    let (name, arguments) = (request.text("name"), &request.params["arguments"]);
    if let Some(content) = catalogue::content(name) {
        return Ok(content);
    }
    if tasks::TOOLS.contains(&name) {
        return tasks::call(server, request);
    }
    if let Some(rounds) = rounds::of(name, arguments) {
        return Ok(match rounds.turn(server, request)? {
            Turn::Ask(result) => result,
            Turn::Go(answers) => text(&format!("{name} got {answers}")),
            Turn::No(why) => failed(&why),
        });
    }
    match name {
        "test_error_handling" => Ok(failed("this tool always fails")),
        "test_tool_with_logging" | "test_logging_tool" => Ok(log(server, request)),
        "test_tool_with_progress" => Ok(progress(request)),
        "test_trigger_tool_change" => {
            server.catalogue.change_tools();
            server.listens.tell(server.era, "notifications/tools/list_changed", &json!({}));
            Ok(text("the tools have changed"))
        }
        "test_trigger_prompt_change" => {
            server.catalogue.change_prompts();
            server.listens.tell(server.era, "notifications/prompts/list_changed", &json!({}));
            Ok(text("the prompts have changed"))
        }
        "greet" => {
            let name = arguments["name"].as_str().unwrap_or("nobody");
            Ok(text(&format!("Hello, {name}!")))
        }
        "json_schema_2020_12_tool" | "test_header" => Ok(text("the schema is what matters")),
        _ => refuse(BAD_PARAMS, "there is no such tool"),
    }
}

/// `prompts/get`
pub(crate) fn prompt(server: &Arc<Server>, request: &Request) -> Outcome {
    let (name, arguments) = (request.text("name"), &request.params["arguments"]);
    if let Some(messages) = catalogue::messages(name, arguments) {
        return Ok(messages);
    }
    let Some(rounds) = rounds::of(name, arguments).filter(|_| name.ends_with("_prompt")) else {
        return refuse(BAD_PARAMS, "there is no such prompt");
    };
    let said = match rounds.turn(server, request)? {
        Turn::Ask(result) => return Ok(result),
        Turn::Go(answers) => format!("asked, and got {answers}"),
        Turn::No(why) => why,
    };
    let message = json!({"role": "user", "content": {"type": "text", "text": said}});
    Ok(json!({"messages": [message]}))
}

/// Three lines for the log. The modern era writes them only for a request that wants them.
fn log(server: &Server, request: &Request) -> Value {
    let wanted = server.era == Era::Legacy || request.envelope("logLevel").is_string();
    for step in ["started", "going on", "done"] {
        thread::sleep(STEP);
        if wanted {
            let params = json!({"level": "info", "logger": "conformance", "data": step});
            notify("notifications/message", params);
        }
    }
    text("logged")
}

fn progress(request: &Request) -> Value {
    let token = &request.params["_meta"]["progressToken"];
    for done in [0, 50, 100] {
        if !token.is_null() {
            let params = json!({"progressToken": token, "progress": done, "total": 100});
            notify("notifications/progress", params);
        }
        thread::sleep(STEP);
    }
    text("done")
}
