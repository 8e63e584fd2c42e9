//! Processes that a server leaves behind: they end with it, with its tenant, with its mux, and with the
//! supervisor's own order.

use std::time::{Duration, Instant};

use super::{shell, strict_tenant};
use crate::support::{Era, Held, Home, Session, Supervisor, descendants, left_after};

/// A second is promised; a loaded machine gets some grace.
const SOON: Duration = Duration::from_secs(3);

fn home() -> Home {
    with_a_tenant(Home::new())
}

fn with_a_tenant(home: Home) -> Home {
    home.tenant("acme", &strict_tenant("", ""));
    home
}

/// A session, and a process of its server's that left session, group and parent behind.
fn daemonised(supervisor: &Supervisor<'_>) -> (Session, Held) {
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    shell(&mut session, "(setsid sleep 1000 </dev/null >/dev/null 2>&1 &)");
    let until = Instant::now() + crate::support::DEADLINE;
    loop {
        let below = descendants(supervisor.pid());
        if let Some(daemon) = below.into_iter().find(|held| held.name == "sleep") {
            return (session, daemon);
        }
        assert!(Instant::now() < until, "it never daemonised");
    }
}

fn named(supervisor: &Supervisor<'_>, name: &str) -> Held {
    let found = descendants(supervisor.pid()).into_iter().find(|held| held.name == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_server_that_daemonises_dies_with_whoever_of_its_line_is_killed() {
    die_with_their_line(Home::new);
}

#[test]
fn a_server_in_a_namespace_of_bubblewraps_that_daemonises_dies_as_well() {
    die_with_their_line(Home::with_bubblewrap);
}

fn die_with_their_line(make: fn() -> Home) {
    for victim in ["puppet", "tenantd-init", "tenantd-keeper"] {
        let home = with_a_tenant(make());
        let supervisor = home.start();
        let (session, daemon) = daemonised(&supervisor);
        named(&supervisor, victim).kill();
        assert!(daemon.ends_within(SOON), "it outlives {victim}");
        drop(session);
        supervisor.stop();
    }
}

#[test]
fn a_server_that_daemonises_dies_with_its_mux() {
    let home = home();
    let supervisor = home.start();
    let (session, daemon) = daemonised(&supervisor);
    let mux = home.tenant_status("acme", |tenant| tenant["mux_pid"].is_u64())["mux_pid"].as_u64();
    let mux = Held::of(mux.and_then(|pid| u32::try_from(pid).ok()).expect("a pid"));
    mux.expect("the mux").kill();
    assert!(daemon.ends_within(SOON));
    drop(session);
    supervisor.stop();
}

#[test]
fn a_server_that_daemonises_dies_when_its_tenant_is_removed() {
    let home = home();
    let supervisor = home.start();
    let (session, daemon) = daemonised(&supervisor);
    std::fs::remove_file(home.path().join("config/tenants.d/acme.toml")).expect("removed");
    assert!(daemon.ends_within(crate::support::DEADLINE));
    drop(session);
    supervisor.stop();
}

#[test]
fn what_outlives_a_killed_supervisor_ends_with_its_session() {
    let home = home();
    let supervisor = home.start();
    let (session, daemon) = daemonised(&supervisor);
    let family = descendants(supervisor.pid());
    supervisor.kill();
    assert!(!daemon.ends_within(Duration::from_millis(200)), "a dead supervisor ends nothing");
    assert_eq!(session.close().code(), Some(0));
    let next = home.start();
    next.stop();
    assert_eq!(left_after(family, crate::support::DEADLINE), Vec::<String>::new());
}
