//! What there is: tools, prompts, resources, and the contents that tools and prompts hand out.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

/// A PNG of one red pixel.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// A WAV file without a sample.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";
const TEXT_URI: &str = "test://static-text";
const BINARY_URI: &str = "test://static-binary";
const WATCHED_URI: &str = "test://watched-resource";

/// Tools without arguments: name and what they do.
const PLAIN: [(&str, &str); 21] = [
    ("test_simple_text", "returns a text"),
    ("test_image_content", "returns an image"),
    ("test_audio_content", "returns a sound"),
    ("test_embedded_resource", "returns a resource"),
    ("test_multiple_content_types", "returns a text, an image and a resource"),
    ("test_error_handling", "fails"),
    ("test_tool_with_logging", "writes three lines to the log"),
    ("test_logging_tool", "writes three lines to the log"),
    ("test_tool_with_progress", "reports its progress"),
    ("test_trigger_tool_change", "adds a tool or takes it away"),
    ("test_trigger_prompt_change", "adds a prompt or takes it away"),
    ("test_missing_capability", "cannot do without sampling"),
    ("test_streaming_elicitation", "asks the user for a name"),
    ("test_elicitation_sep1034_defaults", "asks the user, with defaults"),
    ("test_elicitation_sep1330_enums", "asks the user to choose"),
    ("test_input_required_result_elicitation", "asks the user for a name"),
    ("test_input_required_result_sampling", "asks the model"),
    ("test_input_required_result_list_roots", "asks for the roots"),
    ("test_input_required_result_request_state", "asks the user to confirm, and remembers"),
    ("test_input_required_result_multiple_inputs", "asks the user, the model and for the roots"),
    ("test_input_required_result_multi_round", "asks the user twice"),
];
/// As [`PLAIN`]; a table cannot be long and easy to read.
const MORE: [(&str, &str); 6] = [
    ("test_input_required_result_tampered_state", "asks the user to confirm, and remembers"),
    ("test_input_required_result_capabilities", "asks for what the client can"),
    ("failing_job", "a task that fails"),
    ("protocol_error_job", "a task that ends in an error of the protocol"),
    ("multi_input", "a task that asks the user twice at once"),
    ("test_tool_with_task", "asks the user for a name, then becomes a task"),
];

#[derive(Default)]
pub(crate) struct Catalogue {
    more_tools: AtomicBool,
    more_prompts: AtomicBool,
}

fn takes(name: &str, description: &str, arguments: &[(&str, &str)]) -> Value {
    let properties: serde_json::Map<_, _> =
        arguments.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind}))).collect();
    let schema = json!({"type": "object", "properties": properties});
    json!({"name": name, "description": description, "inputSchema": schema})
}

/// The tool whose schema uses much of JSON Schema 2020-12; the suite looks for each of its keywords.
fn schema_tool() -> Value {
    let needs = |what: &str| json!({"required": [what]});
    let text = || json!({"type": "string"});
    json!({
        "name": "json_schema_2020_12_tool",
        "description": "has a schema that is worth keeping as it is",
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": text(), "city": text()},
            }},
            "properties": {
                "name": text(),
                "address": {"$ref": "#/$defs/address"},
                "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": text(),
                "email": text(),
            },
            "allOf": [{"anyOf": [needs("phone"), needs("email")]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": needs("phone"),
            "else": needs("email"),
            "additionalProperties": false,
        },
    })
}

/// The tool with an argument that a header repeats where the transport is HTTP.
fn header_tool() -> Value {
    let mut tool = takes("test_header", "has an argument in a header", &[("region", "string")]);
    tool["inputSchema"]["properties"]["region"]["x-mcp-header"] = json!("Region");
    tool
}

/// What a tool without a mind of its own returns.
pub(crate) fn content(tool: &str) -> Option<Value> {
    let text = |text: &str| json!({"type": "text", "text": text});
    let resource = |uri: &str, kind: &str, text: &str| json!({"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": text}});
    let content = match tool {
        "test_simple_text" => json!([text("a text, and nothing else")]),
        "test_image_content" => json!([image()]),
        "test_audio_content" => json!([{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]),
        "test_embedded_resource" => json!([resource("test://embedded", "text/plain", "embedded")]),
        "test_multiple_content_types" => json!([
            text("three of a kind"),
            image(),
            resource("test://mixed", "application/json", "{\"mixed\":true}"),
        ]),
        _ => return None,
    };
    Some(json!({"content": content}))
}

fn image() -> Value {
    json!({"type": "image", "data": PNG, "mimeType": "image/png"})
}

/// The messages of a prompt that needs nothing from its client.
pub(crate) fn messages(prompt: &str, arguments: &Value) -> Option<Value> {
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default();
    let text = |text: String| json!({"type": "text", "text": text});
    let said = match prompt {
        "test_simple_prompt" => vec![text("a prompt, and nothing else".into())],
        "test_prompt_with_arguments" => {
            vec![text(format!("first {}, then {}", argument("arg1"), argument("arg2")))]
        }
        "test_prompt_with_embedded_resource" => {
            let uri = argument("resourceUri");
            let held = json!({"uri": uri, "mimeType": "text/plain", "text": "embedded"});
            vec![json!({"type": "resource", "resource": held}), text("What is this?".into())]
        }
        "test_prompt_with_image" => vec![image(), text("What is this?".into())],
        _ => return None,
    };
    let messages: Vec<_> =
        said.into_iter().map(|content| json!({"role": "user", "content": content})).collect();
    Some(json!({"messages": messages}))
}

impl Catalogue {
    /// `tools/list`, always in the same order.
    pub(crate) fn tools(&self) -> Value {
        let plain = PLAIN.iter().chain(&MORE).map(|(name, does)| takes(name, does, &[]));
        let mut tools: Vec<_> = plain.collect();
        tools.extend([
            takes("test_sampling", "asks the model", &[("prompt", "string")]),
            takes("test_elicitation", "asks the user", &[("message", "string")]),
            takes("greet", "says hello", &[("name", "string")]),
            takes("slow_compute", "takes its time", &[("seconds", "number"), ("label", "string")]),
            takes("confirm_delete", "a task that asks the user", &[("filename", "string")]),
            header_tool(),
            schema_tool(),
        ]);
        if self.more_tools.load(Ordering::SeqCst) {
            tools.push(takes("test_one_more", "is not always there", &[]));
        }
        json!({"tools": tools})
    }

    /// `prompts/list`
    pub(crate) fn prompts(&self) -> Value {
        let named = |name: &str, does: &str| json!({"name": name, "description": does});
        let taking = |name: &str, does: &str, arguments: &[&str]| {
            let arguments: Vec<_> =
                arguments.iter().map(|name| json!({"name": name, "required": true})).collect();
            json!({"name": name, "description": does, "arguments": arguments})
        };
        let mut prompts = vec![
            named("test_simple_prompt", "says one thing"),
            taking("test_prompt_with_arguments", "repeats", &["arg1", "arg2"]),
            taking("test_prompt_with_embedded_resource", "shows a resource", &["resourceUri"]),
            named("test_prompt_with_image", "shows an image"),
            named("test_input_required_result_prompt", "asks the user first"),
        ];
        if self.more_prompts.load(Ordering::SeqCst) {
            prompts.push(named("test_one_more", "is not always there"));
        }
        json!({"prompts": prompts})
    }

    /// `resources/list`
    pub(crate) fn resources() -> Value {
        let one = |uri: &str, name: &str, kind: &str| json!({"uri": uri, "name": name, "description": "does not change", "mimeType": kind});
        json!({"resources": [
            one(TEXT_URI, "text", "text/plain"),
            one(BINARY_URI, "binary", "image/png"),
            one(WATCHED_URI, "watched", "text/plain"),
        ]})
    }

    /// `resources/templates/list`
    pub(crate) fn templates() -> Value {
        let template = json!({"uriTemplate": "test://template/{id}/data", "name": "data"});
        json!({"resourceTemplates": [template]})
    }

    /// `resources/read`; `None` if there is no such resource.
    pub(crate) fn read(uri: &str) -> Option<Value> {
        let templated = || uri.strip_prefix("test://template/")?.strip_suffix("/data");
        let content = match uri {
            TEXT_URI | WATCHED_URI => {
                json!({"uri": uri, "mimeType": "text/plain", "text": "a text"})
            }
            BINARY_URI => json!({"uri": uri, "mimeType": "image/png", "blob": PNG}),
            _ => {
                let text = json!({"id": templated()?}).to_string();
                json!({"uri": uri, "mimeType": "application/json", "text": text})
            }
        };
        Some(json!({"contents": [content]}))
    }

    /// Adds the tool that is not always there, or takes it away.
    pub(crate) fn change_tools(&self) {
        self.more_tools.fetch_not(Ordering::SeqCst);
    }

    /// Adds the prompt that is not always there, or takes it away.
    pub(crate) fn change_prompts(&self) {
        self.more_prompts.fetch_not(Ordering::SeqCst);
    }
}
