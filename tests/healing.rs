//! What can be cured keeps the session: it waits, is shown as waiting, and serves once the cause is gone;
//! `--strict` is refused at once instead, with the cause's exit code.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use serde_json::{Value, json};
use support::{Era, Home, Session, documents_tenant, tenant_out_of_reach, tenant_with, tenantd};

/// How acme's file can stand in the way of its sessions: `status` and `sandbox` lines.
fn suspended() -> String {
    format!("status = \"suspended\"\n{}", documents_tenant())
}

fn trial_until(until: &str) -> String {
    format!("status = \"trial\"\ntrial_until = {until}\n{}", documents_tenant())
}

fn trial_over() -> String {
    trial_until("2020-01-01T00:00:00Z")
}

const BROKEN: &str = "name = 1\n[server\n";

fn strict(home: &Home, target: &str) -> Session {
    Session::spawn(home.command(&["connect", "--strict", target]))
}

/// The session that waits, and why its server is held.
fn until_held(home: &Home, says: &str) -> Value {
    home.tenant_status("acme", |status| {
        let held = |server: &Value| server["held"].as_str().is_some_and(|why| why.contains(says));
        let servers = status["servers"].as_array().expect("servers");
        let sessions = status["sessions"].as_array().expect("sessions");
        servers.iter().any(held) && sessions.iter().any(|session| session["waits"] == true)
    })
}

fn until_free(home: &Home) -> Value {
    home.tenant_status("acme", |status| {
        let servers = status["servers"].as_array().expect("servers");
        let sessions = status["sessions"].as_array().expect("sessions");
        servers.iter().all(|server| server["held"].is_null())
            && sessions.iter().all(|session| session["waits"] == false)
    })
}

fn assert_serves(session: &mut Session) {
    session.open(Era::Modern);
    let result = session.call("echo", json!({"text": "here"}));
    assert_eq!(result["content"][0]["text"], "here");
}

/// A session opened while `ill` is acme's file waits in one mux until it is good, and serves then.
#[track_caller]
fn assert_waits_and_heals(ill: &str, says: &str) {
    let home = Home::new();
    home.tenant("acme", ill);
    let supervisor = home.start();
    let mut session = home.connect("acme");
    let waiting = until_held(&home, says);
    assert_eq!(waiting["sessions"][0]["server"], "main", "{waiting}");
    home.tenant("acme", &documents_tenant());
    let healed = until_free(&home);
    assert_eq!(healed["mux_pid"], waiting["mux_pid"], "its mux was ended");
    assert_eq!(healed["sessions"][0]["id"], waiting["sessions"][0]["id"]);
    assert_serves(&mut session);
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

/// One that will not wait is refused while `ill` is acme's file, and opens no mux.
#[track_caller]
fn assert_strict_is_refused(ill: &str, code: i32, says: &str) {
    let home = Home::new();
    home.tenant("acme", ill);
    let supervisor = home.start();
    let mut session = strict(&home, "acme");
    let error = session.initialize(json!({}))["error"].take();
    let message = error["message"].as_str().unwrap_or_else(|| panic!("no message: {error}"));
    assert!(message.contains(says) && message.len() < 300, "{message}");
    assert_eq!(session.close().code(), Some(code), "{message}");
    assert_eq!(home.tenant_status("acme", |_| true)["mux_pid"], Value::Null);
    supervisor.stop();
}

#[test]
fn a_session_waits_for_a_suspended_tenant() {
    assert_waits_and_heals(&suspended(), "acme is suspended");
}

#[test]
fn a_session_waits_for_a_trial_that_is_over() {
    assert_waits_and_heals(&trial_over(), "the trial of acme is over");
}

#[test]
fn a_session_waits_for_a_layer_that_does_not_hold() {
    assert_waits_and_heals(&tenant_out_of_reach(), "cgroup");
}

#[test]
fn the_owners_session_waits_for_a_file_that_was_never_good() {
    assert_waits_and_heals(BROKEN, "tenants.d/acme.toml:1:8: name = 1");
}

#[test]
fn a_strict_session_is_refused_with_the_code_of_the_cause() {
    assert_strict_is_refused(&suspended(), 69, "acme is suspended");
    assert_strict_is_refused(&trial_over(), 69, "the trial of acme is over");
    assert_strict_is_refused(&tenant_out_of_reach(), 78, "cgroup");
    assert_strict_is_refused(BROKEN, 78, "tenants.d/acme.toml:1:8: name = 1");
}

#[test]
fn a_suspension_ends_the_sessions_that_run_and_keeps_those_that_come_after() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    let mut running = home.connect("acme");
    assert_serves(&mut running);
    home.tenant("acme", &suspended());
    assert_eq!(running.wait().code(), Some(69), "{}", running.stderr());
    assert!(running.stderr().contains("acme is suspended"), "{}", running.stderr());
    let mut waiting = home.connect("acme");
    let seen = until_held(&home, "acme is suspended");
    home.tenant("acme", &trial_over());
    let other = until_held(&home, "the trial of acme is over");
    assert_eq!(other["mux_pid"], seen["mux_pid"], "another cause is no reason to end it");
    assert_eq!(other["sessions"][0]["id"], seen["sessions"][0]["id"]);
    home.tenant("acme", &trial_until("2999-01-01T00:00:00Z"));
    until_free(&home);
    assert_serves(&mut waiting);
    supervisor.stop();
}

#[test]
fn nothing_of_a_held_tenant_runs() {
    let home = Home::new();
    let always = tenant_with(tenantd(), &["builtin", "documents"], "start = \"always\"");
    home.tenant("acme", &format!("status = \"suspended\"\n{always}"));
    home.tenant("globex", &always);
    let supervisor = home.start();
    home.tenant_status("globex", |status| !status["servers"][0]["children"][0]["pid"].is_null());
    assert_eq!(home.tenant_status("acme", |_| true)["mux_pid"], Value::Null);
    let mut session = home.connect("acme");
    until_held(&home, "acme is suspended");
    // Whatever its mux makes of that: no child is started for it.
    session.request("initialize", json!({}));
    let why = home.run(&["why", "acme", "--json"]);
    let why: Value = serde_json::from_slice(&why.stdout).expect("JSON");
    assert_eq!(why["starts"], json!([]), "{why}");
    supervisor.stop();
}

#[test]
fn a_session_that_waits_counts() {
    let home = Home::new();
    home.tenant("acme", &format!("{}[quota]\nsessions = 1\n", suspended()));
    let supervisor = home.start();
    let mut waiting = home.connect("acme");
    until_held(&home, "acme is suspended");
    let mut second = home.connect("acme");
    let error = second.initialize(json!({}))["error"].take();
    assert!(error["message"].as_str().is_some_and(|text| text.contains("sessions")), "{error}");
    assert_eq!(second.close().code(), Some(69));
    home.tenant("acme", &documents_tenant());
    until_free(&home);
    assert_serves(&mut waiting);
    supervisor.stop();
}

#[test]
fn one_server_waits_while_the_other_serves() {
    let home = Home::new();
    let server = |name: &str, require: &str| {
        let command = tenantd();
        format!(
            "[servers.{name}]\ncommand = {command:?}\nargs = [\"builtin\", \"documents\"]\n\
             sandbox.require = {require}\n"
        )
    };
    home.tenant("acme", &[server("files", "[]"), server("git", "[\"cgroup\"]")].concat());
    let supervisor = home.start();
    let mut served = home.connect("acme/files");
    assert_serves(&mut served);
    let mut waiting = home.connect("acme/git");
    let seen = until_held(&home, "cgroup");
    let waits = |server: &str| {
        let sessions = seen["sessions"].as_array().expect("sessions");
        sessions.iter().find(|s| s["server"] == server).map(|s| s["waits"].clone())
    };
    assert_eq!((waits("files"), waits("git")), (Some(json!(false)), Some(json!(true))));
    home.tenant("acme", &[server("files", "[]"), server("git", "[]")].concat());
    until_free(&home);
    assert_serves(&mut waiting);
    served.call("echo", json!({"text": "still"}));
    supervisor.stop();
}

#[test]
fn sessions_of_a_broken_file_hear_of_its_next_problem_and_of_its_removal() {
    let home = Home::new();
    home.tenant("acme", BROKEN);
    let supervisor = home.start();
    let mut first = home.connect("acme");
    let seen = until_held(&home, "acme.toml:1:8:");
    let mut other = home.connect("acme/git");
    home.tenant_status("acme", |status| {
        status["sessions"].as_array().is_some_and(|s| s.len() == 2)
    });
    home.tenant("acme", "\n\n\nname = 1\n[server\n");
    let next = until_held(&home, "acme.toml:4:");
    assert_eq!(next["mux_pid"], seen["mux_pid"]);
    std::fs::remove_file(home.path().join("config/tenants.d/acme.toml")).expect("removed");
    for session in [&mut first, &mut other] {
        assert_eq!(session.wait().code(), Some(69), "{}", session.stderr());
        assert!(session.stderr().contains("the tenant was removed"), "{}", session.stderr());
    }
    supervisor.stop();
}
