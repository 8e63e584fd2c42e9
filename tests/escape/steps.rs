//! A start that is cut short, at whatever step it is: SIGKILL to one of its processes. Nothing of it is left:
//! no process, no mount, no control group, no socket.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::strict_tenant;
use crate::support::{DEADLINE, Held, Home, LEGACY, Supervisor, descendants, left_after};

/// How often a start is cut, each time a little later.
const CUTS: u32 = 32;
/// How much later: a start takes some milliseconds, so that all cuts together cover it.
const LATER: Duration = Duration::from_micros(300);
/// The same where bubblewrap is started on the way.
const LATER_WITH_BUBBLEWRAP: Duration = Duration::from_micros(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The process that the supervisor started, which becomes the keeper.
    Stage,
    /// Its first child, which makes the namespaces.
    Leader,
    /// The youngest of its descendants.
    Youngest,
    Mux,
    Supervisor,
}

/// A tenant whose name is nobody else's, so that what bears it is of this test.
fn tenant() -> String {
    format!("steps-{}", std::process::id())
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn connecting(home: &Home) -> Child {
    let mut command = home.command(&["connect", &tenant()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = command.spawn().expect("started");
    let hello = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "cut", "version": "1"},
        },
    });
    writeln!(client.stdin.as_mut().expect("a pipe"), "{hello}").expect("written");
    client
}

/// The arguments of a process, as long as it has any.
fn role(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Waits for the stage of the first start, and no longer.
fn stage(supervisor: u32) -> Option<(Held, Option<Held>)> {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        let all = children(supervisor);
        let of = |wanted: &str| all.iter().copied().find(|pid| role(*pid).contains(wanted));
        if let Some(stage) = of("--role=stage").and_then(Held::of) {
            return Some((stage, of("--role=mux").and_then(Held::of)));
        }
        std::thread::yield_now();
    }
    None
}

/// What bears the tenant's name outside its directories.
fn traces() -> Vec<String> {
    let name = tenant();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let mut found: Vec<_> =
        mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect();
    groups(Path::new("/sys/fs/cgroup"), &name, &mut found);
    found
}

fn groups(below: &Path, name: &str, found: &mut Vec<String>) {
    let entries = fs::read_dir(below).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        match entry.file_name().to_str() {
            Some(here) if here == name => found.push(entry.path().display().to_string()),
            _ => groups(&entry.path(), name, found),
        }
    }
}

/// Cuts one start; says how many processes it had by then.
fn cut(home: &Home, supervisor: Supervisor<'_>, victim: Victim, after: Duration) -> usize {
    let mut client = connecting(home);
    let (stage, mux) = stage(supervisor.pid()).expect("a start");
    let mux = mux.expect("its mux");
    std::thread::sleep(after);
    let below = descendants(stage.pid);
    let steps = below.len();
    match victim {
        Victim::Stage => stage.kill(),
        Victim::Leader => below.first().unwrap_or(&stage).kill(),
        Victim::Youngest => below.last().unwrap_or(&stage).kill(),
        Victim::Mux => mux.kill(),
        Victim::Supervisor => {}
    }
    let mut family: Vec<_> = descendants(supervisor.pid());
    family.extend(below);
    match victim {
        Victim::Supervisor => {
            supervisor.kill();
            end(&mut client);
            // Who comes next takes over what there is, and ends it.
            home.start().stop();
        }
        _ => {
            end(&mut client);
            supervisor.stop();
        }
    }
    assert_eq!(left_after(family, DEADLINE), Vec::<String>::new(), "{victim:?} after {after:?}");
    steps
}

fn end(client: &mut Child) {
    let _ = client.kill();
    client.wait().expect("buried");
}

fn cut_at_every_step(victim: Victim) {
    cut_all(&Home::new(), victim, LATER);
}

fn cut_all(home: &Home, victim: Victim, later: Duration) {
    home.tenant(&tenant(), &strict_tenant("", ""));
    let mut steps = BTreeSet::new();
    for number in 0..CUTS {
        steps.insert(cut(home, home.start(), victim, later * number));
        let cells = fs::read_dir(home.path().join("run/cells")).into_iter().flatten().flatten();
        let cells: Vec<_> = cells.map(|entry| entry.file_name()).collect();
        assert!(cells.is_empty(), "{victim:?}, cut {number}: {cells:?}");
        assert_eq!(traces(), Vec::<String>::new(), "{victim:?}, cut {number}");
    }
    assert!(steps.len() > 1, "every cut came at the same step: {steps:?}");
}

#[test]
fn a_start_whose_stage_is_killed_leaves_nothing() {
    cut_at_every_step(Victim::Stage);
}

#[test]
fn a_start_whose_youngest_process_is_killed_leaves_nothing() {
    cut_at_every_step(Victim::Youngest);
}

#[test]
fn a_start_whose_mux_is_killed_leaves_nothing() {
    cut_at_every_step(Victim::Mux);
}

#[test]
fn a_start_whose_supervisor_is_killed_leaves_nothing() {
    cut_at_every_step(Victim::Supervisor);
}

#[test]
fn a_start_with_bubblewrap_whose_stage_or_leader_is_killed_leaves_nothing() {
    for victim in [Victim::Stage, Victim::Leader] {
        cut_all(&Home::with_bubblewrap(), victim, LATER_WITH_BUBBLEWRAP);
    }
}

#[test]
fn a_start_whose_bubblewrap_or_mux_is_killed_leaves_nothing() {
    for victim in [Victim::Youngest, Victim::Mux] {
        cut_all(&Home::with_bubblewrap(), victim, LATER_WITH_BUBBLEWRAP);
    }
}
