//! What a client of a play says: requests, notifications and replies, out of the pieces.

use super::marks::{Audience, Mark};
use super::pieces::{LEVELS, NOTICES, REPLIES, REQUESTS, URIS, fill};
use super::play::Play;
use super::script::{Deed, Step};
use crate::config::tenant::Share;
use crate::mcp::era::META_CONTEXT;
use crate::mux::desk::META;

/// What a modern client says in the `_meta` of a request that can be asked for anything.
const ABLE: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"m","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"sampling":{},"elicitation":{},"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

impl Play<'_> {
    /// The line of a step.
    pub(super) fn compose(&mut self, at: usize, step: &Step<'_>) -> Vec<u8> {
        let mut line = match step.deed {
            Deed::Ask => self.request(at, step),
            Deed::Notify => {
                let (method, params) = NOTICES[step.what % NOTICES.len()];
                let params = self.filled(at, params, step);
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#)
            }
            Deed::Cancel => {
                let id = self.old_id(at, step.a);
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                )
            }
            Deed::Reply if self.is_to_retry(at, step) => self.retry(at, step),
            _ => {
                let asked = &self.clients[at].asked;
                let id = asked.get(usize::from(step.a) % asked.len().max(1)).copied();
                let id = id.unwrap_or(u64::from(step.a));
                self.clients[at].asked.retain(|asked| *asked != id);
                let reply = self.filled(at, REPLIES[step.what % REPLIES.len()], step);
                format!(r#"{{"jsonrpc":"2.0","id":{id},{reply}}}"#)
            }
        };
        line.push('\n');
        line.into_bytes()
    }

    /// A request: `a` chooses the id, the token and the era, `b` what its parameters are about.
    fn request(&mut self, at: usize, step: &Step<'_>) -> String {
        let (method, params) = REQUESTS[step.what % REQUESTS.len()];
        let params = self.filled(at, params, step);
        self.request_of(at, step, method, &params)
    }

    /// Whether a reply is the call once more: modern clients have nothing else to answer with.
    fn is_to_retry(&self, at: usize, step: &Step<'_>) -> bool {
        let theft = step.b & 0x80 != 0;
        let mut all = self.clients.iter().enumerate();
        let some = all.any(|(other, it)| (theft || other == at) && !it.rounds.is_empty());
        some && (self.clients[at].asked.is_empty() || step.b & 0x20 != 0)
    }

    /// A call once more, with answers for whatever may be asked: its own, or (`b` over 127) that of another
    /// session.
    fn retry(&mut self, at: usize, step: &Step<'_>) -> String {
        let b = usize::from(step.b);
        let others = self.clients.iter().enumerate();
        let mut others = others.filter(|(other, _)| b & 0x80 != 0 && *other != at);
        let theirs = others.find_map(|(_, client)| client.rounds.last());
        let own = self.clients[at].rounds.iter().rev().nth(b & 3);
        let Some(round) = theirs.or(own).or(self.clients[at].rounds.last()).cloned() else {
            return self.request(at, step);
        };
        let answer = self.filled(at, REPLIES[step.what % REPLIES.len()], step);
        let answer = answer.strip_prefix("\"result\":").unwrap_or("null").to_owned();
        let keys = ["1", "2", "one", "two"];
        let answers = keys.map(|key| format!("\"{key}\":{answer}")).join(",");
        let comma = if round.params.is_empty() { "" } else { "," };
        let (params, state) = (&round.params, &round.state);
        let params =
            format!(r#"{params}{comma}"inputResponses":{{{answers}}},"requestState":"{state}""#);
        self.request_of(at, step, &round.method, &params)
    }

    fn request_of(&mut self, at: usize, step: &Step<'_>, method: &str, params: &str) -> String {
        let id = self.new_id(at, step.a);
        let mut meta = Vec::new();
        match step.a >> 3 & 3 {
            1 => meta.push(format!(r#""progressToken":{}"#, step.b & 3)),
            2 => meta.push(format!(r#""progressToken":"{}""#, self.authored(at))),
            3 => meta.push(format!(r#""progressToken":{id}"#)),
            _ => {}
        }
        if self.clients[at].modern != (step.a & 0x40 != 0) && method != "initialize" {
            meta.push(if step.b & 0x40 == 0 { ABLE.to_owned() } else { META.to_owned() });
            if step.a & 0x20 != 0 {
                meta.push(r#""io.modelcontextprotocol/logLevel":"debug""#.to_owned());
            }
        }
        if step.a & 0x80 != 0 {
            meta.insert(0, format!(r#""{META_CONTEXT}":{{"session":"2","user":"root"}}"#));
        }
        let comma = if params.is_empty() || meta.is_empty() { "" } else { "," };
        let meta = if meta.is_empty() {
            String::new()
        } else {
            format!(r#""_meta":{{{}}}"#, meta.join(","))
        };
        if params.is_empty() && meta.is_empty() {
            return format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#);
        }
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{comma}{meta}}}}}"#
        )
    }

    fn new_id(&mut self, at: usize, how: u8) -> String {
        let used = self.clients[at].ids.len();
        match how & 7 {
            0 => format!("{used}"),
            1 => format!(r#""{}""#, self.authored(at)),
            2 => format!("{}", how >> 3 & 3),
            3 => format!(r#""\u007a{used}""#),
            4 => format!("-{used}"),
            5 => format!("1234567890123456789012345{used}"),
            6 => self.old_id(at, how >> 3),
            _ => format!("{}", used + 1),
        }
    }

    /// An id that was used before, the last ones first.
    pub(super) fn old_id(&self, at: usize, nth: u8) -> String {
        let ids = &self.clients[at].ids;
        let nth = usize::from(nth) % ids.len().max(1);
        ids.iter().rev().nth(nth).cloned().unwrap_or_else(|| "0".to_owned())
    }

    /// A new mark that a client writes.
    pub(super) fn authored(&mut self, at: usize) -> Mark {
        let mark = self.marks.make();
        self.marks.allow(mark, Audience::Author(self.clients[at].id));
        mark
    }

    fn filled(&mut self, at: usize, text: &str, step: &Step<'_>) -> String {
        let b = usize::from(step.b);
        fill(text, |gap| match gap {
            b'm' => self.authored(at).to_string(),
            b'i' => self.old_id(at, step.a),
            b'u' => URIS[b % URIS.len()].to_owned(),
            b'l' => LEVELS[b % LEVELS.len()].to_owned(),
            b'k' => self.task_of(at, b).unwrap_or_else(|| "none".to_owned()),
            b's' => self.state_of(at, b),
            _ => b.to_string(),
        })
    }

    /// A request state: its own, or (`b` over 127) one that was made for somebody else. One that holds a
    /// mark is the server's own: where each user has one, its states are for the server to guard.
    fn state_of(&self, at: usize, b: usize) -> String {
        let theft = b & 0x80 != 0;
        let all = self.clients.iter().enumerate();
        let wanted = all.filter(|(other, _)| (*other != at) == theft);
        let states = wanted.flat_map(|(_, client)| client.states.iter().rev());
        let mut states = states.filter(|state| {
            let ours = || self.marks.find(state.as_bytes()).is_empty();
            !theft || self.share == Share::Tenant || ours()
        });
        states.nth(b & 3).cloned().unwrap_or_else(|| "none".to_owned())
    }
}
