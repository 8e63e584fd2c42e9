//! What calls need from their client, round by round, and how each era gets it: the modern one by a
//! result that requires input, the legacy one by requests of the server's own.

use serde_json::{Map, Value, json};

use crate::server::{Era, Server};
use crate::wire::{BAD_PARAMS, MISSING_CAPABILITY, Refusal, Request, refuse};

/// One thing that a call needs from its client.
pub(crate) struct Wish {
    key: &'static str,
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

/// All that a call needs.
pub(crate) struct Rounds {
    rounds: Vec<Vec<Wish>>,
    /// Whether a retry must bring the state that it was given.
    sealed: bool,
    /// Whether the call goes without what the client cannot do.
    modest: bool,
}

/// How far a call is.
pub(crate) enum Turn {
    /// Its client is asked by this result.
    Ask(Value),
    /// The answers of the last round, by the wishes' keys.
    Go(Value),
    /// The client would not answer.
    No(String),
}

/// The capability that a client needs for a method.
fn capability(method: &str) -> &'static str {
    match method {
        "sampling/createMessage" => "sampling",
        "elicitation/create" => "elicitation",
        _ => "roots",
    }
}

/// Refuses a client that lacks a capability: one of the protocol or `tasks`, which is an extension.
pub(crate) fn require(capabilities: &Value, name: &str) -> Result<(), Refusal> {
    let extension = format!("io.modelcontextprotocol/{name}");
    let (found, lacking) = match name {
        "tasks" => {
            (&capabilities["extensions"][&extension], json!({"extensions": {extension: {}}}))
        }
        _ => (&capabilities[name], json!({name: {}})),
    };
    if found.is_object() {
        return Ok(());
    }
    let data = json!({"requiredCapabilities": lacking});
    Err(Refusal::Error(MISSING_CAPABILITY, "the client lacks a capability", data))
}

fn elicit(key: &'static str, message: &str, properties: Value) -> Wish {
    let names: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let schema = json!({"type": "object", "properties": properties, "required": names});
    let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
    Wish { key, method: "elicitation/create", params }
}

fn elicit_text(key: &'static str, message: &str, name: &str) -> Wish {
    elicit(key, message, json!({name: {"type": "string"}}))
}

fn confirm() -> Wish {
    elicit("confirm", "Is this right?", json!({"ok": {"type": "boolean"}}))
}

fn sample(key: &'static str, prompt: &str) -> Wish {
    let message = json!({"role": "user", "content": {"type": "text", "text": prompt}});
    let params = json!({"messages": [message], "maxTokens": 100});
    Wish { key, method: "sampling/createMessage", params }
}

fn roots() -> Wish {
    Wish { key: "client_roots", method: "roots/list", params: json!({}) }
}

/// A field of every primitive type, each with the default that the suite expects.
fn defaults() -> Value {
    json!({
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": true},
    })
}

/// A field for each way to let a user choose.
fn choices() -> Value {
    let options = json!(["option1", "option2", "option3"]);
    let titled = json!([
        {"const": "value1", "title": "One"},
        {"const": "value2", "title": "Two"},
        {"const": "value3", "title": "Three"},
    ]);
    json!({
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["One", "Two", "Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    })
}

/// The rounds of a tool or a prompt; `None` if it needs nothing.
pub(crate) fn of(name: &str, arguments: &Value) -> Option<Rounds> {
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default();
    let name_wish = || elicit_text("user_name", "What is your name?", "name");
    let question = || sample("capital_question", "What is the capital of France?");
    let rounds = match name.strip_prefix("test_input_required_result_").unwrap_or(name) {
        "elicitation" | "test_streaming_elicitation" | "test_tool_with_task" => {
            vec![vec![name_wish()]]
        }
        "sampling" | "test_missing_capability" => vec![vec![question()]],
        "list_roots" => vec![vec![roots()]],
        "prompt" => vec![vec![elicit_text("user_context", "In what context?", "context")]],
        "request_state" | "tampered_state" => vec![vec![confirm()]],
        "multiple_inputs" => vec![vec![name_wish(), sample("greeting", "Say hello"), roots()]],
        "multi_round" => vec![
            vec![elicit_text("step1", "What is your name?", "name")],
            vec![elicit_text("step2", "What is your colour?", "colour")],
        ],
        "capabilities" => vec![vec![name_wish(), question()]],
        "test_sampling" => vec![vec![sample("model", argument("prompt"))]],
        "test_elicitation" => vec![vec![elicit_text("user", argument("message"), "username")]],
        "test_elicitation_sep1034_defaults" => {
            vec![vec![elicit("user", "Is this you?", defaults())]]
        }
        "test_elicitation_sep1330_enums" => vec![vec![elicit("user", "Choose", choices())]],
        _ => return None,
    };
    let ending = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let sealed = ending(&["_state", "_multiple_inputs", "_multi_round"]);
    Some(Rounds { rounds, sealed, modest: ending(&["_capabilities"]) })
}

impl Rounds {
    /// Brings a call as far as it comes.
    pub(crate) fn turn(mut self, server: &Server, request: &Request) -> Result<Turn, Refusal> {
        let capabilities = server.capabilities(request);
        let able = |wish: &Wish| capabilities[capability(wish.method)].is_object();
        if self.modest {
            self.rounds.iter_mut().for_each(|round| round.retain(able));
        }
        if server.era == Era::Legacy {
            return self.ask_all(server, request, able);
        }
        for wish in self.rounds.iter().flatten() {
            require(&capabilities, capability(wish.method))?;
        }
        self.next(server, request)
    }

    /// The modern era: one round a request.
    fn next(&self, server: &Server, request: &Request) -> Result<Turn, Refusal> {
        let call = format!("{} {}", request.method, request.text("name"));
        let state = &request.params["requestState"];
        let answers = &request.params["inputResponses"];
        let round = match (self.sealed, state.as_str()) {
            (true, Some(state)) => match server.seal.open(&call, state) {
                Some(round) if round < self.rounds.len() => Some(round),
                _ => return refuse(BAD_PARAMS, "this is no state of ours"),
            },
            (true, None) => None,
            (false, _) => Some(0),
        };
        let answered = |round: usize| self.rounds[round].iter().all(|w| answers[w.key].is_object());
        let round = match round {
            Some(round) if answered(round) => round + 1,
            other => other.unwrap_or(0),
        };
        let Some(wishes) = self.rounds.get(round) else { return Ok(Turn::Go(answers.clone())) };
        let asked: Map<_, _> = wishes
            .iter()
            .map(|w| (w.key.to_owned(), json!({"method": w.method, "params": w.params})))
            .collect();
        let mut result = json!({"resultType": "input_required", "inputRequests": asked});
        if self.sealed {
            result["requestState"] = json!(server.seal.close(&call, round));
        }
        Ok(Turn::Ask(result))
    }

    /// The legacy era: all rounds while the call is open.
    fn ask_all(
        &self,
        server: &Server,
        request: &Request,
        able: impl Fn(&Wish) -> bool,
    ) -> Result<Turn, Refusal> {
        let mut answers = json!({});
        for round in &self.rounds {
            if let Some(wish) = round.iter().find(|wish| !able(wish)) {
                return Ok(Turn::No(format!("the client cannot do {}", wish.method)));
            }
            answers = json!({});
            for (wish, from) in round.iter().zip(server.asks.ask(&request.id, round)) {
                let mut message = from.recv().map_err(|_| Refusal::Silence)?;
                match message.get_mut("result") {
                    Some(result) => answers[wish.key] = result.take(),
                    None if self.modest => {}
                    None => return Ok(Turn::No(format!("{}: {}", wish.method, message["error"]))),
                }
            }
        }
        Ok(Turn::Go(answers))
    }
}
