//! When egress comes and goes: with its servers, and with nobody else.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{DEADLINE, Held, Home, Session, wait_until};
use crate::world::{World, logged, python, tool};

fn egress(home: &Home, tenant: &str) -> i32 {
    let status = home.tenant_status(tenant, |status| status["egress_pid"].is_i64());
    i32::try_from(status["egress_pid"].as_i64().expect("a pid")).expect("a pid")
}

fn dial(session: &mut Session, text: &str) -> Value {
    tool(session, "dial", json!({"host": "db.acme.lan", "port": 5432, "text": text}))
}

#[test]
fn each_tenant_has_an_egress_of_its_own_that_ends_with_its_last_server() {
    let Some(world) = World::make() else { return };
    let _server = world.shouts("127.0.0.1:5432");
    let home = Home::new();
    for id in ["acme", "globex"] {
        let idle = python(r#"["db.acme.lan:5432"]"#)
            .replace("[sandbox]", "idle_timeout = \"1s\"\n[sandbox]");
        home.tenant(id, &idle);
    }
    home.tenant("none", &python(r#""none""#));
    let supervisor = world.start(&home);
    let mut sessions = ["acme", "globex", "none"].map(|id| supervisor.connect(id));
    for session in &mut sessions {
        session.initialize(json!({}));
    }
    let [acme, globex] = ["acme", "globex"].map(|id| egress(&home, id));
    assert_ne!(acme, globex);
    assert!(home.tenant_status("none", |_| true)["egress_pid"].is_null());
    let held = [acme, globex].map(|pid| Held::of(pid.cast_unsigned()).expect("alive"));
    assert_eq!(dial(&mut sessions[0], "a")["heard"], "A");
    for session in sessions {
        session.close();
    }
    assert!(
        held.iter().all(|egress| egress.ends_within(DEADLINE)),
        "an egress outlives its servers"
    );
    let mut again = supervisor.connect("acme");
    again.initialize(json!({}));
    assert_eq!(dial(&mut again, "b")["heard"], "B");
    again.close();
    supervisor.stop();
}

#[test]
fn when_an_egress_is_killed_its_servers_are_started_anew_and_sessions_live_on() {
    let Some(world) = World::make() else { return };
    let _server = world.shouts("127.0.0.1:5432");
    let home = Home::new();
    home.tenant("acme", &python(r#"["db.acme.lan:5432"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    assert_eq!(dial(&mut session, "before")["heard"], "BEFORE");
    let first = egress(&home, "acme");
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("killed");
    let starts = |status: &Value| status["servers"][0]["children"][0]["starts"].as_i64();
    home.tenant_status("acme", |status| status["egress_pid"].as_i64() != Some(first.into()));
    wait_until("it reaches its host again", || dial(&mut session, "after")["heard"] == "AFTER");
    let status = home.tenant_status("acme", |status| starts(status) >= Some(2));
    assert!(status["egress_died_s"].is_i64(), "{status}");
    let page = String::from_utf8(home.run(&["status"]).stdout).expect("UTF-8");
    assert!(page.contains("network: its egress died"), "{page}");
    assert_ne!(egress(&home, "acme"), first);
    session.close();
    supervisor.stop();
}

#[test]
fn an_egress_outlives_its_supervisor_for_the_servers_that_live() {
    let Some(world) = World::make() else { return };
    let _server = world.shouts("127.0.0.1:5432");
    let home = Home::new();
    home.tenant("acme", &python(r#"["db.acme.lan:5432"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let first = egress(&home, "acme");
    let held = Held::of(first.cast_unsigned()).expect("alive");
    supervisor.kill();
    assert_eq!(dial(&mut session, "without")["heard"], "WITHOUT");
    let supervisor = world.start(&home);
    let heard = dial(&mut session, "with the next");
    assert_eq!(heard["heard"], "WITH THE NEXT", "{heard}");
    assert!(!held.ends_within(Duration::ZERO));
    // The next start is the next supervisor's, with an egress of its own; the old one has nobody left.
    home.run(&["restart", "acme"]);
    wait_until("it reaches its host again", || dial(&mut session, "anew")["heard"] == "ANEW");
    assert!(held.ends_within(DEADLINE), "it outlives its servers");
    assert_ne!(egress(&home, "acme"), first);
    session.close();
    supervisor.stop();
}

#[test]
fn the_network_log_is_shown_by_server_and_holds_no_contents() {
    let Some(world) = World::make() else { return };
    let _server = world.shouts("127.0.0.1:5432");
    let home = Home::new();
    home.tenant("acme", &python(r#"["db.acme.lan:5432", "api.acme.lan:1"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    dial(&mut session, "a secret word");
    let refused =
        tool(&mut session, "dial", json!({"host": "api.acme.lan", "port": 1, "text": "x"}));
    assert!(refused["error"].is_string() || refused["heard"] == "", "{refused}");
    logged(&home, "acme", &["failed", "host=api.acme.lan port=1 ", "refused"], 1);
    let shown = |arguments: &[&str]| {
        let output = home.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let lines = shown(&["logs", "--network", "acme/main"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains("host=db.acme.lan port=5432") && !lines.contains("secret"), "{lines}");
    assert_eq!(shown(&["logs", "--network", "acme/main", "-n", "1"]).lines().count(), 1);
    session.close();
    supervisor.stop();
}

#[test]
fn the_houses_authorities_are_in_the_sandbox_and_programs_are_told_of_them() {
    let Some(world) = World::make() else { return };
    let home = Home::new();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=House"])
        .args(["-keyout", "/dev/null", "-out"])
        .arg(home.path().join("house.pem"))
        .output();
    assert!(made.as_ref().is_ok_and(|made| made.status.success()), "openssl: {made:?}");
    crate::support::own(&home.path().join("house.pem"));
    let house = std::fs::read_to_string(home.path().join("house.pem")).expect("text");
    home.settings(&format!("[egress]\nca_file = {:?}\n", home.path().join("house.pem")));
    home.tenant("acme", &python(r#"["db.acme.lan:443"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let found = tool(&mut session, "environment", json!({}));
    let bundle = found["SSL_CERT_FILE"].as_str().expect("told").to_owned();
    assert_eq!(
        (&found["NODE_EXTRA_CA_CERTS"], &found["REQUESTS_CA_BUNDLE"]),
        (&json!(bundle), &json!(bundle))
    );
    let trusted = tool(&mut session, "authorities", json!({}));
    let names: Vec<&str> =
        trusted["names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&"House") && names.len() > 1, "{names:?}");
    assert!(std::fs::read_to_string(bundle).expect("text").ends_with(&house));
    session.close();
    supervisor.stop();
}
