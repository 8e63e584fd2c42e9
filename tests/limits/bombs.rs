//! One tenant takes all that it can get: its server pays, its sessions and the others do not.

use serde_json::json;

use crate::groups::{
    bounded, connect, echo, home, tenant_group, tenant_status, told, until_logged,
};

#[test]
fn a_memory_bomb_ends_the_server_and_neither_mux_nor_sessions_nor_another_tenant() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded("memory = \"128MiB\"")).tenant("globex", &bounded(""));
    let supervisor = home.start_system();
    let (mut bomber, mut bystander) = (connect(&home, "acme"), connect(&home, "acme"));
    let mut other = connect(&home, "globex");
    let before = tenant_status(&home, "globex", |tenant| {
        tenant["servers"][0]["children"][0]["pid"].is_u64()
    });
    let mux = tenant_status(&home, "acme", |tenant| tenant["mux_pid"].is_u64())["mux_pid"].take();
    let held = bystander.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));

    let bomb =
        bomber.request("tools/call", json!({"name": "hog", "arguments": {"bytes": 1_u64 << 30}}));
    for error in [&bomb["error"], &bystander.answer(&held)["error"]] {
        let message = error["message"].as_str().unwrap_or_else(|| panic!("{error}"));
        assert!(message.contains("killed for want of memory (raise quota.memory)"), "{message}");
    }
    let ended = tenant_status(&home, "acme", |tenant| {
        let last = tenant["servers"][0]["children"][0]["last"].as_str();
        last.is_some_and(|last| last.contains("want of memory"))
    });
    assert_eq!(ended["mux_pid"], mux);
    until_logged(&home, "a server ended: it was killed for want of memory");

    assert_eq!(echo(&mut bomber), "here");
    assert_eq!(echo(&mut bystander), "here");
    assert_eq!(echo(&mut other), "here");
    let after = tenant_status(&home, "globex", |_| true);
    assert_eq!(
        after["servers"][0]["children"][0]["pid"],
        before["servers"][0]["children"][0]["pid"]
    );
    supervisor.stop();
}

#[test]
fn memory_within_the_quota_is_not_in_the_way() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded("memory = \"256MiB\""));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    let kept = session.call("hog", json!({"bytes": 100 << 20}));
    assert_eq!(kept["content"][0]["text"], "kept");
    supervisor.stop();
}

#[test]
fn a_fork_bomb_is_refused_shown_and_logged_while_everybody_goes_on() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded("processes = 64")).tenant("globex", &bounded(""));
    let supervisor = home.start_system();
    let (mut session, mut other) = (connect(&home, "acme"), connect(&home, "globex"));
    let bomb = told(&session.call("forks", json!({"count": 1000})));
    let started = bomb["started"].as_u64().expect("a number");
    // Less than the 64: the mux, the keeper and pid 1 count, and the reserve.
    assert!((20..64).contains(&started), "{bomb}");
    let refused = bomb["refused"].as_str().expect("refused");
    assert!(refused.contains("Resource temporarily unavailable"), "{refused}");

    let limited = tenant_status(&home, "acme", |tenant| {
        let limit = tenant["servers"][0]["children"][0]["limit"].as_str();
        limit.is_some_and(|limit| limit.contains("a new process was refused (quota.processes)"))
    });
    assert_eq!(limited["servers"][0]["children"][0]["starts"], 1, "it runs on");
    until_logged(&home, "a limit was met: a new process was refused");
    assert_eq!(echo(&mut session), "here");
    let unbothered = told(&other.call("forks", json!({"count": 100})));
    assert_eq!(unbothered["started"], 100, "{unbothered}");
    assert!(unbothered["refused"].is_null(), "{unbothered}");
    supervisor.stop();
}

#[test]
fn processor_time_is_held_to_the_quota() {
    let Some(home) = home() else { return };
    home.tenant("acme", &bounded("cpus = 0.2"));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    let burnt = told(&session.call("burn", json!({"ms": 2000})));
    let used = burnt["used"].as_u64().expect("milliseconds");
    // A fifth of 2000 is 400; a period that began before counts, and one that has not ended.
    assert!((1..=700).contains(&used), "{used} ms");
    let stat = std::fs::read_to_string(tenant_group(&home, "acme", "cpu").join("cpu.stat"));
    let stat = stat.expect("a file");
    let throttled =
        stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).expect("a line");
    assert!(throttled.parse::<u64>().expect("a number") >= 3, "{stat}");
    supervisor.stop();
}
