//! The journal: what is about a tenant is found by its fields, and nobody writes fields but us.

use serde_json::{Value, json};

use crate::machine::{Machine, said};
use crate::service::{assert_echoes, machine, open_tenant};
use crate::support::Era;

impl Machine {
    /// Every line of the unit's journal that a match (`TENANT=acme`) finds.
    pub(crate) fn lines(&self, wanted: &str) -> Vec<Value> {
        self.run(&["journalctl", "--sync"]);
        let found = ["journalctl", "-u", "tenantd.service", "-o", "json", "--no-pager", wanted];
        let found = self.run(&found);
        found.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// A field of a line as text.
pub(crate) fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}

#[test]
fn what_is_about_a_tenant_is_found_by_its_fields() {
    let Some(machine) = machine(&[]) else { return };
    for tenant in ["acme", "globex"] {
        machine.tenant(tenant, &open_tenant("").replace("\"landlock\", ", ""));
    }
    // So that there is something to warn of.
    let without = "[Service]\nSystemCallFilter=~landlock_create_ruleset\n";
    machine.drop_in("system", "tenantd.service", without);
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    session.call("echo", json!({"text": "x"}));
    let mut other = machine.connect("globex");
    other.open(Era::Legacy);
    for session in [session, other] {
        assert_eq!(session.close().code(), Some(0));
    }
    let all = |tenant: &str| machine.lines(&format!("TENANT={tenant}"));
    let is = |line: &Value, what: &str| text(line, "MESSAGE").starts_with(what);
    machine.until("the end is told", || all("acme").iter().any(|line| is(line, "a session ended")));
    let acme = all("acme");
    let opened = acme.iter().find(|line| is(line, "a session opens")).expect("told");
    assert_eq!(text(opened, "SERVER"), "main");
    assert_eq!(text(opened, "USER"), "alice");
    assert_eq!(text(opened, "PRIORITY"), "6");
    assert_eq!(text(opened, "SYSLOG_IDENTIFIER"), "tenantd");
    assert!(text(opened, "MESSAGE").contains("tenant=acme"), "{opened}");
    let servers = machine.lines("SERVER=main");
    assert!(servers.iter().any(|line| is(line, "a server was started")), "{servers:?}");
    let session = machine.lines(&format!("SESSION={}", text(opened, "SESSION")));
    assert_eq!(session.len(), 2, "{session:?}");
    assert!(acme.iter().all(|line| !line.to_string().contains("globex")), "{acme:?}");

    // What was not isolated is a warning, and a line of a tenant's is never without its field.
    let warnings = machine.lines("PRIORITY=4");
    assert!(warnings.iter().any(|line| is(line, "NOT ISOLATED landlock")), "{warnings:?}");
    let unit = machine.lines("SYSLOG_IDENTIFIER=tenantd");
    let about = |line: &&Value| text(line, "MESSAGE").contains("acme");
    assert!(unit.iter().filter(about).all(|line| text(line, "TENANT") == "acme"), "{unit:?}");
}

#[test]
fn nothing_that_a_tenant_says_becomes_a_line_or_a_field() {
    let Some(machine) = machine(&["globex"]) else { return };
    let forged = "x\\u000aTENANT=globex\\u000aPRIORITY=0\\u000a";
    machine.tenant("acme", &format!("[server]\ncommand = \"{forged}\"\n\"{forged}\" = 1\n"));
    machine.run(&["systemctl", "start", "tenantd.service"]);
    machine.until("the problem is told", || !machine.lines("TENANT=acme").is_empty());
    let told = machine.lines("TENANT=acme");
    assert!(told.iter().any(|line| text(line, "MESSAGE").contains("TENANT=globex")), "{told:?}");
    assert!(machine.lines("TENANT=globex").is_empty());
    assert!(machine.lines("PRIORITY=0").is_empty());
}

#[test]
fn a_journal_that_stands_still_delays_nobody() {
    let Some(machine) = machine(&["acme"]) else { return };
    let mut session = machine.connect("acme");
    session.open(Era::Legacy);
    let wrong: String = (0..50).map(|n| format!("wrong{n} = 1\n")).collect();
    machine.tenant("wrong", &wrong);
    machine.run(&["systemctl", "kill", "--kill-who=main", "--signal", "STOP", "systemd-journald"]);
    // Many more lines than the socket and the queue hold: each time at least fifty.
    for _ in 0..40 {
        let reload = machine.command(&["tenantd", "reload"]).output().expect("nsenter");
        assert!(said(&reload).contains("wrong49"), "{}", said(&reload));
    }
    assert_echoes(&mut session, "not delayed");
    drop(session);
    machine.run(&["systemctl", "kill", "--kill-who=main", "--signal", "CONT", "systemd-journald"]);
    assert_eq!(machine.show("tenantd.service", "NRestarts"), "0");
    let mut session = machine.connect("acme");
    session.open(Era::Legacy);
    drop(session);
    machine.until("lines come again", || !machine.lines("TENANT=acme").is_empty());
}
