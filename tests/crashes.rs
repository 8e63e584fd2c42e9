//! What dies by force takes its own with it and nobody else's: the mux, the keeper, the shim, and a
//! supervisor that must end against a server's will.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{DEADLINE, Era, Held, Home, Session, descendants, left_after, puppet_tenant, said};

/// How long what lost its owner may live.
const ORPHANED: Duration = Duration::from_secs(1);

fn home(environment: &[(&str, &str)]) -> Home {
    let home = Home::new();
    for tenant in ["acme", "globex"] {
        home.tenant(tenant, &puppet_tenant(environment, ""));
    }
    home
}

fn open(home: &Home, tenant: &str) -> Session {
    let mut session = home.connect(tenant);
    session.open(Era::Legacy);
    session
}

fn held(pid: &Value) -> Held {
    let pid = pid.as_u64().and_then(|pid| u32::try_from(pid).ok());
    Held::of(pid.unwrap_or_else(|| panic!("no pid: {pid:?}"))).expect("it runs")
}

/// The mux of a tenant.
fn mux(home: &Home, tenant: &str) -> Held {
    held(&home.tenant_status(tenant, |tenant| !tenant["mux_pid"].is_null())["mux_pid"])
}

fn grandchild(home: &Home, session: &mut Session) -> Held {
    let result = session.call("grandchild", json!({}));
    home.process("acme", said(&result).parse().expect("a pid"))
}

fn assert_echoes(session: &mut Session) {
    assert_eq!(said(&session.call("echo", json!({"text": "here"}))), "here");
}

#[test]
fn a_killed_mux_ends_its_own_sessions_and_servers_and_no_others() {
    let home = home(&[("PUPPET_STUBBORN", "1")]);
    let supervisor = home.start();
    let (mut acme, mut globex) = (open(&home, "acme"), open(&home, "globex"));
    let hold = globex.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    let keeper = home.keeper("acme");
    let grandchild = grandchild(&home, &mut acme);
    let mut servers = descendants(keeper.pid);
    servers.extend([grandchild, keeper]);
    acme.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    let mux = mux(&home, "acme");
    let killed = Instant::now();
    mux.kill();
    assert_eq!(acme.wait().code(), Some(69));
    // 100 ms is the promise; a loaded machine gets some grace.
    assert!(killed.elapsed() < Duration::from_millis(500), "{:?}", killed.elapsed());
    let left = left_after(servers, ORPHANED);
    assert!(left.is_empty(), "{left:?}");
    assert!(acme.stderr().contains("connect again"), "{}", acme.stderr());
    globex.call("release", json!({"key": "k", "text": "unmoved"}));
    assert_eq!(said(&globex.answer(&hold)["result"]), "unmoved");
    assert_echoes(&mut open(&home, "acme"));
    supervisor.stop();
}

#[test]
fn a_mux_that_stands_still_holds_up_nobody_else_and_ends_with_the_supervisor() {
    let home = home(&[]);
    let supervisor = home.start();
    let (_acme, mut globex) = (open(&home, "acme"), open(&home, "globex"));
    let still = mux(&home, "acme");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(still.pid).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("signalled");
    assert_echoes(&mut globex);
    let told = |tenant: &Value| tenant["problems"].to_string().contains("does not answer");
    home.tenant_status("acme", told);
    assert_echoes(&mut open(&home, "globex"));
    supervisor.stop();
}

#[test]
fn a_killed_keeper_is_answered_for_and_takes_its_server_with_it() {
    let home = home(&[("PUPPET_STUBBORN", "1")]);
    let supervisor = home.start();
    let mut session = open(&home, "acme");
    let keeper = home.keeper("acme");
    let grandchild = grandchild(&home, &mut session);
    let mut servers = descendants(keeper.pid);
    servers.push(grandchild);
    let hold = session.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    keeper.kill();
    let answer = session.answer(&hold);
    assert_eq!(answer["error"]["code"], 503, "{answer}");
    let left = left_after(servers, ORPHANED);
    assert!(left.is_empty(), "{left:?}");
    assert_echoes(&mut session);
    supervisor.stop();
}

#[test]
fn a_killed_shim_closes_its_session_and_cancels_its_calls() {
    let home = home(&[]);
    let supervisor = home.start();
    let (mut other, mut dead) = (open(&home, "acme"), open(&home, "acme"));
    dead.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    home.tenant_status("acme", |tenant| tenant.to_string().contains(r#""in_flight":1"#));
    dead.kill();
    let deadline = Instant::now() + DEADLINE;
    let cancelled = loop {
        let result = other.call("seen", json!({}));
        let lines: Vec<String> = serde_json::from_str(said(&result)).expect("lines");
        if let Some(line) = lines.iter().find(|line| line.contains("notifications/cancelled")) {
            break line.clone();
        }
        assert!(Instant::now() < deadline, "{lines:?}");
    };
    assert!(cancelled.contains("requestId"), "{cancelled}");
    assert_eq!(other.close().code(), Some(0));
    home.tenant_status("acme", |tenant| tenant["sessions"].as_array().is_some_and(Vec::is_empty));
    supervisor.stop();
}

#[test]
fn a_stubborn_tree_with_a_call_in_flight_ends_with_its_supervisor() {
    let home = home(&[("PUPPET_STUBBORN", "1")]);
    let supervisor = home.start();
    let mut session = open(&home, "acme");
    let grandchild = grandchild(&home, &mut session);
    let hold = session.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    home.tenant_status("acme", |tenant| tenant.to_string().contains(r#""in_flight":1"#));
    let since = Instant::now();
    supervisor.stop();
    assert!(grandchild.ends_within(Duration::ZERO), "the grandchild lives");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let answer = session.answer(&hold);
    assert!(answer["error"]["code"].is_number(), "{answer}");
    assert_eq!(session.wait().code(), Some(69));
    assert!(session.stderr().contains("stopping"), "{}", session.stderr());
}

/// What it may call is listed beside its filter; here: that the filter is on a mux that serves, on each of
/// its threads, and was there before any client's byte.
#[test]
fn a_mux_that_serves_can_do_little_else() {
    let home = home(&[]);
    let supervisor = home.start();
    let mut session = open(&home, "acme");
    let pid = mux(&home, "acme").pid;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let mut threads = 0;
    for task in tasks {
        let status = task.expect("a thread").path().join("status");
        let status = std::fs::read_to_string(status).expect("its status");
        let has = |line: &str| status.lines().any(|it| it.split_whitespace().eq(line.split(' ')));
        // 2: a filter (proc_pid_status(5)).
        assert!(has("Seccomp: 2") && has("NoNewPrivs: 1"), "{status}");
        threads += 1;
    }
    assert_eq!(threads, 3, "one serves, two close what strangers sent");
    assert_echoes(&mut session);
    supervisor.stop();
}
