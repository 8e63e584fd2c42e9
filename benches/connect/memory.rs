//! How much memory each role has to itself: anonymous pages, as /proc/PID/smaps_rollup counts them.
//!
//! The roles cannot be looked at by their own user (they are not dumpable), so this needs root.

use std::fs;

use crate::client::Client;
use crate::say;
use crate::support::{Home, Supervisor, descendants};

const TENANTS: usize = 10;
const SESSIONS: usize = 16;
/// How many tenants more for the price of one.
const MORE: usize = 90;

/// Anonymous memory of a process, KiB.
fn anonymous(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The role of a process of ours: the second word of its command line.
fn role(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let word = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
    String::from_utf8_lossy(word).into_owned()
}

fn tenants(home: &Home, text: &str, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| {
        home.tenant(&format!("t{number}"), text);
    });
}

fn open_sessions(home: &Home) -> Vec<Client> {
    let target = |number: usize| format!("t{}", number % TENANTS);
    (0..SESSIONS).map(|number| Client::open(home.command(&["connect", &target(number)]))).collect()
}

fn largest(values: impl Iterator<Item = u64>) -> u64 {
    values.max().unwrap_or(0)
}

fn report(supervisor: &Supervisor<'_>, sessions: &[Client]) -> Option<u64> {
    let own = anonymous(supervisor.pid())?;
    let muxes: Vec<_> = descendants(supervisor.pid())
        .into_iter()
        .filter(|process| role(process.pid).contains("mux"))
        .filter_map(|process| anonymous(process.pid))
        .collect();
    let shims = largest(sessions.iter().filter_map(|session| anonymous(session.pid())));
    say(&format!("\n{TENANTS} tenants in use, {SESSIONS} idle sessions, anonymous memory:\n"));
    say("| role | KiB |\n|---|---:|");
    say(&format!("| supervisor | {own} |"));
    say(&format!("| mux (the largest of {}) | {} |", muxes.len(), largest(muxes.iter().copied())));
    say(&format!("| shim (the largest) | {shims} |"));
    Some(own)
}

/// Prints the memory of supervisor, mux and shim, and what one more tenant costs.
pub(crate) fn measure(tenant: &str) {
    let home = Home::new();
    tenants(&home, tenant, 0..TENANTS);
    let supervisor = home.start();
    let sessions = open_sessions(&home);
    let few = report(&supervisor, &sessions);
    sessions.into_iter().for_each(Client::close);
    supervisor.stop();
    let Some(few) = few else {
        say("\nThe memory of the roles can only be read by root: not measured.");
        return;
    };
    tenants(&home, tenant, TENANTS..TENANTS + MORE);
    let supervisor = home.start();
    let sessions = open_sessions(&home);
    let many = anonymous(supervisor.pid()).unwrap_or(0);
    let each = (many as f64 - few as f64) / MORE as f64;
    say(&format!("| supervisor, for each further tenant | {each:.1} |"));
    sessions.into_iter().for_each(Client::close);
    supervisor.stop();
}
