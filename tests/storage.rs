//! `quota.storage` where we watch it ourselves, with a real server that saves what its clients send.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use support::{DEADLINE, Era, Home, Session, documents_tenant, said};

/// A tenant that may store a mebibyte.
fn tenant(storage: &str) -> String {
    format!("{}\n[quota]\nstorage = {storage}\n", documents_tenant())
}

fn save(session: &mut Session, name: &str, bytes: usize) -> Value {
    let arguments = json!({"name": name, "text": "x".repeat(bytes)});
    session.request("tools/call", json!({"name": "save_document", "arguments": arguments}))
}

fn get(session: &mut Session, name: &str) -> Value {
    session.call("get_document", json!({"name": name}))
}

/// Saves one document after the other until a save is answered as `done` says; gives how many were saved.
#[track_caller]
fn save_until(session: &mut Session, done: impl Fn(&Value) -> bool) -> usize {
    let end = Instant::now() + DEADLINE;
    for n in 0.. {
        let answer = save(session, &format!("document-{}", n % 2000), 8 * 1024);
        if done(&answer) {
            return n;
        }
        assert!(Instant::now() < end, "never: {answer}");
    }
    0
}

fn is_full(answer: &Value) -> bool {
    answer["error"]["code"] == 507
}

fn is_saved(answer: &Value) -> bool {
    answer["result"]["isError"] == json!(false)
}

fn storage(home: &Home) -> Value {
    home.status()["tenants"][0]["storage"].clone()
}

fn server_pid(home: &Home) -> Value {
    home.status()["tenants"][0]["servers"][0]["children"][0]["pid"].clone()
}

fn empty(data: &Path) {
    for entry in fs::read_dir(data).expect("there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            fs::remove_dir_all(path).expect("removed");
        } else {
            fs::remove_file(path).expect("removed");
        }
    }
}

#[test]
fn a_full_tenant_hears_507_reads_on_and_is_cured_by_room_alone() {
    let home = Home::new();
    home.tenant("acme", &tenant("\"1MiB\""));
    let _supervisor = home.start();
    let mut session = home.connect("acme");
    session.open(Era::Legacy);
    session.result("tools/list", json!({}));
    assert!(is_saved(&save(&mut session, "first", 100)));
    let server = server_pid(&home);

    save_until(&mut session, is_full);
    let refused = save(&mut session, "one-more", 100);
    assert_eq!(refused["error"]["data"]["reason"], "storage", "{refused}");
    assert_eq!(refused["error"]["data"]["tenant"], "acme");
    assert_eq!(said(&get(&mut session, "first")), "x".repeat(100), "reading goes on");
    let status = storage(&home);
    assert_eq!((&status["full"], &status["method"]), (&json!(true), &json!("watcher")), "{status}");
    assert!(status["used"].as_i64() >= status["limit"].as_i64(), "{status}");

    empty(&home.data("acme"));
    save_until(&mut session, is_saved);
    assert_eq!(storage(&home)["full"], json!(false));
    assert_eq!(server_pid(&home), server, "nothing was restarted");
}

#[test]
fn a_limit_that_is_raised_or_taken_away_holds_at_once() {
    let home = Home::new();
    home.tenant("acme", &tenant("\"64KiB\""));
    let _supervisor = home.start();
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    save_until(&mut session, is_full);
    home.tenant("acme", &tenant("\"unlimited\""));
    assert!(home.run(&["reload"]).status.success());
    save_until(&mut session, is_saved);
    assert_eq!(storage(&home), Value::Null, "nobody counts");
}

#[test]
fn no_single_file_grows_beyond_the_limit_and_the_server_survives_it() {
    let home = Home::new();
    home.tenant("acme", &tenant("\"256KiB\""));
    let _supervisor = home.start();
    let mut session = home.connect("acme");
    session.open(Era::Legacy);
    let answer = save(&mut session, "huge", 1024 * 1024);
    let told = said(&answer["result"]).to_owned();
    assert_eq!(answer["result"]["isError"], json!(true), "{told}");
    assert!(is_saved(&save(&mut session, "small", 100)), "it runs on");
    let starts = &home.status()["tenants"][0]["servers"][0]["children"][0]["starts"];
    assert_eq!(starts, &json!(1));
}
