//! The official conformance suite, `@modelcontextprotocol/conformance`: what it says of a server through
//! tenantd is what it says of the server itself, check by check.
//!
//! The suite speaks HTTP only, so a bridge of our own (`bridge.mjs`) stands between it and the lines of
//! stdio, in front of the server (`tests/servers/conformance`) or in front of `tenantd connect`.
//! `docs/conformance.md` lists the checks that a translation between the eras cannot carry, each with its
//! reason. The list is exact: a check that gets better makes these tests fail as one that gets worse.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod list;
mod suite;

use std::ffi::OsString;
use std::panic::resume_unwind;
use std::thread;

use list::{List, assert_listed, differing, failing, made, seen};
use suite::{Checks, Suite};
use support::{Home, LEGACY, MODERN, Supervisor, assert_same, child, connect, tenant_with};

/// What a shared legacy server may ask its clients for.
const EVERYTHING: &str = "shared_capabilities = [\"elicitation\", \"sampling\", \"roots\"]";

/// What the server's environment says, for a server of this revision.
fn era(revision: &str) -> &'static str {
    if revision == MODERN { "modern" } else { "legacy" }
}

/// A tenant on a server of this revision, with more lines in its `[server]`.
fn serve<'a>(home: &'a Home, revision: &str, lines: &str) -> Supervisor<'a> {
    let environment = format!("env = {{ CONFORMANCE_ERA = \"{}\" }}\n{lines}", era(revision));
    home.tenant("acme", &tenant_with(&child("conformance"), &[], &environment));
    home.start()
}

/// The checks of a revision on a server of this revision itself. All of them pass: what fails through
/// tenantd fails because of it.
fn direct(suite: &Suite, home: &Home, revision: &str) -> Checks {
    let era = format!("CONFORMANCE_ERA={}", era(revision));
    let checks =
        suite.run(home, revision, &["env".into(), era.into(), child("conformance").into()]);
    assert_eq!(failing(&checks), List::new());
    assert_eq!(Some(made(&checks).to_string()), list::documented("Runs").remove(revision));
    checks
}

/// The checks of a revision on whatever server the tenant has.
fn through(suite: &Suite, home: &Home, revision: &str) -> Checks {
    let command: Vec<OsString> = connect("acme").into_iter().map(Into::into).collect();
    suite.run(home, revision, &command)
}

/// The checks of a revision on a server itself, and on a server of some revision through tenantd. Both
/// runs are made at the same time.
fn both(revision: &str, server: &str, lines: &str) -> Option<(Checks, Checks)> {
    let suite = Suite::find()?;
    let home = Home::new();
    let supervisor = serve(&home, server, lines);
    let checks = thread::scope(|scope| {
        let direct = scope.spawn(|| direct(&suite, &home, revision));
        let through = through(&suite, &home, revision);
        (direct.join().unwrap_or_else(|panic| resume_unwind(panic)), through)
    });
    supervisor.stop();
    Some(checks)
}

#[track_caller]
fn assert_all_the_same((direct, through): (Checks, Checks)) {
    assert_eq!(differing(&direct, &through), List::new());
    assert_same(&seen(&through), &seen(&direct), "what the suite saw");
}

#[test]
fn a_legacy_server_passes_the_same_checks_through_tenantd() {
    let Some(runs) = both(LEGACY, LEGACY, EVERYTHING) else { return };
    assert_all_the_same(runs);
}

#[test]
fn a_legacy_server_for_each_session_passes_the_same_checks_through_tenantd() {
    let Some(runs) = both(LEGACY, LEGACY, "share = \"session\"") else { return };
    assert_all_the_same(runs);
}

#[test]
fn a_modern_server_passes_the_same_checks_through_tenantd() {
    let Some(runs) = both(MODERN, MODERN, "") else { return };
    assert_all_the_same(runs);
}

/// Nothing is lost upward: the suite sees the same results, to the last member.
#[test]
fn a_modern_server_passes_every_check_of_the_legacy_revision() {
    let Some(runs) = both(LEGACY, MODERN, "") else { return };
    assert_all_the_same(runs);
}

#[test]
fn a_legacy_server_passes_every_check_of_the_modern_revision_that_can_cross() {
    let Some((direct, through)) = both(MODERN, LEGACY, EVERYTHING) else { return };
    assert_listed(&differing(&direct, &through), "A modern client on a legacy server");
}

/// Legacy and modern clients at the same time: the one server serves both, and no check notices. What they
/// see differs, for the modern suite changes the lists of tools and prompts that both look at.
#[test]
fn clients_of_both_eras_pass_on_one_modern_server_at_once() {
    let Some(suite) = Suite::find() else { return };
    let home = Home::new();
    let alone = [LEGACY, MODERN].map(|revision| direct(&suite, &home, revision));
    let supervisor = serve(&home, MODERN, "");
    let together = thread::scope(|scope| {
        let legacy = scope.spawn(|| through(&suite, &home, LEGACY));
        let modern = through(&suite, &home, MODERN);
        [legacy.join().unwrap_or_else(|panic| resume_unwind(panic)), modern]
    });
    supervisor.stop();
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(differing(alone, together), List::new());
    }
}
