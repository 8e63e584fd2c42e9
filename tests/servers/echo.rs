//! The smallest MCP server that can be measured: one loop, std only, nothing allocated for a call but its
//! line. Legacy, or with the argument `modern` of the modern era.
//!
//! It looks for what it needs in the text of a line, because its clients are ours: the id as a number
//! or string, the method, and what to echo. Not a server to learn from.

use std::io::{self, BufRead, Write};

const TOOLS: &str = concat!(
    r#"{"tools":[{"name":"echo","description":"Sends the text back.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}},"#,
    r#"{"name":"big","description":"Sends 100 KB.","inputSchema":{"type":"object"}}]}"#
);
const HELLO: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}"#;
const DISCOVERY: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"echo","version":"1"}}}"#;
/// The length of the large result, bytes.
const BIG: usize = 100_000;

fn main() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let modern = std::env::args().nth(1).is_some_and(|era| era == "modern");
    let big = text_result(&"x".repeat(BIG));
    let mut line = String::new();
    let mut answer = Vec::new();
    while input.read_line(&mut line)? > 0 {
        if let Some(id) = id(&line) {
            answer.clear();
            answer.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
            answer.extend_from_slice(id.as_bytes());
            reply(modern, &line, &big, &mut answer);
            answer.extend_from_slice(b"}\n");
            output.write_all(&answer)?;
            output.flush()?;
        }
        line.clear();
    }
    Ok(())
}

fn reply(modern: bool, line: &str, big: &str, answer: &mut Vec<u8>) {
    let result = |answer: &mut Vec<u8>, result: &str| {
        answer.extend_from_slice(br#","result":"#);
        if modern {
            // What every modern result has goes behind its last member.
            answer.extend_from_slice(result.as_bytes().strip_suffix(b"}").unwrap_or_default());
            answer.extend_from_slice(br#","resultType":"complete"}"#);
        } else {
            answer.extend_from_slice(result.as_bytes());
        }
    };
    match method(line) {
        Some("tools/call") if after(line, r#""name":""#, b"\"") == Some("big") => {
            result(answer, big)
        }
        Some("tools/call") => result(answer, &text_result(text(line))),
        Some("tools/list") => result(answer, TOOLS),
        Some("server/discover") if modern => result(answer, DISCOVERY),
        Some("initialize") if !modern => result(answer, HELLO),
        Some("ping") if !modern => result(answer, "{}"),
        _ => answer.extend_from_slice(
            br#","error":{"code":-32601,"message":"this server has no such method"}"#,
        ),
    }
}

fn text_result(text: &str) -> String {
    format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#)
}

/// What follows a key, up to the end that is given; a backslash protects the next character.
fn after<'a>(line: &'a str, key: &str, ends: &[u8]) -> Option<&'a str> {
    let rest = &line[line.find(key)? + key.len()..];
    let mut protected = false;
    let end = rest.bytes().position(|byte| {
        let end = !protected && ends.contains(&byte);
        protected = !protected && byte == b'\\';
        end
    })?;
    Some(&rest[..end])
}

fn id(line: &str) -> Option<&str> {
    after(line, r#""id":"#, b",}")
}

fn method(line: &str) -> Option<&str> {
    after(line, r#""method":""#, b"\"")
}

fn text(line: &str) -> &str {
    after(line, r#""text":""#, b"\"").unwrap_or("")
}
