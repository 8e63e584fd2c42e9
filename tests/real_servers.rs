//! Real clients on real servers: what a session sees through tenantd is what a direct connection shows.
//!
//! Each client is run twice on the same data directory: on the server itself, and on `tenantd connect`.
//! What it saw is compared whole.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use support::{
    Home, Packages, SideBySide, as_owner, as_test_user, assert_same, at_home, connect, output,
    tenant_with, tenantd,
};

const EVERYTHING: &str = r#"[
    ["echo", {"message": "Ümläut \ud83d\ude00"}],
    ["get-sum", {"a": 1, "b": 2.5}],
    ["get-structured-content", {"location": "New York"}],
    ["get-resource-links", {"count": 3}],
    ["get-tiny-image", {}],
    ["get-annotated-message", {"messageType": "error", "includeImage": true}],
    ["trigger-long-running-operation", {"duration": 0.2, "steps": 4}],
    ["nonesuch", {}]
]"#;
const ASKING: &str = r#"[
    ["trigger-sampling-request", {"prompt": "p", "maxTokens": 5}],
    ["trigger-elicitation-request", {}]
]"#;

fn calls(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn nothing(_: &Path) {}

#[test]
fn a_legacy_server_with_everything_looks_the_same() {
    let Some(packages) = Packages::find() else { return };
    let stage = SideBySide::new(packages.npm_server("everything", &["stdio"]), "", nothing);
    let plan = json!({"mode": "legacy", "calls": calls(EVERYTHING)});
    let (direct, through) = stage.compare(&packages, &plan);
    assert_eq!(direct["version"], "2025-11-25");
    assert_eq!(direct["calls"][6]["progress"].as_array().map(Vec::len), Some(4), "{direct}");
    assert_same(&through, &direct, "the session");
}

#[test]
fn a_server_of_its_own_may_ask_a_session_everything() {
    let Some(packages) = Packages::find() else { return };
    let lines = "share = \"session\"";
    let stage = SideBySide::new(packages.npm_server("everything", &["stdio"]), lines, nothing);
    let plan = json!({"mode": "legacy", "callbacks": true, "calls": calls(ASKING)});
    let (direct, through) = stage.compare(&packages, &plan);
    assert_eq!(direct["asked"].as_array().map(Vec::len), Some(2), "{direct}");
    assert_same(&through, &direct, "the session");
}

#[test]
fn a_shared_server_may_ask_the_only_session_what_its_tenant_allows() {
    let Some(packages) = Packages::find() else { return };
    let lines = "shared_capabilities = [\"sampling\", \"elicitation\", \"roots\"]";
    let stage = SideBySide::new(packages.npm_server("everything", &["stdio"]), lines, nothing);
    let plan = json!({"mode": "legacy", "callbacks": true, "calls": calls(ASKING)});
    let (direct, through) = stage.compare(&packages, &plan);
    assert_eq!(through["asked"], direct["asked"]);
    assert_eq!(through["calls"], direct["calls"]);
}

#[test]
fn the_filesystem_server_looks_the_same() {
    let Some(packages) = Packages::find() else { return };
    let ready = |data: &Path| std::fs::write(data.join("a.txt"), "hello\n").expect("written");
    let stage = SideBySide::new(packages.npm_server("filesystem", &["{data}"]), "", ready);
    let file = |name: &str| stage.data.join(name);
    let plan = json!({"mode": "legacy", "calls": [
        ["list_allowed_directories", {}],
        ["read_text_file", {"path": file("a.txt")}],
        ["write_file", {"path": file("b.txt"), "content": "zwei\r\n"}],
        ["edit_file", {"path": file("b.txt"), "edits": [{"oldText": "zwei", "newText": "drei"}]}],
        ["search_files", {"path": stage.data, "pattern": "*.txt"}],
        ["list_directory", {"path": stage.data}],
        ["read_text_file", {"path": "/etc/passwd"}],
    ]});
    let (direct, through) = stage.compare(&packages, &plan);
    assert_eq!(direct["calls"][6]["result"]["isError"], true, "{direct}");
    assert_same(&through, &direct, "the session");
}

#[test]
fn the_memory_server_looks_the_same() {
    let Some(packages) = Packages::find() else { return };
    let lines = "env = { MEMORY_FILE_PATH = \"{data}/memory.json\" }";
    let stage = SideBySide::new(packages.npm_server("memory", &[]), lines, nothing);
    let entity = json!({"name": "acme", "entityType": "customer", "observations": ["pays"]});
    let plan = json!({"mode": "legacy", "calls": [
        ["create_entities", {"entities": [entity]}],
        ["add_observations", {"observations": [{"entityName": "acme", "contents": ["late"]}]}],
        ["search_nodes", {"query": "late"}],
    ]});
    stage.reset();
    let direct = {
        let mut command = packages.python_command(&plan.to_string(), &stage.direct());
        command.env("MEMORY_FILE_PATH", stage.data.join("memory.json"));
        output(at_home(command, &stage.home, &stage.data))
    };
    let direct: Value = serde_json::from_str(&direct).expect("JSON");
    assert!(stage.data.join("memory.json").exists());
    let (_, through) = stage.compare(&packages, &plan);
    assert!(stage.data.join("memory.json").exists(), "the tenant's environment did not arrive");
    assert_same(&through, &direct, "the session");
}

/// A repository with one commit, always the same one.
fn repository(data: &Path) {
    std::fs::write(data.join("a.txt"), "eins\n").expect("written");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@localhost",
            "-c",
            "safe.directory=*",
        ]);
        command.args(arguments).current_dir(data).env("HOME", data);
        command.env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z");
        command.env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z");
        let output = as_test_user(&mut command).output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "a.txt"]);
    git(&["commit", "--quiet", "-m", "first"]);
}

#[test]
fn a_modern_server_on_a_repository_looks_the_same() {
    let Some(packages) = Packages::find() else { return };
    let command = packages.python_server("mcp-server-git", &["--repository", "{data}"]);
    let stage = SideBySide::new(command, "", repository);
    let at = |more: Value| {
        let mut arguments = json!({"repo_path": stage.data});
        arguments
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("one").clone());
        arguments
    };
    for mode in ["auto", "2026-07-28"] {
        let plan = json!({"mode": mode, "calls": [
            ["git_log", at(json!({"max_count": 5}))],
            ["git_create_branch", at(json!({"branch_name": "b"}))],
            ["git_branch", at(json!({"branch_type": "local"}))],
            ["git_show", at(json!({"revision": "HEAD"}))],
            ["git_status", {"repo_path": "/"}],
        ]});
        let (direct, through) = stage.compare(&packages, &plan);
        assert_eq!(direct["version"], "2026-07-28");
        assert_same(&through, &direct, &format!("mode {mode}"));
    }
}

const CONVERT: &str = r#"[["convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}],
    ["convert_time", {"source_timezone": "No/Where", "time": "12:00", "target_timezone": "UTC"}]]"#;

#[test]
fn a_small_modern_server_looks_the_same() {
    let Some(packages) = Packages::find() else { return };
    let stage = SideBySide::new(packages.python_server("mcp-server-time", &[]), "", nothing);
    for mode in ["auto", "2026-07-28"] {
        let plan = json!({"mode": mode, "calls": calls(CONVERT)});
        let (direct, through) = stage.compare(&packages, &plan);
        assert_same(&through, &direct, &format!("mode {mode}"));
    }
}

#[test]
fn a_legacy_client_gets_tools_and_answers_of_a_modern_server() {
    let Some(packages) = Packages::find() else { return };
    let stage = SideBySide::new(packages.python_server("mcp-server-time", &[]), "", nothing);
    let plan = json!({"mode": "legacy", "calls": calls(CONVERT)});
    let (direct, through) = stage.compare(&packages, &plan);
    assert_eq!(through["version"], "2025-11-25");
    assert_eq!(through["tools"]["tools"], direct["tools"]["tools"]);
    assert_eq!(through["calls"][0]["result"]["content"], direct["calls"][0]["result"]["content"]);
}

#[test]
fn the_documents_server_looks_the_same() {
    let Some(packages) = Packages::find() else { return };
    let command = [tenantd().to_str().expect("UTF-8"), "builtin", "documents"];
    let stage = SideBySide::new(command.iter().map(ToString::to_string).collect(), "", nothing);
    for mode in ["auto", "2026-07-28"] {
        let plan = json!({"mode": mode, "calls": [
            ["save_document", {"name": "a.md", "text": "one \u{1f600} two"}],
            ["search_documents", {"query": "TWO"}],
            ["get_document", {"name": "../a"}],
        ]});
        let (direct, through) = stage.compare(&packages, &plan);
        assert_same(&through, &direct, &format!("mode {mode}"));
    }
}

#[test]
fn the_inspector_sees_the_same() {
    let Some(packages) = Packages::find() else { return };
    // It declares every capability; a shared server is told what its tenant allows, one of its own all.
    let own = "share = \"session\"";
    let everything = SideBySide::new(packages.npm_server("everything", &["stdio"]), own, nothing);
    let time = SideBySide::new(packages.python_server("mcp-server-time", &[]), "", nothing);
    let echo = ["--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hi"];
    let list = ["--method", "tools/list"];
    let cases: [(&SideBySide, &str, &[&str]); 4] = [
        (&everything, "legacy", &list),
        (&everything, "legacy", &echo),
        (&time, "auto", &list),
        (&time, "modern", &list),
    ];
    for (stage, era, ask) in cases {
        let run = |server: &[String]| {
            let command = packages.inspector_command(&stage.home, era, server, ask);
            let text = output(at_home(command, &stage.home, &stage.data));
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let direct = run(&stage.direct());
        let supervisor = stage.home.start();
        assert_same(&run(&stage.through()), &direct, &format!("{era} {ask:?}"));
        supervisor.stop();
    }
}

/// What rmcp's client sees of a server: its version, its tools, and the answer to one call.
async fn rmcp_sees(command: Command, mode: ClientLifecycleMode, call: (&str, Value)) -> Value {
    let transport =
        TokioChildProcess::new(tokio::process::Command::from(command)).expect("started");
    let client = ().serve_with_lifecycle(transport, mode).await.expect("a session");
    let tools = client.list_all_tools().await.expect("tools");
    let arguments = call.1.as_object().expect("an object").clone();
    let params = CallToolRequestParams::new(call.0.to_owned()).with_arguments(arguments);
    let result = client.call_tool(params).await.expect("a result");
    let info = json!(client.peer_info());
    client.cancel().await.expect("closed");
    json!({"info": info, "tools": tools, "result": result})
}

#[test]
fn the_client_of_rmcp_sees_the_same() {
    let Some(packages) = Packages::find() else { return };
    let everything = SideBySide::new(packages.npm_server("everything", &["stdio"]), "", nothing);
    let time = SideBySide::new(packages.python_server("mcp-server-time", &[]), "", nothing);
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    let discover = ClientLifecycleMode::Discover { preferred_versions };
    let echo = ("echo", json!({"message": "hi"}));
    let convert = ("convert_time", calls(CONVERT)[0][1].clone());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cases = [(everything, ClientLifecycleMode::Initialize, echo), (time, discover, convert)];
    for (stage, mode, call) in cases {
        let run = |words: &[String]| {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).stderr(Stdio::null());
            as_test_user(&mut command);
            let command = at_home(command, &stage.home, &stage.data);
            let sees = || runtime.block_on(rmcp_sees(command, mode.clone(), call.clone()));
            as_owner(sees)
        };
        let direct = run(&stage.direct());
        let supervisor = stage.home.start();
        assert_same(&run(&stage.through()), &direct, &format!("{mode:?}"));
        supervisor.stop();
    }
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
    let plans = [
        ("acme", &everything, json!({"mode": "legacy", "gate": true, "calls": calls(EVERYTHING)})),
        ("globex", &time, json!({"mode": "auto", "gate": true, "calls": calls(CONVERT)})),
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
