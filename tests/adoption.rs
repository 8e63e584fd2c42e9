//! A supervisor that is killed while sessions are open: they never notice, and the next one goes on where
//! it ended.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{
    DEADLINE, Ending, Era, Held, Home, LEGACY, Load, Session, Supervisor, a_while, descendants,
    documents_tenant, left_after, puppet_tenant, tenant_with, tenantd, working_below,
};

fn shared(share: &str) -> String {
    tenant_with(tenantd(), &["builtin", "documents"], &format!("share = {share:?}"))
}

fn echo(session: &mut Session, text: &str) {
    let result = session.call("echo", json!({"text": text}));
    assert_eq!(result["content"][0]["text"], text);
}

fn open(home: &Home, target: &str, era: Era) -> Session {
    let mut session = home.connect(target);
    session.open(era);
    session
}

/// What stays the same over a change of supervisors: the mux, the sessions, the children.
fn belongings(home: &Home, tenant: &str) -> Value {
    let status = home.tenant_status(tenant, |_| true);
    let list = |value: &Value, keys: &[&str]| -> Vec<Value> {
        let lines = value.as_array().expect("a list").iter();
        lines.map(|line| keys.iter().map(|key| line[*key].clone()).collect()).collect()
    };
    let servers = status["servers"].as_array().expect("servers").iter();
    json!({
        "mux": status["mux_pid"],
        "sessions": list(&status["sessions"], &["id", "user", "uid", "server"]),
        "children": servers.map(|s| list(&s["children"], &["pid", "starts"])).collect::<Vec<_>>(),
    })
}

fn mux(home: &Home, tenant: &str) -> Held {
    let status = home.tenant_status(tenant, |status| status["mux_pid"].is_u64());
    let pid = status["mux_pid"].as_u64().expect("a pid");
    Held::of(u32::try_from(pid).expect("a pid")).expect("a mux")
}

/// Everything of this home that runs, to be looked at when all should be over.
fn everything(home: &Home) -> Vec<Held> {
    working_below(&home.path().join("state"))
}

#[test]
fn a_successor_has_what_the_killed_supervisor_had() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let first = home.start();
    let mut old = open(&home, "acme", Era::Modern);
    echo(&mut old, "before");
    let before = belongings(&home, "acme");
    first.kill();
    echo(&mut old, "alone");

    let second = home.start();
    assert_eq!(belongings(&home, "acme"), before);
    echo(&mut old, "adopted");
    let mut new = open(&home, "acme", Era::Legacy);
    echo(&mut new, "new");
    let after = belongings(&home, "acme");
    assert_eq!((&after["mux"], &after["children"]), (&before["mux"], &before["children"]));
    assert_eq!(after["sessions"].as_array().map(Vec::len), Some(2), "{after}");

    assert!(home.run(&["restart", "acme"]).status.success());
    home.tenant_status("acme", |status| {
        status["servers"][0]["children"][0]["pid"] != after["children"][0][0][0]
    });
    echo(&mut old, "restarted");
    assert!(home.run(&["reload"]).status.success());
    let left = everything(&home);
    second.stop();
    assert!(left_after(left, Duration::ZERO).is_empty(), "what was taken over is stopped as well");
    assert_eq!(old.wait().code(), Some(69));
}

#[test]
fn the_next_connect_starts_the_successor() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let first = home.start();
    let mut old = open(&home, "acme", Era::Modern);
    let before = belongings(&home, "acme");
    first.kill();
    let mut new = open(&home, "acme", Era::Modern);
    echo(&mut new, "new");
    echo(&mut old, "old");
    assert_eq!(belongings(&home, "acme")["mux"], before["mux"]);
    let left = everything(&home);
    assert!(home.run(&["stop"]).status.success());
    assert!(left_after(left, Duration::ZERO).is_empty());
}

#[test]
fn no_call_is_lost_or_answered_twice_however_often_the_supervisor_is_killed() {
    let home = Home::new();
    home.tenant("one", &shared("tenant")).tenant("users", &shared("user"));
    home.tenant("own", &shared("session"));
    let mut supervisor = Some(home.start());
    let load = Load::default();
    let targets = [("one", Era::Modern), ("one", Era::Legacy), ("users", Era::Modern)];
    let targets = targets.into_iter().chain([("own", Era::Legacy), ("own", Era::Legacy)]);
    std::thread::scope(|scope| {
        let _end = Ending(&load);
        let callers: Vec<_> =
            targets.map(|(target, era)| load.call(scope, home.connect(target), era)).collect();
        let before: Vec<_> = ["one", "users", "own"].map(|t| belongings(&home, t)).to_vec();
        for round in 0..6 {
            std::thread::sleep(a_while(Duration::from_millis(100)));
            supervisor.take().expect("a supervisor").kill();
            load.until_answered(20);
            supervisor = Some(home.start());
            let after: Vec<_> = ["one", "users", "own"].map(|t| belongings(&home, t)).to_vec();
            assert_eq!(before, after, "round {round}");
        }
        load.end();
        for caller in callers {
            assert_eq!(caller.join().expect("a caller").close().code(), Some(0));
        }
    });
    supervisor.take().expect("a supervisor").stop();
}

#[test]
fn in_system_mode_the_sessions_of_each_user_are_taken_over() {
    let user = std::env::var("TENANTD_TEST_USER").unwrap_or_default();
    if !nix::unistd::geteuid().is_root() || user.is_empty() {
        return eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    }
    let home = Home::system();
    home.tenant("acme", &format!("{}[[grant]]\nusers = [{user:?}]\n", documents_tenant()));
    let first = home.start_system();
    let connect = || Session::spawn(home.command(&["connect", "--system", "acme"]));
    let status = || {
        let mut as_root = std::process::Command::new(tenantd());
        as_root.args(["status", "--system", "--json"]).env("TENANTD_HOME", home.path());
        let output = as_root.output().expect("started");
        let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let session = &status["tenants"][0]["sessions"][0];
        (status["tenants"][0]["mux_pid"].clone(), session["user"].clone(), session["id"].clone())
    };
    let load = Load::default();
    std::thread::scope(|scope| {
        let _end = Ending(&load);
        let caller = load.call(scope, connect(), Era::Modern);
        let before = status();
        assert_eq!(before.1, user.as_str());
        first.kill();
        load.until_answered(20);
        let second = home.start_system();
        assert_eq!(status(), before);
        load.until_answered(20);
        load.end();
        let mut old = caller.join().expect("a caller");
        // What the grant gave is known of a session that was taken over: it goes with the grant.
        home.tenant("acme", &format!("{}[[grant]]\nusers = [\"root\"]\n", documents_tenant()));
        assert_eq!(old.wait().code(), Some(77), "{}", old.stderr());
        assert!(old.stderr().contains("grant"), "{}", old.stderr());
        second.stop();
    });
}

#[test]
fn what_changed_while_there_was_no_supervisor_is_applied() {
    let home = Home::new();
    let named = |name: &str, env: &str| {
        format!("name = {name:?}\n{}", puppet_tenant(&[("PUPPET_NAME", env)], ""))
    };
    home.tenant("live", &named("Before", "x")).tenant("cold", &named("Before", "x"));
    home.tenant("gone", &named("Before", "x")).tenant("broken", &named("Before", "x"));
    let first = home.start();
    let [mut live, mut cold, mut gone, mut broken] =
        ["live", "cold", "gone", "broken"].map(|tenant| open(&home, tenant, Era::Legacy));
    for session in [&mut live, &mut cold, &mut gone, &mut broken] {
        echo(session, "before");
    }
    let children = |tenant: &str| belongings(&home, tenant)["children"].clone();
    let (live_child, cold_child) = (children("live"), children("cold"));
    let broken_keeper = children("broken")[0][0][0].as_u64().expect("a pid");
    first.kill();
    home.tenant("live", &format!("{}[quota]\nsessions = 1\n", named("Before", "x")));
    home.tenant("cold", &named("After", "y"));
    home.tenant("broken", "command = \n");
    std::fs::remove_file(home.path().join("config/tenants.d/gone.toml")).expect("removed");

    let second = home.start();
    assert_eq!(gone.wait().code(), Some(69));
    assert!(gone.stderr().contains("removed"), "{}", gone.stderr());
    echo(&mut live, "live");
    assert_eq!(children("live"), live_child);
    let refused = home.connect("live").initialize(json!({}))["error"].take();
    assert!(refused["message"].to_string().contains("session"), "{refused}");
    home.tenant_status("cold", |status| {
        let child = &status["servers"][0]["children"][0];
        child["state"] == "idle" || child["pid"] != cold_child[0][0][0]
    });
    echo(&mut cold, "cold");
    // A broken file takes nothing down, and starts nothing.
    echo(&mut broken, "broken");
    let status = home.tenant_status("broken", |_| true);
    assert_eq!(status["status"], "broken");
    assert_eq!(status["sessions"].as_array().map(Vec::len), Some(1), "{status}");
    let keeper = Held::of(u32::try_from(broken_keeper).expect("a pid")).expect("a keeper");
    keeper.kill();
    assert!(keeper.ends_within(DEADLINE));
    let asked = json!({"name": "echo", "arguments": {"text": "down"}});
    let deadline = Instant::now() + DEADLINE;
    loop {
        let error = broken.request("tools/call", asked.clone())["error"].take();
        assert_eq!(error["code"], 503, "{error}");
        if error["message"].to_string().contains("tenants.d/broken.toml") {
            break;
        }
        assert!(Instant::now() < deadline, "{error}");
    }
    home.tenant("broken", &named("Mended", "x"));
    home.tenant_status("broken", |status| status["name"] == "Mended");
    echo(&mut broken, "mended");
    second.stop();
}

#[test]
fn a_supervisor_that_is_killed_while_servers_start_loses_no_call() {
    let home = Home::new();
    home.tenant("acme", &shared("session"));
    let mut supervisor = home.start();
    for round in 0..12 {
        let mut session = home.connect("acme");
        // The session is with its mux as soon as the shim knows; its server starts with the first call.
        home.tenant_status("acme", |s| s["sessions"].as_array().is_some_and(|s| !s.is_empty()));
        let client = json!({"name": "raw", "version": "1"});
        let ask = session.ask(
            "initialize",
            json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}),
        );
        std::thread::sleep(a_while(Duration::from_millis(12)));
        supervisor.kill();
        supervisor = home.start();
        let answer = session.answer(&ask);
        assert!(answer.get("error").is_none(), "round {round}: {answer}");
        assert_eq!(session.close().code(), Some(0), "round {round}");
    }
    supervisor.stop();
}

#[test]
fn a_successor_that_dies_while_it_takes_over_leaves_all_to_the_next_one() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let first = home.start();
    let mut session = open(&home, "acme", Era::Modern);
    echo(&mut session, "before");
    let before = belongings(&home, "acme");
    first.kill();
    for _ in 0..12 {
        let mut command = home.command(&["serve", "--user"]);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("started");
        std::thread::sleep(a_while(Duration::from_millis(60)));
        child.kill().expect("killed");
        child.wait().expect("buried");
    }
    echo(&mut session, "between");
    let last = home.start();
    assert_eq!(belongings(&home, "acme"), before);
    echo(&mut session, "after");
    last.stop();
}

#[test]
fn a_mux_that_hangs_holds_the_start_for_two_seconds_at_most_and_nobody_else() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant()).tenant("globex", &documents_tenant());
    let first = home.start();
    let (mut acme, mut globex) =
        (open(&home, "acme", Era::Modern), open(&home, "globex", Era::Modern));
    let hanging = mux(&home, "acme");
    let family = descendants(hanging.pid);
    let pid = Pid::from_raw(i32::try_from(hanging.pid).expect("a pid"));
    let before = belongings(&home, "globex");
    kill(pid, Signal::SIGSTOP).expect("stopped");
    first.kill();
    let since = Instant::now();
    let second = home.start();
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    assert_eq!(belongings(&home, "globex"), before);
    echo(&mut globex, "adopted");
    // Its tenant is served by another mux meanwhile, and it goes on where it was.
    let mut new = open(&home, "acme", Era::Modern);
    echo(&mut new, "new");
    kill(pid, Signal::SIGCONT).expect("continued");
    echo(&mut acme, "old");
    drop(acme);
    hanging.kill();
    assert!(left_after(family, Duration::from_secs(2)).is_empty());
    second.stop();
}

#[test]
fn of_two_muxes_of_one_tenant_the_one_with_sessions_stays() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let first = home.start();
    let mut old = open(&home, "acme", Era::Modern);
    let one = mux(&home, "acme");
    let pid = Pid::from_raw(i32::try_from(one.pid).expect("a pid"));
    kill(pid, Signal::SIGSTOP).expect("stopped");
    first.kill();
    let second = home.start();
    let mut new = open(&home, "acme", Era::Modern);
    let other = mux(&home, "acme");
    assert_ne!(one.pid, other.pid);
    echo(&mut new, "new");
    kill(pid, Signal::SIGCONT).expect("continued");
    second.kill();
    let third = home.start();
    assert_eq!(mux(&home, "acme").pid, other.pid, "both have a session: the newer one stays");
    assert_eq!(old.wait().code(), Some(69));
    assert!(one.ends_within(DEADLINE));
    echo(&mut new, "still");
    third.stop();
}

#[test]
fn a_keeper_that_does_not_end_with_its_mux_is_killed_within_a_second() {
    for adopted in [false, true] {
        let home = Home::new();
        home.tenant("acme", &puppet_tenant(&[("PUPPET_STUBBORN", "1")], ""));
        let mut supervisor: Supervisor<'_> = home.start();
        let mut session = open(&home, "acme", Era::Legacy);
        session.call("grandchild", json!({}));
        let mux = mux(&home, "acme");
        let keeper = belongings(&home, "acme")["children"][0][0][0].as_u64().expect("a pid");
        let keeper = Pid::from_raw(i32::try_from(keeper).expect("a pid"));
        if adopted {
            supervisor.kill();
            supervisor = home.start();
        }
        let family = everything(&home);
        assert!(family.len() >= 2, "a server and its grandchild");
        kill(keeper, Signal::SIGSTOP).expect("stopped");
        mux.kill();
        let left = left_after(family, Duration::from_millis(1500));
        assert!(left.is_empty(), "adopted {adopted}: {left:?}");
        supervisor.stop();
    }
}

#[test]
fn five_hundred_sessions_are_taken_over() {
    let home = Home::new();
    home.tenant("acme", &format!("{}[quota]\nsessions = 600\n", documents_tenant()));
    let first = home.start();
    let mut sessions: Vec<_> = (0..500).map(|_| home.connect("acme")).collect();
    let all = |status: &Value| status["sessions"].as_array().map(Vec::len) == Some(500);
    home.tenant_status("acme", all);
    first.kill();
    let second = home.start();
    home.tenant_status("acme", all);
    let last = sessions.last_mut().expect("a session");
    last.open(Era::Modern);
    echo(last, "adopted");
    drop(sessions);
    second.stop();
}
