//! A configuration that changes while a session is open: what is good is applied, what is not keeps the
//! last good version, and the session goes on as long as its tenant does.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Era, Home, Session, documents_tenant, puppet_tenant};

/// How long a change may take to be seen and applied.
const SEEN: Duration = Duration::from_secs(1);

fn file(home: &Home) -> std::path::PathBuf {
    home.path().join("config/tenants.d/acme.toml")
}

/// Looks at the status until it is as wanted, for a while that is far beyond [`SEEN`].
fn until(home: &Home, wanted: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let status = home.status();
        if wanted(&status) {
            return status;
        }
        assert!(since.elapsed() < 10 * SEEN, "it never came to be so: {status}");
    }
}

fn problems(status: &Value) -> &Vec<Value> {
    status["supervisor"]["problems"].as_array().expect("problems")
}

fn name_of<'a>(status: &'a Value, id: &str) -> Option<&'a str> {
    let tenants = status["tenants"].as_array().expect("tenants");
    tenants.iter().find(|tenant| tenant["id"] == id)?["name"].as_str()
}

fn named(name: &str) -> String {
    format!("name = {name:?}\n{}", documents_tenant())
}

fn assert_echoes(session: &mut Session) {
    let result = session.call("echo", json!({"text": "still"}));
    assert_eq!(result["content"][0]["text"], "still");
}

fn open(home: &Home) -> Session {
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    session
}

/// Breaks acme's file in one way; what was good holds, the problem is shown, and mending it is enough.
#[track_caller]
fn assert_keeps_the_last_good_version(break_it: impl FnOnce(&Home), says: &str) {
    let home = Home::new();
    home.tenant("acme", &named("Good"));
    let supervisor = home.start();
    let mut session = open(&home);
    assert!(problems(&home.status()).is_empty(), "{}", home.status());
    break_it(&home);
    let broken = until(&home, |status| !problems(status).is_empty());
    let problem = problems(&broken)[0].as_str().expect("a text");
    assert!(problem.contains("acme.toml") && problem.contains(says), "{problem}");
    assert_eq!(name_of(&broken, "acme"), Some("Good"));
    assert_echoes(&mut session);
    assert_echoes(&mut open(&home));
    let _ = fs::remove_file(file(&home)).or_else(|_| fs::remove_dir(file(&home)));
    let mended = Instant::now();
    home.tenant("acme", &named("Mended"));
    until(&home, |status| name_of(status, "acme") == Some("Mended"));
    assert!(mended.elapsed() < 2 * SEEN, "{:?}", mended.elapsed());
    assert!(problems(&home.status()).is_empty());
    assert_echoes(&mut open(&home));
    supervisor.stop();
}

#[test]
fn a_broken_file_keeps_the_last_good_version() {
    let broken = |home: &Home| _ = home.tenant("acme", "name = 1\n[serverr]\n");
    assert_keeps_the_last_good_version(broken, "acme.toml:");
}

#[test]
fn a_half_written_file_keeps_the_last_good_version() {
    let half = |home: &Home| {
        let text = named("Good");
        home.tenant("acme", &text[..text.len() / 3]);
    };
    assert_keeps_the_last_good_version(half, "acme.toml:");
}

#[test]
fn an_unreadable_file_keeps_the_last_good_version() {
    let unreadable = |home: &Home| {
        // Root reads what nobody may; nobody reads a directory as a file.
        if nix::unistd::geteuid().is_root() && std::env::var_os("TENANTD_TEST_USER").is_none() {
            fs::remove_file(file(home)).expect("removed");
            fs::create_dir(file(home)).expect("made");
        } else {
            fs::set_permissions(file(home), Permissions::from_mode(0o000)).expect("chmod");
        }
    };
    assert_keeps_the_last_good_version(unreadable, "");
}

#[test]
fn a_fifo_in_place_of_a_file_holds_nobody_up() {
    let fifo = |home: &Home| {
        fs::remove_file(file(home)).expect("removed");
        nix::unistd::mkfifo(&file(home), nix::sys::stat::Mode::S_IRWXU).expect("made");
        support::own(&file(home));
    };
    assert_keeps_the_last_good_version(fifo, "regular file");
}

/// Writes acme's file and waits until it is what runs.
fn apply(home: &Home, text: &str) {
    let digest = |status: &Value| status["tenants"][0]["digest"].clone();
    let before = digest(&home.status());
    home.tenant("acme", text);
    until(home, |status| digest(status) != before);
}

#[test]
fn a_quota_of_sessions_is_live() {
    let home = Home::new();
    home.tenant("acme", &named("Good"));
    let supervisor = home.start();
    let mut session = open(&home);
    apply(&home, &format!("{}[quota]\nsessions = 1\n", named("Good")));
    assert_echoes(&mut session);
    let mut second = home.connect("acme");
    let error = second.initialize(json!({}))["error"].take();
    assert!(error["message"].as_str().is_some_and(|text| text.contains("sessions")), "{error}");
    assert_eq!(second.close().code(), Some(69));
    apply(&home, &format!("{}[quota]\nsessions = 2\n", named("Good")));
    assert_echoes(&mut open(&home));
    assert_echoes(&mut session);
    supervisor.stop();
}

#[test]
fn a_changed_server_is_started_anew_and_its_sessions_live_on() {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(&[("WHICH", "old")], ""));
    let supervisor = home.start();
    let mut session = home.connect("acme");
    session.open(Era::Legacy);
    let has = |session: &mut Session, which: &str| {
        let text = session.call("environment", json!({}))["content"][0]["text"].take();
        text.as_str().is_some_and(|text| text.contains(&format!(r#""WHICH":"{which}""#)))
    };
    assert!(has(&mut session, "old"));
    apply(&home, &puppet_tenant(&[("WHICH", "new")], ""));
    assert!(has(&mut session, "new"));
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

#[test]
fn a_new_file_is_a_new_tenant() {
    let home = Home::new();
    home.tenant("acme", &named("Good"));
    let supervisor = home.start();
    let mut session = open(&home);
    home.tenant("fresh", &named("Fresh"));
    until(&home, |status| name_of(status, "fresh") == Some("Fresh"));
    let mut fresh = home.connect("fresh");
    fresh.open(Era::Modern);
    assert_echoes(&mut fresh);
    assert_echoes(&mut session);
    supervisor.stop();
}

#[test]
fn a_removed_file_ends_its_sessions_with_a_reason_and_keeps_the_data() {
    let home = Home::new();
    home.tenant("acme", &named("Good")).tenant("globex", &named("Other"));
    let supervisor = home.start();
    let mut session = open(&home);
    let mut other = home.connect("globex");
    other.open(Era::Modern);
    session.call("save_document", json!({"name": "kept", "text": "kept"}));
    fs::remove_file(file(&home)).expect("removed");
    assert_eq!(session.wait().code(), Some(69));
    assert!(session.stderr().contains("removed"), "{}", session.stderr());
    assert_echoes(&mut other);
    let mut refused = home.connect("acme");
    assert!(refused.initialize(json!({}))["error"].is_object());
    assert_eq!(refused.close().code(), Some(77));
    home.tenant("acme", &named("Back"));
    until(&home, |status| name_of(status, "acme") == Some("Back"));
    let found = open(&home).call("get_document", json!({"name": "kept"}));
    assert!(found["content"][0]["text"].as_str().is_some_and(|text| text.contains("kept")));
    supervisor.stop();
}

#[test]
fn reload_prints_what_changed() {
    let home = Home::new();
    home.tenant("acme", &named("Good")).tenant("globex", &named("Other"));
    let supervisor = home.start();
    let reload = || {
        let output = home.run(&["reload"]);
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    assert_eq!(reload(), (Some(0), "nothing changed\n".to_owned()));
    // In one rename, so that the watcher has nothing to see of a directory that is not yet complete.
    home.directory("config/next");
    home.file("config/next/fresh.toml", &named("Fresh"));
    home.file("config/next/acme.toml", &named("Changed"));
    home.file("config/next/bad.toml", "=\n");
    let tenants = home.path().join("config/tenants.d");
    fs::rename(&tenants, home.path().join("config/before")).expect("renamed");
    fs::rename(home.path().join("config/next"), &tenants).expect("renamed");
    let (code, said) = reload();
    assert_eq!(code, Some(78), "{said}");
    for line in ["new: fresh", "changed: acme", "gone: globex"] {
        assert!(said.lines().any(|each| each == line), "{line}: {said}");
    }
    assert!(said.contains("problem: ") && said.contains("bad.toml:1"), "{said}");
    supervisor.stop();
}
