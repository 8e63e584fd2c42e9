//! What `tests/clients/tee.py` wrote down of a connection, and whether two of them are the same bytes.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::session::Era;

/// One connection of a client with a server, line by line.
pub(crate) struct Transcript {
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    by: By,
    line: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Client,
    Server,
}

/// The parts of a message, as the bytes that they were.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Message<'_> {
    fn is(&self, method: &str) -> bool {
        self.method.as_deref() == Some(method)
    }

    fn params(&self) -> Value {
        self.params.map_or(Value::Null, value)
    }

    fn has_id(&self, id: &str) -> bool {
        self.id.is_some_and(|own| own.get() == id)
    }
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).expect("JSON")
}

/// The connections in a directory of the tee, in the order in which they began.
pub(crate) fn transcripts(directory: &Path) -> Vec<Transcript> {
    let files = (0..).map(|number| directory.join(format!("{number}.jsonl")));
    files.map_while(|file| std::fs::read_to_string(file).ok()).map(|text| read(&text)).collect()
}

fn read(text: &str) -> Transcript {
    // A tee that was killed may have left half a record.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines = whole.map(|line| serde_json::from_str(line).expect("a record"));
    Transcript { lines: lines.collect() }
}

impl Transcript {
    fn of(&self, by: By) -> impl Iterator<Item = Message<'_>> {
        let lines = self.lines.iter().filter(move |line| line.by == by);
        lines.map(|line| serde_json::from_str(&line.line).expect("a message"))
    }

    /// The requests of the client: their ids and methods.
    fn requests(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        self.of(By::Client).filter_map(|message| Some((message.id?.get(), message.method?)))
    }

    fn answers(&self) -> impl Iterator<Item = Message<'_>> {
        self.of(By::Server).filter(|message| message.method.is_none())
    }

    /// The answer to the client's request with this id: `result` or `error`, as it came.
    fn answer(&self, id: &str) -> Option<&str> {
        let answer = self.answers().find(|message| message.has_id(id))?;
        answer.result.or(answer.error).map(RawValue::get)
    }

    /// The era of the connection: legacy if a handshake was answered. A modern server that is slow to
    /// start is offered one and refuses it.
    pub(crate) fn era(&self) -> Era {
        let accepts = |id: &str| self.answers().any(|one| one.has_id(id) && one.result.is_some());
        let mut offers = self.requests().filter(|(_, method)| method == "initialize");
        if offers.any(|(id, _)| accepts(id)) { Era::Legacy } else { Era::Modern }
    }

    /// What the server declared when it was greeted, in either era.
    pub(crate) fn capabilities(&self) -> Option<Value> {
        let mut greetings = self.answers().filter_map(|one| one.result.map(value));
        greetings.find_map(|mut result| {
            let greeting = result.get("protocolVersion").or(result.get("supportedVersions"));
            greeting.is_some().then(|| result["capabilities"].take())
        })
    }

    /// How many messages the server sent for which this holds.
    pub(crate) fn heard(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        let from_server = self.lines.iter().filter(|line| line.by == By::Server);
        let messages = from_server.map(|line| serde_json::from_str(&line.line).expect("JSON"));
        messages.filter(wanted).count()
    }

    /// Its last lines, for people, each cut short.
    pub(crate) fn end(&self) -> String {
        const LINES: usize = 12;
        const CHARACTERS: usize = 600;
        let last = self.lines.iter().skip(self.lines.len().saturating_sub(LINES));
        let lines = last.map(|line| {
            let from = if line.by == By::Client { "->" } else { "<-" };
            let text: String = line.line.trim_end().chars().take(CHARACTERS).collect();
            format!("  {from} {text}\n")
        });
        lines.collect()
    }

    /// The id of the last call of this tool with these arguments.
    fn call(&self, tool: &str, arguments: &Value) -> Option<&str> {
        let calls = self.of(By::Client).filter(|message| message.is("tools/call"));
        let these = calls.filter(|message| {
            let params = message.params();
            params["name"] == tool && params["arguments"] == *arguments
        });
        Some(these.last()?.id?.get())
    }

    /// Whether the last such call was cancelled by the client, by its own id.
    pub(crate) fn cancelled(&self, tool: &str, arguments: &Value) -> bool {
        let Some(id) = self.call(tool, arguments) else { return false };
        let mut ends = self.of(By::Client).filter(|message| message.is("notifications/cancelled"));
        ends.any(|message| message.params()["requestId"].to_string().as_str() == id)
    }

    /// Whether the last such call was answered.
    pub(crate) fn answered(&self, tool: &str, arguments: &Value) -> bool {
        self.call(tool, arguments).is_some_and(|id| self.answer(id).is_some())
    }

    /// The lines of progress, but for calls that were cancelled: how many still come is a race.
    fn progress(&self) -> Vec<&str> {
        let requests = || self.of(By::Client).filter(|message| message.id.is_some());
        let cancelled = self.of(By::Client).filter(|message| message.is("notifications/cancelled"));
        let ended = cancelled.filter_map(|message| {
            let id = message.params()["requestId"].to_string();
            let request = requests().find(|request| request.has_id(&id))?;
            Some(request.params()["_meta"]["progressToken"].clone())
        });
        let ended: Vec<Value> = ended.collect();
        let lines = self.lines.iter().filter(|line| line.by == By::Server);
        let steps = lines.map(|line| line.line.as_str()).filter(|text| {
            let message: Message<'_> = serde_json::from_str(text).expect("a message");
            let of = || message.params()["progressToken"].clone();
            message.is("notifications/progress") && !ended.contains(&of())
        });
        steps.collect()
    }

    /// The parameters of the server's own requests, which bear ids of their own.
    fn asks(&self, method: &str) -> Vec<&str> {
        let asks = self.of(By::Server).filter(|message| message.is(method));
        asks.filter_map(|message| message.params.map(RawValue::get)).collect()
    }
}

/// Fails unless the client said the same in both runs and heard the same bytes: every answer, every
/// step of progress, and every question of the server. `unlike` is a tool whose answers are not compared.
#[track_caller]
pub(crate) fn assert_same_bytes(through: &[Transcript], direct: &[Transcript], unlike: &str) {
    assert_eq!(through.len(), direct.len(), "connections, through tenantd and direct");
    let mut compared = 0;
    for (through, direct) in through.iter().zip(direct) {
        let asked = |side: &Transcript| -> Vec<String> {
            let pairs = side.requests();
            pairs.map(|(id, method)| format!("{id} {method}")).collect()
        };
        assert_eq!(asked(through), asked(direct), "the client's requests and their ids");
        let except = through.call(unlike, &Value::Object(serde_json::Map::new()));
        for (id, method) in through.requests().filter(|(id, _)| Some(*id) != except) {
            assert_eq!(through.answer(id), direct.answer(id), "the answer to {method} {id}");
            compared += usize::from(direct.answer(id).is_some());
        }
        assert_eq!(through.progress(), direct.progress(), "progress");
        for ask in ["elicitation/create", "sampling/createMessage"] {
            assert_eq!(through.asks(ask), direct.asks(ask), "{ask}");
        }
    }
    assert!(compared > 0, "nothing was compared");
}
