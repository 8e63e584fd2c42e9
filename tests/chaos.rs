//! kill -9 of a random role under load, again and again: no session of another tenant notices, every call
//! is answered or its session ended with a reason, and nothing is left behind.
//!
//! `TENANTD_SOAK_ROUNDS` says how many rounds; `tests/soak` runs it for long.

#![allow(missing_docs, reason = "a test binary has no API")]
#![allow(clippy::print_stdout, reason = "what was counted is what a long run is read for")]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    DEADLINE, Era, Held, Home, Lots, Session, amount, descendants, left_after, puppet_tenant,
    working_below,
};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// How long what lost its owner may live, on a loaded machine.
const GONE: Duration = Duration::from_secs(5);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Supervisor,
    Mux,
    Keeper,
    Server,
    Shim,
    /// Whatever a start has made so far.
    Start,
}

const ROLES: [Role; 6] =
    [Role::Supervisor, Role::Mux, Role::Keeper, Role::Server, Role::Shim, Role::Start];

/// A tenant's two clients and what they may see.
struct Load {
    tenant: &'static str,
    /// Beginnings and ends of rounds in which this tenant is hit: odd while one goes on. What its sessions see
    /// then is excused, of those too that are opened meanwhile.
    hits: AtomicU64,
    calls: AtomicU64,
    shims: Mutex<Vec<u32>>,
}

/// Calls without end; a session that ends is excused only where its tenant was hit, and is opened again.
fn load(home: &Home, load: &Load, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let before = load.hits.load(Ordering::SeqCst);
        let mut session = home.connect(load.tenant);
        load.shims.lock().expect("no panic").push(session.pid());
        if let Err(trouble) = work(&mut session, load, over) {
            let excused = before % 2 == 1 || load.hits.load(Ordering::SeqCst) > before;
            assert!(excused, "{} was not hit and saw {trouble}; {}", load.tenant, session.stderr());
        }
        let pid = session.pid();
        load.shims.lock().expect("no panic").retain(|shim| *shim != pid);
    }
}

/// Works until it is over or something goes wrong.
fn work(session: &mut Session, load: &Load, over: &AtomicBool) -> Result<(), String> {
    let client = json!({"name": "load", "version": "1"});
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    ask(session, "initialize", hello)?;
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let text = format!("{}-{number}", load.tenant);
        let answer =
            ask(session, "tools/call", json!({"name": "echo", "arguments": {"text": text}}))?;
        if answer.get("error").is_some() {
            return Err(answer.to_string());
        }
        assert_eq!(answer["result"]["content"][0]["text"], text, "somebody else's answer");
        load.calls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One request; an end of the session is an error that carries the reason.
fn ask(session: &mut Session, method: &str, params: Value) -> Result<Value, String> {
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    if session.try_send(&line.to_string()).is_err() {
        return Err(end(session));
    }
    loop {
        let Some(line) = session.recv() else { return Err(end(session)) };
        let message: Value = serde_json::from_str(&line).expect("JSON");
        if message.get("method").is_none() {
            return Ok(message);
        }
    }
}

fn end(session: &mut Session) -> String {
    let status = session.wait();
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    let said = session.stderr();
    assert!(killed || said.contains("tenantd:"), "an end without a reason: {status:?} {said}");
    format!("the end: {status:?} {said}")
}

fn pid(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|pid| pid.try_into().ok())
}

fn tenant<'a>(status: &'a Value, id: &str) -> &'a Value {
    let tenants = status["tenants"].as_array().expect("tenants");
    tenants.iter().find(|tenant| tenant["id"] == id).expect("the tenant")
}

/// The process to kill, if there is one at this moment.
fn victim(home: &Home, role: Role, load: &Load, lots: &mut Lots) -> Option<Held> {
    let status = home.status();
    let tenant = tenant(&status, load.tenant);
    let keeper = pid(&tenant["servers"][0]["children"][0]["pid"]);
    let pid = match role {
        Role::Supervisor => pid(&status["supervisor"]["pid"]),
        Role::Mux => pid(&tenant["mux_pid"]),
        Role::Keeper => keeper,
        Role::Server => return descendants(keeper?).into_iter().next(),
        Role::Shim => {
            let shims = load.shims.lock().expect("no panic");
            (!shims.is_empty()).then(|| shims[lots.draw(shims.len())])
        }
        Role::Start => return starting(home, &status, load, keeper?),
    };
    Held::of(pid?)
}

/// Has the tenant's server started anew, and takes what comes of it as early as can be.
fn starting(home: &Home, status: &Value, load: &Load, old: u32) -> Option<Held> {
    let supervisor = pid(&status["supervisor"]["pid"])?;
    let known: Vec<u32> = descendants(supervisor).iter().map(|held| held.pid).collect();
    let restarted = home.run(&["restart", load.tenant]);
    assert!(restarted.status.success(), "{restarted:?}");
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        let new = descendants(supervisor).into_iter().find(|it| !known.contains(&it.pid));
        if new.as_ref().is_some_and(|it| it.pid != old) {
            return new;
        }
    }
    None
}

/// One kill; afterwards everything works again for everybody.
fn round(home: &Home, number: usize, loads: &[Load], lots: &mut Lots) {
    let role = ROLES[number % ROLES.len()];
    let load = &loads[lots.draw(loads.len())];
    // A supervisor's death is nobody's.
    let hit = u64::from(role != Role::Supervisor);
    load.hits.fetch_add(hit, Ordering::SeqCst);
    kill_one(home, (number, role), (load, loads), lots);
    load.hits.fetch_add(hit, Ordering::SeqCst);
}

fn kill_one(
    home: &Home,
    (number, role): (usize, Role),
    (load, loads): (&Load, &[Load]),
    lots: &mut Lots,
) {
    let Some(victim) = victim(home, role, load, lots) else { return };
    victim.kill();
    assert!(victim.ends_within(DEADLINE), "{role:?} of {} lives on", load.tenant);
    if role == Role::Supervisor {
        // Any client brings the next one; nobody's sessions depend on it.
        let mut session = home.connect(load.tenant);
        session.open(Era::Legacy);
        assert!(session.close().success());
    }
    if matches!(role, Role::Keeper | Role::Server | Role::Start) {
        // A row of deaths is a crash loop, which is not what this is about.
        assert!(home.run(&["restart", load.tenant]).status.success());
    }
    everybody_works(
        loads,
        &format!("round {number}, after the end of {role:?} of {}", load.tenant),
    );
}

/// Waits until every tenant's clients get answers.
fn everybody_works(loads: &[Load], when: &str) {
    let calls: Vec<u64> = loads.iter().map(|load| load.calls.load(Ordering::Relaxed)).collect();
    let deadline = Instant::now() + DEADLINE;
    for (load, before) in loads.iter().zip(calls) {
        while load.calls.load(Ordering::Relaxed) < before + 3 {
            assert!(Instant::now() < deadline, "{when}: {} does not work", load.tenant);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_killed_role_disturbs_no_other_tenant_and_leaves_nothing() {
    let rounds = amount("TENANTD_SOAK_ROUNDS", 36);
    let home = Home::new();
    for tenant in TENANTS {
        home.tenant(tenant, &puppet_tenant(&[], ""));
    }
    let new = |tenant| Load {
        tenant,
        hits: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        shims: Mutex::default(),
    };
    let loads = TENANTS.map(new);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for each in &loads {
            for _ in 0..2 {
                scope.spawn(|| load(&home, each, &over));
            }
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            everybody_works(&loads, "at the start");
            let mut lots = Lots(17);
            (0..rounds as usize).for_each(|number| round(&home, number, &loads, &mut lots));
        }));
        over.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    for load in &loads {
        let (hits, calls) = (load.hits.load(Ordering::SeqCst), load.calls.load(Ordering::Relaxed));
        println!("{}: {} hits, {calls} calls", load.tenant, hits / 2);
    }
    let stopped = home.run(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(left_after(working_below(home.path()), GONE), Vec::<String>::new());
    let cells = std::fs::read_dir(home.path().join("run/cells")).expect("a directory");
    assert_eq!(cells.count(), 0, "cell sockets are left");
}
