//! What a server of a play says: answers, notifications and questions, out of the pieces; and its answers
//! to the mux itself.

use super::marks::Mark;
use super::pieces::{ANSWERS, DEMANDS, LEVELS, TASKS, TIDINGS, URIS, fill};
use super::play::Play;
use super::script::{Deed, Step};
use super::servers::{Manner, Server};
use crate::mux::outbox::ChildId;

/// How often a contrary server refuses before it falls silent.
const REFUSALS: usize = 6;

impl Play<'_> {
    /// The line of a step.
    pub(super) fn say(&mut self, at: usize, step: &Step<'_>) -> Option<Vec<u8>> {
        let number = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#)
        };
        let line = match step.deed {
            Deed::Answer => {
                let open = self.open_request(at, step.a)?;
                let answer = ANSWERS[step.what % ANSWERS.len()];
                let task = TASKS.contains(&answer);
                let answer = self.worded(at, answer, step, task);
                format!(r#"{{"jsonrpc":"2.0","id":{open},{answer}}}"#)
            }
            Deed::Tell => {
                let (method, params) = TIDINGS[step.what % TIDINGS.len()];
                let params = self.worded(at, params, step, false);
                number(method, &params)
            }
            _ => {
                let (method, params) = DEMANDS[step.what % DEMANDS.len()];
                let params = self.worded(at, params, step, false);
                let id = match step.b & 3 {
                    0 => format!("{}", self.servers[at].asked.len()),
                    1 => format!(r#""{}""#, self.written(at)),
                    2 => r#""\u0061""#.to_owned(),
                    _ => format!("{}", step.a & 3),
                };
                format!(
                    r#"{{"id":{id},"params":{{{params}}},"method":"{method}","jsonrpc":"2.0"}}"#
                )
            }
        };
        Some(line.into_bytes())
    }

    /// The id of a request that waits for an answer: the oldest for zero. With the highest bit one that
    /// was answered.
    pub(super) fn open_request(&self, at: usize, nth: u8) -> Option<u64> {
        let server = &self.servers[at];
        let among = if nth & 0x80 == 0 { &server.unanswered } else { &server.answered };
        among.get(usize::from(nth & 0x7f) % among.len().max(1)).copied()
    }

    /// A new mark that a server writes: for nobody, until it is known in what line it goes out.
    fn written(&mut self, at: usize) -> Mark {
        let mark = self.marks.make();
        self.servers[at].wrote.insert(mark);
        mark
    }

    fn worded(&mut self, at: usize, text: &str, step: &Step<'_>, task: bool) -> String {
        let b = usize::from(step.b);
        fill(text, |gap| match gap {
            b'm' => {
                let mark = self.written(at);
                if task && !step.maimed {
                    self.tasks.push((self.servers[at].id, mark));
                }
                mark.to_string()
            }
            b'u' => URIS[b % URIS.len()].to_owned(),
            b'l' => LEVELS[b % LEVELS.len()].to_owned(),
            // A line that is maimed tells of no task: what could be read from it is anybody's guess.
            b'k' if step.maimed => "none".to_owned(),
            b'k' => self.own_task(at, b).unwrap_or_else(|| "none".to_owned()),
            b'o' => self.open_request(at, step.a).unwrap_or_default().to_string(),
            // What a server lists to who asked for something else is its own doing.
            b't' if !step.maimed && self.lists_tasks(at, step) => self.all_tasks(at),
            b't' => String::new(),
            _ => (b >> 2 & 7).to_string(),
        })
    }

    /// A task's id: of a client's own, or with `b` over 127 of anybody.
    pub(super) fn task_of(&self, client: usize, b: usize) -> Option<String> {
        let marks = self.tasks.iter().rev().map(|(_, mark)| *mark);
        let mut marks = marks.filter(|mark| b & 0x80 != 0 || self.is_asked_by(client, *mark));
        marks.nth(b & 3).map(|mark| mark.to_string())
    }

    /// The id of a task that a server, or the one before it, has made.
    fn own_task(&self, at: usize, b: usize) -> Option<String> {
        let slot = &self.servers[at].slot;
        let own = |id: ChildId| self.servers.iter().any(|it| it.id == id && it.slot == *slot);
        let mut marks = self.tasks.iter().rev().filter(|(child, _)| own(*child));
        marks.nth(b & 3).map(|(_, mark)| mark.to_string())
    }

    /// Whether a step answers a request for the tasks.
    fn lists_tasks(&self, at: usize, step: &Step<'_>) -> bool {
        let open = self.open_request(at, step.a).and_then(|id| self.servers[at].got.get(&id));
        step.deed == Deed::Answer && open.is_some_and(|got| got.method == "tasks/list")
    }

    fn all_tasks(&self, at: usize) -> String {
        let own = self.tasks.iter().filter(|(child, _)| *child == self.servers[at].id);
        let task = |mark: &Mark| format!(r#"{{"taskId":"{mark}","status":"working"}}"#);
        own.map(|(_, mark)| task(mark)).collect::<Vec<_>>().join(",")
    }

    /// Every server answers what the mux itself asked, in its manner; says whether one had to.
    pub(super) fn be_courteous(&mut self) -> bool {
        let mut said = false;
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            if !server.open || server.deaf || server.manner == Manner::Mute {
                continue;
            }
            for (id, method, filter) in std::mem::take(&mut server.due) {
                let line = reply(&mut self.servers[at], id, &method, &filter);
                self.server_says(at, line.as_bytes());
                said = true;
            }
        }
        said
    }
}

fn reply(server: &mut Server, id: u64, method: &str, filter: &str) -> String {
    let discovery = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"prompts":{},"logging":{}},"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#;
    let hello = r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"logging":{},"tasks":{}},"serverInfo":{"name":"s","version":"1"}}"#;
    let unknown = r#""error":{"code":-32601,"message":"unknown"}"#;
    let said = match (server.manner, method) {
        (Manner::Contrary, "initialize" | "server/discover") => {
            server.refused += 1;
            if server.refused > REFUSALS {
                return String::new();
            }
            if method == "initialize" {
                r#""error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}"#
            } else {
                unknown
            }
        }
        (Manner::Modern, "server/discover") => discovery,
        (_, "server/discover") => unknown,
        (Manner::Modern, "initialize") => unknown,
        (_, "initialize") => hello,
        (Manner::Contrary, "subscriptions/listen") => return String::new(),
        (_, "subscriptions/listen") => {
            let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
            return format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"notifications\":{filter},{meta}}}}}\n"
            );
        }
        _ => r#""result":{"resultType":"complete"}"#,
    };
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{said}}}\n")
}
