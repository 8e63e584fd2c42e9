//! Real clients on real servers, where it matters who else is there: sessions at once, and a server that
//! is shared and asks. What one client sees of each server is in `tests/pairings`.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::{Home, Packages, Setup, SideBySide, Way, assert_same, at_home, connect, tenant_with};

/// The steps of a plan that calls these tools.
fn calls(calls: &[(&str, Value)]) -> Value {
    let step = |(tool, arguments): &(&str, Value)| json!({"do": "call", "tool": tool, "arguments": arguments});
    calls.iter().map(step).collect()
}

#[test]
fn a_shared_server_may_ask_the_only_session_what_its_tenant_allows() {
    let Some(packages) = Packages::find() else { return };
    let stage = SideBySide::new(
        &packages,
        Setup {
            command: packages.npm_server("everything", &["stdio"]),
            lines: "shared_capabilities = [\"sampling\", \"elicitation\", \"roots\"]".to_owned(),
            ..Setup::default()
        },
    );
    let steps = calls(&[
        ("trigger-sampling-request", json!({"prompt": "p", "maxTokens": 5})),
        ("trigger-elicitation-request", json!({})),
    ]);
    let answers = json!({"sampling": "a sampled answer", "elicitation": {"name": "Ada"}});
    let plan = json!({"mode": "legacy", "answers": answers, "steps": steps}).to_string();
    stage.reset();
    let speak = |way: &Way| way.output(packages.python_command(&plan, &way.command));
    let direct = stage.direct(&speak);
    stage.reset();
    let through = stage.through(&speak);
    assert_eq!(direct.report["asked"].as_array().map(Vec::len), Some(2), "{}", direct.report);
    assert_same(&through.report, &direct.report, "the session");
}

/// A Python client that waits, connected, until it is told to go on.
struct Waiting {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Waiting {
    fn open(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line
    }

    fn go_on(&mut self) {
        self.child.stdin.take().expect("a pipe").write_all(b"\n").expect("told");
    }

    fn seen(mut self) -> Value {
        let line = self.line();
        assert!(self.child.wait().expect("wait").success());
        serde_json::from_str(&line).expect("JSON")
    }
}

#[test]
fn two_tenants_serve_four_sessions_at_once_and_each_sees_its_own_server() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let everything = packages.npm_server("everything", &["stdio"]);
    let time = packages.python_server("mcp-server-time", &[]);
    let long = json!({"duration": 0.2, "steps": 4});
    let looks = calls(&[
        ("echo", json!({"message": "Ümläut \u{1f600}"})),
        ("trigger-long-running-operation", long),
        ("get-tiny-image", json!({})),
    ]);
    let convert =
        json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let converts = calls(&[("convert_time", convert)]);
    let plans = [
        ("acme", &everything, json!({"mode": "legacy", "gate": true, "steps": looks})),
        ("globex", &time, json!({"mode": "auto", "gate": true, "steps": converts})),
    ];
    let start = |tenant: &str, plan: &Value, server: &[String]| {
        let data = home.directory(&format!("state/tenants/{tenant}/data"));
        let command = packages.python_command(&plan.to_string(), server);
        Waiting::open(at_home(command, &home, &data))
    };
    let mut direct = Vec::new();
    for (tenant, server, plan) in &plans {
        let arguments: Vec<_> = server[1..].iter().map(String::as_str).collect();
        home.tenant(tenant, &tenant_with(server[0].as_ref(), &arguments, ""));
        let mut alone = start(tenant, plan, server);
        assert_eq!(alone.line(), "open\n");
        alone.go_on();
        direct.push(alone.seen());
    }
    let supervisor = home.start();
    let twice = [&plans[0], &plans[1], &plans[0], &plans[1]];
    let mut sessions: Vec<_> =
        twice.iter().map(|(tenant, _, plan)| start(tenant, plan, &connect(tenant))).collect();
    for session in &mut sessions {
        assert_eq!(session.line(), "open\n");
    }
    sessions.iter_mut().for_each(Waiting::go_on);
    for (number, session) in sessions.into_iter().enumerate() {
        assert_same(&session.seen(), &direct[number % 2], &format!("session {number}"));
    }
    supervisor.stop();
}
