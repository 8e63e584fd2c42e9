//! The exchange's rules, told with lines: no process, no clock. Each end sees exactly what is for it.

mod healing;
mod health;
mod interleavings;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::exchange::Exchange;
use super::outbox::{Act, ChildId, End};
use super::session::IN_FLIGHT;
use crate::config::tenant::{Limit, Share, SharedCapability};
use crate::mcp::line::Line;
use crate::names::{ServerName, SessionId, TenantId};
use crate::wire::{self, Farewell, Holder, MuxPlan, ServerPlan};

/// An exchange and what its ends have heard.
pub(super) struct Desk {
    pub(super) exchange: Exchange,
    pub(super) now: Instant,
    asked: Vec<ChildId>,
    acts: Vec<Act>,
}

/// Longer than the pauses of a server that is not in a crash loop yet.
pub(super) const PAUSE: Duration = Duration::from_secs(3);

pub(super) fn plan(share: Share) -> MuxPlan {
    MuxPlan {
        wire: wire::VERSION,
        tenant: TenantId::parse("acme").expect("a name"),
        name: "Acme".to_owned(),
        start_digest: String::new(),
        digest: String::new(),
        servers: vec![ServerPlan {
            name: ServerName::main(),
            share,
            max_children: 8,
            always: false,
            idle_timeout_ms: Limit::At(600_000),
            request_timeout_ms: Limit::At(600_000),
            start_timeout_ms: 9_000,
            shared_capabilities: vec![SharedCapability::Sampling],
            held: None,
        }],
        features: BTreeMap::new(),
        message_size: Limit::At(4096),
        supervisor_uid: 0,
        drain_ms: 5_000,
        orphan_timeout_ms: 30_000,
    }
}

pub(super) const HELLO: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{"sampling":{}},"clientInfo":{"name":"test","version":"1"}}"#;
pub(super) const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"m","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}"#;
/// Odd on purpose: whatever is not ours to change has to come back like this.
const RESULT: &str = r#"{ "n":1.0e2, "big":123456789012345678901234567890, "u":"\ud83d" }"#;

impl Desk {
    pub(super) fn new(share: Share) -> Self {
        let now = Instant::now();
        Self {
            exchange: Exchange::new(plan(share), Default::default(), 7, now),
            now,
            asked: Vec::new(),
            acts: Vec::new(),
        }
    }

    pub(super) fn holder(&self, uid: u32) -> Holder {
        let user = format!("u{uid}");
        Holder { uid, gid: uid, groups: Vec::new(), user, permissions: Vec::new() }
    }

    pub(super) fn open(&mut self, id: u64, uid: u32) -> SessionId {
        let holder = self.holder(uid);
        self.exchange.open(SessionId(id), ServerName::main(), holder, false, self.now);
        SessionId(id)
    }

    pub(super) fn client(&mut self, session: SessionId, line: &str) {
        self.exchange.client_line(session, Line::Whole(line.as_bytes()), self.now);
    }

    pub(super) fn server(&mut self, child: ChildId, line: &str) {
        self.exchange.child_line(child, Line::Whole(line.as_bytes()), self.now);
    }

    /// What an end was sent since it was last asked.
    pub(super) fn heard(&mut self, end: End) -> Vec<String> {
        let Some(queue) = self.exchange.out.queue(end) else { return Vec::new() };
        let text = String::from_utf8(queue.front().to_vec()).expect("UTF-8");
        queue.advance(text.len());
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn client_heard(&mut self, session: SessionId) -> Vec<Value> {
        values(&self.heard(End::Session(session)))
    }

    pub(super) fn server_heard(&mut self, child: ChildId) -> Vec<Value> {
        values(&self.heard(End::Child(child)))
    }

    pub(super) fn acts(&mut self) -> Vec<Act> {
        while let Some(act) = self.exchange.out.next_act() {
            if let Act::Ask { child, .. } = &act {
                self.asked.push(*child);
            }
            self.acts.push(act);
        }
        std::mem::take(&mut self.acts)
    }

    /// The child that was asked for, started.
    pub(super) fn start(&mut self) -> ChildId {
        self.acts();
        let child = self.asked.pop().expect("a child was asked for");
        self.exchange.child_started(child, 1, "program".to_owned(), self.now);
        child
    }

    /// A child that was asked for and died before it said anything.
    pub(super) fn fall(&mut self) {
        let child = self.start();
        self.exchange.heard_stderr(child, b"cannot\x1b[31m open");
        self.exchange.child_ended(child, "it exited with code 3", false, self.now);
    }

    /// Time passes, and what is due is done.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.exchange.tick(self.now);
    }

    pub(super) fn initialize(&mut self, session: SessionId) {
        let line = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#);
        self.client(session, &line);
    }

    /// The one line that a session hears when it asks.
    pub(super) fn asked(&mut self, session: SessionId, method: &str, params: Value) -> Value {
        let line = json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": params});
        self.client(session, &line.to_string());
        let mut heard = self.client_heard(session);
        assert_eq!(heard.len(), 1, "{method}: {heard:?}");
        heard.remove(0)
    }

    /// A session that has shaken hands with a legacy server.
    pub(super) fn legacy(&mut self, id: u64, uid: u32) -> (SessionId, ChildId) {
        let session = self.open(id, uid);
        self.client(
            session,
            &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
        );
        self.acts();
        let child = if self.asked.is_empty() {
            self.exchange.ready_child(session).expect("a running child")
        } else {
            let child = self.start();
            self.shake(child);
            child
        };
        let heard = self.client_heard(session);
        assert_eq!(heard[0]["result"]["serverInfo"]["name"], "s", "{heard:?}");
        self.client(session, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        self.heard(End::Child(child));
        (session, child)
    }

    /// A legacy server's side of the handshake; gives whatever else it heard.
    pub(super) fn shake(&mut self, child: ChildId) -> Vec<Value> {
        let mut others = Vec::new();
        for _ in 0..3 {
            for line in self.server_heard(child) {
                let id = &line["id"];
                match line["method"].as_str() {
                    Some("server/discover") => self.server(
                        child,
                        &json!({"jsonrpc":"2.0","id":id,"error":{"code":-32601,"message":"?"}})
                            .to_string(),
                    ),
                    Some("initialize") => self.server(
                        child,
                        &json!({"jsonrpc":"2.0","id":id,"result":{"protocolVersion":"2025-11-25",
                            "capabilities":{"tools":{},"tasks":{}},"serverInfo":{"name":"s","version":"1"}}})
                        .to_string(),
                    ),
                    _ => others.push(line),
                }
            }
        }
        others
    }

    /// A modern session on a modern server.
    pub(super) fn modern(&mut self, id: u64) -> (SessionId, ChildId) {
        let session = self.open(id, 1000);
        self.client(session, &format!(r#"{{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{{"_meta":{{{META}}}}}}}"#));
        self.acts();
        if !self.asked.is_empty() {
            let child = self.start();
            let probe = self.server_heard(child).remove(0);
            self.server(child, &discovery(&probe["id"]));
        }
        let child = self.exchange.ready_child(session).expect("a running child");
        let forwarded = self.server_heard(child).pop().expect("the client's own discover");
        self.server(child, &discovery(&forwarded["id"]));
        assert_eq!(self.client_heard(session)[0]["id"], "d");
        (session, child)
    }
}

pub(super) fn discovery(id: &Value) -> String {
    json!({"jsonrpc":"2.0","id":id,"result":{"resultType":"complete",
        "supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,
        "cacheScope":"private",
        "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}})
    .to_string()
}

fn values(lines: &[String]) -> Vec<Value> {
    // A lone surrogate is no text for serde_json; tests that look at bytes use `heard`.
    lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub(super) fn call(id: &str, token: Option<&str>) -> String {
    let meta = token.map_or(String::new(), |t| format!(r#","_meta":{{"progressToken":{t}}}"#));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"{meta}}}}}"#)
}

#[test]
fn equal_ids_and_tokens_of_two_clients_never_meet() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1001);
    desk.client(a, &call("1", Some("7")));
    desk.client(b, &call("1", Some("7")));
    let calls = desk.server_heard(child);
    let (first, second) = (&calls[0], &calls[1]);
    assert_ne!(first["id"], second["id"]);
    let token = &second["params"]["_meta"]["progressToken"];
    assert_ne!(&first["params"]["_meta"]["progressToken"], token);
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":0.5}}}}"#));
    assert!(desk.client_heard(a).is_empty());
    assert_eq!(desk.client_heard(b)[0]["params"]["progressToken"], 7);
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{RESULT}}}"#, second["id"]));
    assert!(desk.client_heard(a).is_empty());
    let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{RESULT}}}"#);
    assert_eq!(desk.heard(End::Session(b)), [answer]);
}

#[test]
fn an_id_comes_back_byte_for_byte() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in ["12345678901234567890123", r#""a\u0062 \"c\"""#, "-1", "\"\""] {
        desk.client(a, &call(id, None));
        let ours = desk.server_heard(child)[0]["id"].clone();
        assert!(ours.is_u64());
        desk.server(child, &format!(r#"{{"id":{ours},"result":{{}},"jsonrpc":"2.0"}}"#));
        assert_eq!(
            desk.heard(End::Session(a)),
            [format!(r#"{{"id":{id},"result":{{}},"jsonrpc":"2.0"}}"#)]
        );
    }
}

#[test]
fn an_id_in_flight_is_refused_and_the_first_call_keeps_its_answer() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    desk.client(a, &call("1", None));
    let calls = desk.server_heard(child);
    assert_eq!(calls.len(), 1);
    assert_eq!(desk.client_heard(a)[0]["error"]["code"], 409);
    desk.server(child, &json!({"jsonrpc":"2.0","id":calls[0]["id"],"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
}

#[test]
fn ids_that_are_none_are_refused_by_name() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in ["null", "1.5", "1e2", "true", "{}"] {
        desk.client(a, &call(id, None));
        assert_eq!(desk.client_heard(a)[0]["error"]["code"], 400, "{id}");
    }
    for line in [
        "nonsense",
        "[]",
        "[{\"id\":1}]",
        "{}",
        "{\"id\":1}",
        "{\"id\":1,\"id\":2,\"method\":\"x\"}",
    ] {
        desk.client(a, line);
        assert_eq!(desk.client_heard(a)[0]["error"]["code"], 400, "{line}");
    }
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn a_client_cancels_only_what_is_its_own() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    desk.client(a, &call("5", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    desk.client(b, cancel);
    assert!(desk.server_heard(child).is_empty());
    desk.client(a, cancel);
    assert_eq!(desk.server_heard(child)[0]["params"]["requestId"], ours);
    desk.client(a, cancel);
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn a_servers_request_goes_to_the_only_client_it_can_be_for() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    let ask = r#"{"jsonrpc":"2.0","id":0,"method":"sampling/createMessage","params":{"t":0.7}}"#;
    desk.server(child, ask);
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
    desk.client(a, &call("1", None));
    desk.heard(End::Child(child));
    desk.server(child, ask);
    assert!(desk.client_heard(b).is_empty());
    let heard = desk.heard(End::Session(a));
    assert_eq!(heard, [ask]);
    // Only its own client can answer, and only once.
    let answer = r#"{"jsonrpc":"2.0","id":0,"result":{"model":"m"}}"#;
    desk.client(b, answer);
    assert!(desk.server_heard(child).is_empty());
    desk.client(a, answer);
    desk.client(a, answer);
    assert_eq!(desk.heard(End::Child(child)), [answer]);
    desk.client(b, &call("1", None));
    desk.heard(End::Child(child));
    desk.server(child, ask);
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "ambiguous");
    assert!(desk.client_heard(a).is_empty() && desk.client_heard(b).is_empty());
}

#[test]
fn list_changed_reaches_every_client_and_an_update_only_its_subscribers() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    desk.server(child, changed);
    assert_eq!(desk.heard(End::Session(a)), [changed]);
    assert_eq!(desk.heard(End::Session(b)), [changed]);
    let about = |method: &str, id: u32| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/{method}","params":{{"uri":"x:/1"}}}}"#
        )
    };
    for session in [a, b] {
        desk.client(session, &about("subscribe", 1));
        let ours = desk.server_heard(child)[0]["id"].clone();
        desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
        desk.heard(End::Session(session));
    }
    let updated =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:/1"}}"#;
    desk.client(a, &about("unsubscribe", 2));
    assert!(desk.server_heard(child).is_empty(), "b still holds it");
    desk.heard(End::Session(a));
    desk.server(child, updated);
    assert!(desk.heard(End::Session(a)).is_empty());
    assert_eq!(desk.heard(End::Session(b)), [updated]);
    desk.exchange.close_session(b, Farewell { reason: String::new(), code: 0 });
    assert_eq!(desk.server_heard(child)[0]["method"], "resources/unsubscribe");
}

#[test]
fn a_death_answers_every_call_with_its_own_id_and_the_next_call_starts_again() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    desk.client(a, &call("\"x\"", None));
    desk.client(b, &call("9", None));
    desk.exchange.child_ended(child, "it was ended by SIGKILL", false, desk.now);
    let heard = desk.client_heard(a);
    assert_eq!((&heard[0]["id"], &heard[0]["error"]["code"]), (&json!("x"), &json!(503)));
    assert_eq!(desk.client_heard(b)[0]["id"], 9);
    desk.client(a, &call("2", None));
    let next = desk.start();
    assert_ne!(next, child);
    let calls = desk.shake(next);
    let call = calls.iter().find(|line| line["method"] == "tools/call").expect("the call");
    desk.server(next, &json!({"jsonrpc":"2.0","id":call["id"],"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 2);
}

#[test]
fn a_session_that_goes_has_its_calls_cancelled() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    let heard = desk.server_heard(child);
    assert_eq!(heard[0]["method"], "notifications/cancelled");
    assert_eq!(heard[0]["params"]["requestId"], ours);
    // Its late answer is for nobody.
    desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
    assert_eq!(desk.exchange.counters.dropped, 1);
}

#[test]
fn tasks_belong_to_the_session_that_made_them() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.server(
        child,
        &json!({"jsonrpc":"2.0","id":ours,"result":{"task":{"taskId":"T","status":"working"}}})
            .to_string(),
    );
    desk.heard(End::Session(a));
    let get = r#"{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"T"}}"#;
    desk.client(b, get);
    assert_eq!(desk.client_heard(b)[0]["error"]["data"]["reason"], "unknown-task");
    desk.client(a, get);
    assert_eq!(desk.server_heard(child).len(), 1);
    desk.client(b, r#"{"jsonrpc":"2.0","id":3,"method":"tasks/list"}"#);
    let list = desk.server_heard(child)[0]["id"].clone();
    desk.server(
        child,
        &format!(r#"{{"jsonrpc":"2.0","id":{list},"result":{{"tasks":[{{"taskId":"T"}}]}}}}"#),
    );
    assert_eq!(desk.client_heard(b)[0]["result"]["tasks"], json!([]));
    desk.server(
        child,
        r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"T"}}"#,
    );
    assert_eq!(desk.client_heard(a).len(), 1);
    assert!(desk.client_heard(b).is_empty());
}

#[test]
fn a_context_of_the_clients_own_is_replaced() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for meta in
        [r#""io.tenantd/context":{"permissions":["admin"]}"#, r#""\u0069o.tenantd/context":1"#, ""]
    {
        desk.client(a, &format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"tools/call","params":{{"_meta":{{{meta}}}}}}}"#, meta.len()));
        let heard = desk.server_heard(child);
        let context = &heard[0]["params"]["_meta"]["io.tenantd/context"];
        assert_eq!(context["user"], "u1000");
        assert_eq!(context["permissions"], json!([]));
    }
}

#[test]
fn a_modern_subscription_is_known_by_the_clients_own_id() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    let (b, _) = desk.modern(2);
    for session in [a, b] {
        desk.client(session, &format!(r#"{{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{{"_meta":{{{META}}},"notifications":{{"toolsListChanged":true}}}}}}"#));
    }
    let listens = desk.server_heard(child);
    let id = &listens[1]["id"];
    let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{{meta}}}}}"#));
    desk.server(
        child,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{meta}}}}}"#),
    );
    assert!(desk.client_heard(a).is_empty());
    for line in desk.client_heard(b) {
        let meta = if line["params"].is_object() { &line["params"] } else { &line["result"] };
        assert_eq!(meta["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
    }
}

#[test]
fn a_legacy_client_on_a_modern_server_gets_its_handshake_and_bare_results() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.modern(1);
    let a = desk.open(3, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    let heard = desk.client_heard(a);
    assert_eq!(heard[0]["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(heard[0]["result"]["serverInfo"]["name"], "s");
    desk.client(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let list = desk.server_heard(child).remove(0);
    let meta = &list["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "test");
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}}}}"#, list["id"]));
    assert_eq!(desk.heard(End::Session(a)), [r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#]);
}

#[test]
fn a_client_that_probes_a_legacy_server_is_told_to_shake_hands_and_then_served() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.legacy(1, 1000);
    let b = desk.open(2, 1000);
    for method in ["server/discover", "tools/list"] {
        desk.client(
            b,
            &format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{{META}}}}}}}"#
            ),
        );
        assert_eq!(desk.client_heard(b)[0]["error"]["data"]["reason"], "era");
    }
    assert!(desk.server_heard(child).is_empty());
    desk.client(
        b,
        &format!(r#"{{"jsonrpc":"2.0","id":2,"method":"initialize","params":{HELLO}}}"#),
    );
    assert_eq!(desk.client_heard(b)[0]["result"]["protocolVersion"], "2025-06-18");
    desk.client(b, r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#);
    assert_eq!(desk.server_heard(child)[0]["method"], "tools/list");
}

#[test]
fn a_silent_server_is_taken_for_legacy_after_two_seconds_and_given_up_after_nine() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    let child = desk.start();
    assert_eq!(desk.server_heard(child)[0]["method"], "server/discover");
    desk.exchange.tick(desk.now + Duration::from_secs(2));
    assert_eq!(desk.server_heard(child)[0]["method"], "initialize");
    desk.exchange.tick(desk.now + Duration::from_secs(9));
    let heard = desk.client_heard(a);
    assert_eq!(
        (&heard[0]["id"], &heard[0]["result"]["serverInfo"]["name"]),
        (&json!(0), &json!("tenantd"))
    );
    assert!(!desk.exchange.children.contains_key(&child), "given up");
}

#[test]
fn a_late_answer_times_out_and_progress_puts_it_off() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", Some("\"t\"")));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.now += Duration::from_secs(500);
    desk.server(child, &json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ours,"progress":1}}).to_string());
    desk.heard(End::Session(a));
    desk.exchange.tick(desk.now + Duration::from_secs(599));
    assert!(desk.client_heard(a).is_empty());
    desk.exchange.tick(desk.now + Duration::from_secs(600));
    assert_eq!(desk.client_heard(a)[0]["error"]["code"], 408);
    assert_eq!(desk.server_heard(child)[0]["method"], "notifications/cancelled");
}

#[test]
fn a_session_of_its_own_has_a_child_of_its_own_with_its_own_handshake() {
    let mut desk = Desk::new(Share::Session);
    let a = desk.open(1, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    let child = desk.start();
    let hello = desk.server_heard(child).remove(0);
    assert_eq!(hello["method"], "initialize");
    assert_eq!(hello["params"], serde_json::from_str::<Value>(HELLO).expect("JSON"));
    let b = desk.open(2, 1000);
    desk.client(
        b,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    assert_ne!(desk.start(), child);
}

#[test]
fn a_client_whose_input_ended_still_gets_its_answers() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.acts();
    desk.exchange.client_ended(a, desk.now);
    assert!(!desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
    desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
}

#[test]
fn requests_in_flight_are_bounded_and_an_answer_makes_room() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in 0..=IN_FLIGHT {
        desk.client(a, &call(&id.to_string(), None));
    }
    assert_eq!(desk.client_heard(a)[0]["error"]["code"], 429);
    let calls = desk.server_heard(child);
    assert_eq!(calls.len(), IN_FLIGHT);
    desk.server(child, &json!({"jsonrpc":"2.0","id":calls[0]["id"],"result":{}}).to_string());
    desk.client(a, &call("\"next\"", None));
    assert_eq!(desk.server_heard(child).len(), 1);
}

#[test]
fn a_client_that_says_everything_at_once_and_ends_gets_every_answer() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    desk.client(a, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    desk.client(a, &call("1", None));
    desk.exchange.client_ended(a, desk.now);
    let child = desk.start();
    let call = desk.shake(child).pop().expect("the call");
    assert_eq!(desk.client_heard(a)[0]["id"], 0);
    desk.server(child, &json!({"jsonrpc":"2.0","id":call["id"],"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
}

#[test]
fn a_drain_waits_for_calls_in_flight_and_refuses_new_ones() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    let farewell = Farewell { reason: "stopping".to_owned(), code: 69 };
    desk.exchange.drain(farewell, Duration::from_secs(5), desk.now);
    desk.client(a, &call("2", None));
    assert_eq!(desk.client_heard(a)[0]["error"]["data"]["reason"], "stopping");
    desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
    let acts = desk.acts();
    assert!(acts.iter().any(|act| matches!(act, Act::CloseSession { .. })));
    assert!(acts.iter().any(|act| matches!(act, Act::StopChild { .. })));
}

#[test]
fn a_server_that_asks_and_does_not_read_costs_a_bounded_memory() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.legacy(1, 1000);
    let id = "x".repeat(4000);
    let most = 2 * super::exchange::LONGEST_LINE + 8192;
    for _ in 0..6000 {
        desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"ping"}}"#));
    }
    let waiting = desk.exchange.out.backlog(End::Child(child));
    assert!(waiting > super::exchange::LONGEST_LINE && waiting <= most, "{waiting}");
    assert!(desk.exchange.counters.dropped > 0);
    desk.server_heard(child);
    desk.server(child, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(desk.server_heard(child).len(), 1);
}

#[test]
fn a_client_that_never_answers_is_not_asked_without_end() {
    let mut desk = Desk::new(Share::Session);
    let (a, child) = desk.legacy(1, 1000);
    desk.client_heard(a);
    for id in 0..1025 {
        let ask = r#""method":"sampling/createMessage","params":{}"#;
        desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{id},{ask}}}"#));
    }
    assert_eq!(desk.client_heard(a).len(), 1024);
    let refused = desk.server_heard(child);
    let refused = refused.last().expect("an answer");
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1024), &json!(429)));
}

#[test]
fn a_child_without_sessions_is_stopped_after_its_idle_timeout() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, _) = desk.legacy(1, 1000);
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    desk.acts();
    desk.exchange.tick(desk.now + Duration::from_secs(599));
    assert!(desk.acts().is_empty());
    desk.exchange.tick(desk.now + Duration::from_secs(600));
    assert!(desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
}

#[test]
fn a_changed_plan_keeps_the_sessions_that_still_have_their_server() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let mut changed = plan(Share::Tenant);
    changed.features.insert("beta".to_owned(), true);
    desk.exchange.configure(changed, desk.now);
    desk.exchange.restart(None, desk.now);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
    desk.client(a, &call("1", None));
    desk.exchange.child_ended(child, "it exited with code 0", false, desk.now);
    let next = desk.start();
    let heard = desk.shake(next);
    let heard = heard.iter().find(|line| line["method"] == "tools/call").expect("the call");
    assert_eq!(heard["params"]["_meta"]["io.tenantd/context"]["features"]["beta"], true);
    desk.exchange.configure(plan(Share::Session), desk.now);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
}

#[test]
fn a_server_that_always_runs_needs_no_session_and_comes_back_after_its_pause() {
    let mut desk = Desk::new(Share::Tenant);
    desk.exchange.plan.servers[0].always = true;
    desk.exchange.start_always(desk.now);
    for _ in 0..3 {
        let child = desk.start();
        desk.shake(child);
        desk.exchange.tick(desk.now + Duration::from_secs(3600));
        assert!(!desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
        desk.exchange.child_ended(child, "it died", false, desk.now);
        desk.now += Duration::from_secs(60);
        desk.exchange.tick(desk.now);
    }
    assert_eq!(desk.start(), 4);
}
