//! `tools` and `call`: one session through the door that every client uses, one question, the end.
//!
//! What a tool answers goes to stdout as it is, unless stdout is a terminal: that must not obey what a
//! server wrote.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::args::{Call, Tools, Which};
use super::client::{CallParts, Client};
use super::failure::{DONE, FAILED, Failure};
use super::{print, rooms};
use crate::names::Target;

/// How long the handshake may take: a server has 9 s to start, by default, and may be tried twice.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long a list of tools may take.
const LIST: Duration = Duration::from_secs(60);
/// The most bytes of arguments that are read from stdin: far above any message a mux lets through.
const ARGUMENTS: u64 = 64 * 1024 * 1024;
/// The longest description in the list, characters.
const DESCRIPTION: usize = 100;

/// `tenantd tools`
pub(super) fn tools(args: &Tools) -> anyhow::Result<u8> {
    let mut client = open(args.which, &args.target)?;
    let tools = client.tools(LIST).map_err(Failure::from)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&tools)?)?;
    } else {
        out.write_all(listed(&tools).as_bytes())?;
    }
    Ok(DONE)
}

/// `tenantd call`
pub(super) fn call(args: &Call) -> anyhow::Result<u8> {
    let arguments = arguments(&args.arguments)?;
    let mut client = open(args.which, &args.target)?;
    let called = client.call(&args.tool, arguments, args.timeout).map_err(Failure::from)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", called.raw.get())?;
    } else {
        show(&mut out, &called.parts)?;
    }
    out.flush()?;
    outcome(&called.parts)
}

/// A session of our own, its handshake done.
pub(super) fn open(which: Which, target: &Target) -> anyhow::Result<Client> {
    let (stdin, to) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    let (from, stdout) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    let session = rooms::open(which, target, stdin.as_fd(), stdout.as_fd())?;
    // Theirs now; kept here, the end of the session would never be seen.
    drop((stdin, stdout));
    let mut client = Client::new(to, from, Some(session.lifeline)).context("cannot use a pipe")?;
    client.handshake(HANDSHAKE).map_err(Failure::from)?;
    Ok(client)
}

/// The arguments, an object on one line.
fn arguments(written: &str) -> anyhow::Result<Box<RawValue>> {
    let mut text = String::new();
    if written == "-" {
        io::stdin()
            .lock()
            .take(ARGUMENTS)
            .read_to_string(&mut text)
            .context("cannot read the arguments from stdin")?;
    } else {
        text.push_str(written);
    }
    Ok(object(&text)?)
}

fn object(text: &str) -> Result<Box<RawValue>, Failure> {
    // A line end outside a string is white space, inside one it is not JSON: replacing both is right.
    let line = text.trim().replace(['\n', '\r'], " ");
    let value: Box<RawValue> = serde_json::from_str(&line).map_err(|error| {
        Failure::usage(format!(
            "the arguments are not JSON: {error} (write for example '{{\"text\": \"hi\"}}')"
        ))
    })?;
    if value.get().starts_with('{') {
        Ok(value)
    } else {
        let shown = print::cut(value.get(), 40);
        Err(Failure::usage(format!("the arguments are {shown}, not a JSON object ({{...}})")))
    }
}

fn show(out: &mut impl io::Write, parts: &CallParts) -> io::Result<()> {
    let terminal = io::stdout().is_terminal();
    for text in parts.texts() {
        let text = if terminal { print::text(&text) } else { text };
        writeln!(out, "{text}")?;
    }
    match &parts.structured_content {
        Some(data) if parts.content.is_empty() => writeln!(out, "{}", data.get()),
        _ => Ok(()),
    }
}

fn outcome(parts: &CallParts) -> anyhow::Result<u8> {
    if parts.is_error {
        // The reason is on stdout: it is the tool's answer. The exit code says what it was.
        return Ok(FAILED);
    }
    match parts.result_type.as_deref() {
        None | Some("complete") => Ok(DONE),
        Some(other) => Err(Failure::new(
            FAILED,
            format!(
                "the tool is not done: it answered {:?}, which needs an interactive client",
                print::word(other)
            ),
        )
        .into()),
    }
}

/// What `tools` shows of a definition.
#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default, rename = "inputSchema")]
    input: Input,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Input {
    properties: serde_json::Map<String, serde_json::Value>,
    required: Vec<String>,
}

fn listed(tools: &[Box<RawValue>]) -> String {
    let row = |tool: &RawValue| match serde_json::from_str::<Tool>(tool.get()) {
        Ok(tool) => vec![
            print::word(&tool.name),
            parameters(&tool.input),
            print::cut(tool.description.lines().next().unwrap_or_default(), DESCRIPTION),
        ],
        Err(_) => vec!["?".to_owned(), String::new(), print::cut(tool.get(), DESCRIPTION)],
    };
    let rows: Vec<_> = tools.iter().map(|tool| row(tool)).collect();
    print::table(0, &["TOOL", "ARGUMENTS", "DESCRIPTION"], &rows)
}

/// `text, [limit]`: in brackets what can be left out.
fn parameters(input: &Input) -> String {
    let each = input.properties.keys().map(|name| {
        let shown = print::word(name);
        if input.required.contains(name) { shown } else { format!("[{shown}]") }
    });
    print::cut(&each.collect::<Vec<_>>().join(", "), 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_one_object_on_one_line() {
        let value = object("{\n \"a\": [1,\r\n 2.50]\n}").expect("an object");
        assert_eq!(value.get(), "{  \"a\": [1,   2.50] }");
        for bad in ["", "[1]", "1", "null", "{", "{} {}", "{\"a\":\"x\ny\"}x"] {
            assert_eq!(object(bad).expect_err(bad).code, super::super::failure::USAGE, "{bad:?}");
        }
    }

    #[test]
    fn an_error_of_the_tool_is_exit_code_one() {
        let parts = |json: &str| serde_json::from_str::<CallParts>(json).expect("a result");
        assert_eq!(outcome(&parts(r#"{"content":[],"isError":true}"#)).expect("a code"), FAILED);
        assert_eq!(outcome(&parts(r#"{"resultType":"complete"}"#)).expect("a code"), DONE);
        assert!(outcome(&parts(r#"{"resultType":"input_required"}"#)).is_err());
    }

    #[test]
    fn a_result_is_shown_as_text_and_what_is_not_text_as_json() {
        let json = r#"{"content":[{"type":"text","text":"hi"},{"type":"image","data":"AA"}]}"#;
        let parts: CallParts = serde_json::from_str(json).expect("a result");
        let mut out = Vec::new();
        show(&mut out, &parts).expect("written");
        let shown = String::from_utf8(out).expect("UTF-8");
        assert_eq!(shown, "hi\n{\"type\":\"image\",\"data\":\"AA\"}\n");
    }

    #[test]
    fn a_list_of_tools_names_what_can_be_left_out() {
        let tool = r#"{"name":"save\u001b","description":"Saves.\nMore.","inputSchema":
            {"type":"object","properties":{"text":{},"limit":{}},"required":["text"]}}"#;
        let tools = vec![serde_json::from_str::<Box<RawValue>>(tool).expect("JSON")];
        let shown = listed(&tools);
        assert!(shown.contains("save\\u{1b}") && shown.contains("text, [limit]"), "{shown}");
        assert!(shown.contains("Saves.") && !shown.contains("More"), "{shown}");
    }
}
