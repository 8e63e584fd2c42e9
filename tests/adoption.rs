//! A supervisor that dies, or is replaced, while sessions are open: they never notice, and the next one
//! goes on where it ended.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use serde_json::{Value, json};
use support::{Era, Home, Session, documents_tenant};

fn echo(session: &mut Session, text: &str) {
    let result = session.call("echo", json!({"text": text}));
    assert_eq!(result["content"][0]["text"], text);
}

/// What stays the same over a change of supervisors: the mux, the children, the sessions.
fn belongings(home: &Home, tenant: &str) -> Value {
    let status = home.tenant_status(tenant, |_| true);
    let sessions = status["sessions"].as_array().expect("sessions");
    let sessions: Vec<_> = sessions.iter().map(|s| (s["id"].clone(), s["user"].clone())).collect();
    let servers = status["servers"].as_array().expect("servers");
    let children =
        servers.iter().flat_map(|server| server["children"].as_array().expect("children"));
    let children: Vec<_> = children.map(|child| child["pid"].clone()).collect();
    json!({"mux": status["mux_pid"], "sessions": sessions, "children": children})
}

#[test]
fn a_successor_has_what_the_killed_supervisor_had() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let first = home.start();
    let mut old = first.connect("acme");
    old.open(Era::Modern);
    echo(&mut old, "before");
    let before = belongings(&home, "acme");
    first.kill();
    echo(&mut old, "alone");

    let second = home.start();
    assert_eq!(belongings(&home, "acme"), before);
    echo(&mut old, "adopted");
    let mut new = second.connect("acme");
    new.open(Era::Legacy);
    echo(&mut new, "new");
    let after = belongings(&home, "acme");
    assert_eq!((&after["mux"], &after["children"]), (&before["mux"], &before["children"]));
    assert_eq!(after["sessions"].as_array().map(Vec::len), Some(2), "{after}");
    second.stop();
    assert_eq!(old.wait().code(), Some(69));
}
