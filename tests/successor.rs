//! A supervisor that is killed: what it started lives on for a while, and never stands in the way of the
//! next one.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use serde_json::json;
use support::{Era, Home, documents_tenant};

#[test]
fn a_killed_supervisor_ends_no_session_and_its_successor_opens_new_ones() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    home.settings("orphan_timeout = \"1s\"\n");
    let first = home.start();
    let mut old = first.connect("acme");
    old.open(Era::Modern);
    first.kill();
    let echo = |text: &str| json!({ "text": text });
    assert_eq!(old.call("echo", echo("alone"))["content"][0]["text"], "alone");

    let second = home.start();
    let mut new = second.connect("acme");
    new.open(Era::Modern);
    assert_eq!(new.call("echo", echo("new"))["content"][0]["text"], "new");

    // Nobody adopted the first mux: it says so and leaves, and takes its server with it.
    assert_eq!(old.wait().code(), Some(69));
    assert!(old.stderr().contains("supervisor is gone"), "{}", old.stderr());
    assert_eq!(new.call("echo", echo("still"))["content"][0]["text"], "still");
    drop(new);
    second.stop();
}
