//! The test children themselves, without tenantd between: what other tests build on must hold.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::process::Command;

use serde_json::json;
use support::{DEADLINE, Era, Held, Session, child, left_after, puppet, said};

fn open(era: Era, environment: &[(&str, &str)]) -> Session {
    let mut command = Command::new(puppet());
    command.envs(environment.iter().copied());
    if era == Era::Modern {
        command.env("PUPPET_ERA", "modern");
    }
    let mut session = Session::spawn(command);
    session.open(era);
    session
}

#[test]
fn the_echo_server_echoes() {
    let mut session = Session::spawn(Command::new(child("echo")));
    session.initialize(json!({}));
    assert_eq!(said(&session.call("echo", json!({"text": "a \"b\" \\ c"}))), "a \"b\" \\ c");
    assert_eq!(said(&session.call("big", json!({}))).len(), 100_000);
    assert_eq!(session.result("tools/list", json!({}))["tools"][0]["name"], "echo");
    assert_eq!(session.request("server/discover", json!({}))["error"]["code"], -32601);
}

#[test]
fn the_echo_server_in_python_echoes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/echo.py");
    let mut command = Command::new("python3");
    command.arg(path);
    let mut session = Session::spawn(command);
    session.initialize(json!({}));
    assert_eq!(said(&session.call("echo", json!({"text": "ü"}))), "ü");
    assert_eq!(said(&session.call("big", json!({}))).len(), 100_000);
}

#[test]
fn the_puppet_refuses_the_other_era() {
    let mut legacy = open(Era::Legacy, &[]);
    assert_eq!(legacy.request("server/discover", json!({}))["error"]["code"], -32601);
    let mut modern = open(Era::Modern, &[]);
    assert_eq!(modern.initialize(json!({}))["error"]["code"], -32022);
}

#[test]
fn the_puppet_reports_progress_and_asks_back() {
    let mut session = open(Era::Legacy, &[]);
    let params =
        json!({"name": "progress", "arguments": {"steps": 2}, "_meta": {"progressToken": "t"}});
    session.result("tools/call", params);
    let steps: Vec<_> =
        session.aside.drain(..).map(|mut note| note["params"]["progress"].take()).collect();
    assert_eq!(steps, [json!(1), json!(2)]);
    let question = json!({"name": "ask", "arguments": {"method": "roots/list", "params": {}}});
    let call = session.ask("tools/call", question);
    let asked = session.recv_method("roots/list");
    session.send_json(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}}));
    let answer = session.answer(&call);
    assert!(said(&answer["result"]).contains("roots"), "{answer}");
}

#[test]
fn the_puppet_holds_and_releases_and_forgets_what_is_cancelled() {
    let mut session = open(Era::Legacy, &[]);
    let hold = json!({"name": "hold", "arguments": {"key": "k"}});
    let kept = session.ask("tools/call", hold.clone());
    let dropped = session.ask("tools/call", hold);
    session.notify("notifications/cancelled", json!({"requestId": dropped}));
    let released = session.call("release", json!({"key": "k", "text": "now"}));
    assert_eq!(said(&released), "1");
    assert_eq!(said(&session.answer(&kept)["result"]), "now");
}

#[test]
fn the_puppet_serves_subscriptions() {
    let mut session = open(Era::Modern, &[]);
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let listen = session.ask("subscriptions/listen", wanted);
    session.recv_method("notifications/subscriptions/acknowledged");
    session.call("changed", json!({"name": "fresh"}));
    let note = session.recv_method("notifications/tools/list_changed");
    assert_eq!(note["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], listen);
    session.call("finish", json!({}));
    assert_eq!(session.answer(&listen)["result"]["resultType"], "complete");
}

#[test]
fn a_stubborn_puppet_lives_on_until_it_is_killed() {
    let mut session = open(Era::Legacy, &[("PUPPET_STUBBORN", "1")]);
    let grandchild = said(&session.call("grandchild", json!({}))).parse().expect("a pid");
    let family: Vec<_> = [session.pid(), grandchild].into_iter().filter_map(Held::of).collect();
    session.hang_up();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(session.pid()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signalled");
    assert!(!family[0].ends_within(std::time::Duration::from_millis(100)));
    family.iter().for_each(Held::kill);
    session.kill();
    assert!(left_after(family, DEADLINE).is_empty());
}
