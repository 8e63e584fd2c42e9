//! The life of a tenant's control groups: made, changed, taken over, removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::json;

use crate::groups::{
    bounded, connect, echo, group_of, hierarchy, home, status, tenant_group, tenant_status, told,
    until, until_logged,
};
use crate::support::{DEADLINE, Home};

fn says(path: PathBuf) -> String {
    fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .trim()
        .to_owned()
}

/// The supervisor's own directories, in each tree.
fn roots(home: &Home, tenant: &str) -> Vec<PathBuf> {
    let all =
        ["memory", "pids", "cpu", "blkio"].into_iter().filter(|name| hierarchy(name).is_some());
    let group = |name| tenant_group(home, tenant, name).parent().expect("a root").to_owned();
    all.map(group).collect()
}

fn assert_gone(roots: &[PathBuf]) {
    assert!(roots.len() >= 3, "{roots:?}");
    let left: Vec<_> = roots.iter().filter(|root| root.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_process_of_a_tenant_is_where_its_limits_are() {
    let Some(home) = home() else { return };
    home.tenant(
        "acme",
        &bounded("memory = \"1GiB\"\ncpus = 0.5\nprocesses = 512\nio = \"unlimited\""),
    );
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    assert_eq!(echo(&mut session), "here");
    assert_eq!(status(&home)["supervisor"]["limits"], "cgroup v1");
    let group = |controller| tenant_group(&home, "acme", controller);
    assert_eq!(says(group("memory").join("memory.limit_in_bytes")), (1 << 30).to_string());
    assert_eq!(
        says(group("memory").join("servers/memory.limit_in_bytes")),
        (896 << 20).to_string()
    );
    assert_eq!(says(group("pids").join("pids.max")), "512");
    assert_eq!(says(group("pids").join("servers/pids.max")), "448");
    assert_eq!(says(group("cpu").join("cpu.cfs_quota_us")), "50000");

    let mut below = supervisor.descendants();
    below.retain(|held| held.pid != supervisor.pid());
    assert!(below.len() >= 4, "mux, keeper, pid 1, server: {}", below.len());
    let mut scores = Vec::new();
    for process in &below {
        let place = group_of(u64::from(process.pid), "pids");
        assert!(place.starts_with(group("pids")), "{}", place.display());
        let score =
            fs::read_to_string(format!("/proc/{}/oom_score_adj", process.pid)).expect("a score");
        scores.push((place.ends_with("mux"), score.trim().parse::<i32>().expect("a number")));
    }
    let own: i32 =
        says(format!("/proc/{}/oom_score_adj", supervisor.pid()).into()).parse().expect("a number");
    assert!(scores.iter().all(|(_, score)| *score > own), "the supervisor is the last: {scores:?}");
    let (mux, servers) =
        (scores.iter().map(|s| s.1).min(), scores.iter().filter(|s| !s.0).map(|s| s.1).min());
    assert!(mux < servers, "{scores:?}");
    supervisor.stop();
}

#[test]
fn a_changed_quota_holds_at_once_for_what_runs() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded("processes = 64\nmemory = \"512MiB\""));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    let few = told(&session.call("forks", json!({"count": 120})));
    assert!(few["started"].as_u64().expect("a number") < 64, "{few}");
    let (pids, memory) =
        (tenant_group(&home, "acme", "pids"), tenant_group(&home, "acme", "memory"));
    home.tenant("acme", &bounded("processes = 300\nmemory = \"256MiB\"\ncpus = \"unlimited\""));
    until("more processes", || says(pids.join("servers/pids.max")) == "263");
    until("less memory", || says(memory.join("memory.limit_in_bytes")) == (256 << 20).to_string());
    let more = told(&session.call("forks", json!({"count": 120})));
    assert_eq!(more["started"], 120, "{more}");
    let status = tenant_status(&home, "acme", |_| true);
    assert_eq!(status["servers"][0]["children"][0]["starts"], 1, "nothing was started anew");
    supervisor.stop();
}

#[test]
fn a_server_that_ends_leaves_no_group_and_a_stop_leaves_none_at_all() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded(""));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    let servers = tenant_group(&home, "acme", "pids").join("servers");
    let groups = || {
        let entries = fs::read_dir(&servers).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name())
            .collect::<Vec<_>>()
    };
    let first = groups();
    assert_eq!(first.len(), 1);
    session.request("tools/call", json!({"name": "die", "arguments": {"code": 1}}));
    assert_eq!(echo(&mut session), "here");
    until("the first group to go", || !groups().contains(&first[0]));
    assert_eq!(groups().len(), 1);
    let roots = roots(&home, "acme");
    supervisor.stop();
    assert_gone(&roots);
}

#[test]
fn a_tenant_that_is_used_no_more_has_no_group_and_comes_back() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded("")).tenant("globex", &bounded(""));
    let supervisor = home.start_system();
    let (session, mut stays) = (connect(&home, "acme"), connect(&home, "globex"));
    let group = tenant_group(&home, "acme", "memory");
    fs::remove_file(home.path().join("config/tenants.d/acme.toml")).expect("removed");
    until("the group to go", || !group.exists());
    drop(session);
    assert_eq!(echo(&mut stays), "here");
    home.tenant("acme", &bounded(""));
    tenant_status(&home, "acme", |_| true);
    assert_eq!(echo(&mut connect(&home, "acme")), "here");
    supervisor.stop();
}

/// A process in a group of its own, as one that nobody knows any more.
fn stranger(group: &Path) -> Child {
    fs::create_dir_all(group).expect("made");
    let child = Command::new("sleep").arg("1000").spawn().expect("sleep");
    fs::write(group.join("cgroup.procs"), child.id().to_string()).expect("moved");
    child
}

#[test]
fn the_next_supervisor_takes_over_what_lives_and_kills_what_nobody_owns() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded("processes = 100"));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    assert_eq!(echo(&mut session), "here");
    let mux = tenant_status(&home, "acme", |_| true)["mux_pid"].take();
    let roots = roots(&home, "acme");
    let pids = tenant_group(&home, "acme", "pids");
    supervisor.kill();
    let root = pids.parent().expect("a root");
    let mut ghost = stranger(&root.join("ghost/servers/9-9"));
    let mut stray = stranger(&pids.join("servers/9-9"));

    let supervisor = home.start_system();
    until("both to be dead", || {
        [&mut ghost, &mut stray].into_iter().all(|it| it.try_wait().expect("a child").is_some())
    });
    assert!(!root.join("ghost").exists());
    assert!(!pids.join("servers/9-9").exists());
    until_logged(&home, "what an earlier tenantd left of it is killed");
    assert_eq!(tenant_status(&home, "acme", |_| true)["mux_pid"], mux);
    assert_eq!(echo(&mut session), "here");
    assert_eq!(says(pids.join("pids.max")), "100");
    drop(session);
    supervisor.stop();
    assert_gone(&roots);
}

#[test]
fn a_mux_outside_of_its_tenants_group_is_not_taken_over() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded(""));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    assert_eq!(echo(&mut session), "here");
    let mux = tenant_status(&home, "acme", |_| true)["mux_pid"].as_u64().expect("a pid");
    let pids = tenant_group(&home, "acme", "pids");
    supervisor.kill();
    let outside = pids.parent().and_then(Path::parent).expect("above ours");
    fs::write(outside.join("cgroup.procs"), mux.to_string()).expect("moved");
    let supervisor = home.start_system();
    until_logged(&home, "not in its tenant's control group");
    let mut next = connect(&home, "acme");
    assert_eq!(echo(&mut next), "here");
    let now = tenant_status(&home, "acme", |tenant| tenant["mux_pid"].is_u64())["mux_pid"].as_u64();
    assert_ne!(now, Some(mux));
    supervisor.stop();
    // It is nobody's child any more, and would leave by itself.
    let held = crate::support::Held::of(u32::try_from(mux).expect("a pid"));
    drop(session);
    assert!(held.is_none_or(|held| held.ends_within(DEADLINE)), "the old mux stays");
}
