//! Sessions by the thousand: opened and closed, cut off in the middle, left without a word, while servers
//! are killed and the configuration changes. At the end everything is as it was near the beginning, and
//! every call was answered once.
//!
//! `TENANTD_SOAK_SESSIONS` says how many sessions; `tests/soak` runs it for long.

#![allow(missing_docs, reason = "a test binary has no API")]
#![allow(clippy::print_stdout, reason = "what was counted is what a long run is read for")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{DEADLINE, Held, Home, Light, Lots, amount, as_owner, descendants, puppet_tenant};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Clients at once: below the eight seats that one user has at the door.
const CLIENTS: u64 = 6;

/// What one process holds.
#[derive(Debug, Clone, Copy)]
struct Holding {
    descriptors: usize,
    threads: usize,
    /// Anonymous memory, KiB.
    memory: u64,
}

impl Holding {
    fn of(pid: u32) -> Self {
        let count = |what: &str| {
            std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, |entries| entries.count())
        };
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        let memory = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Self { descriptors: count("fd"), threads: count("task"), memory: memory.unwrap_or(0) }
    }
}

fn files_below(root: &Path) -> usize {
    walk(root).len()
}

fn walk(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

/// One client's life: returns how many calls it made.
fn live(door: &Path, lots: &mut Lots) -> u64 {
    let tenant = TENANTS[lots.draw(3)];
    let mut session = match Light::open(door, tenant) {
        Ok(session) => session,
        Err(refusal) => panic!("{tenant} was refused: {refusal}"),
    };
    let manner = lots.draw(10);
    if manner == 0 {
        return 0; // it never said a word
    }
    if !session.initialize() {
        return 0; // its mux was told to end just then
    }
    let calls = 1 + lots.draw(8) as u64;
    for id in 1..=calls {
        let text = format!("{tenant}-{id}");
        session.ask(id, "tools/call", json!({"name": "echo", "arguments": {"text": text}}));
    }
    match manner {
        1 => return calls, // it vanishes with everything in flight
        2 => {
            session.send(b"{\"jsonrpc\":\"2.0\",\"id\":99,\"meth");
            return calls;
        }
        _ => {}
    }
    hear_all(&mut session, tenant, calls);
    session.hang_up();
    while session.next().is_some() {}
    let ended = session.farewell();
    assert!(ended.code == 0, "{tenant}: {ended:?}");
    calls
}

/// Each call is answered once, with its own text or with an error that says why.
fn hear_all(session: &mut Light, tenant: &str, calls: u64) {
    let mut open: BTreeSet<u64> = (1..=calls).collect();
    while !open.is_empty() {
        let message = session.next().expect("no end before the answers");
        let Some(id) = message["id"].as_u64().filter(|_| message.get("method").is_none()) else {
            continue;
        };
        assert!(open.remove(&id), "answered twice or never asked: {message}");
        match message["error"]["code"].as_i64() {
            None => {
                let text = &message["result"]["content"][0]["text"];
                assert_eq!(*text, format!("{tenant}-{id}"), "somebody else's answer");
            }
            Some(code) => assert_eq!(code, 503, "{message}"),
        }
    }
}

/// Kills a server now and then, and changes a tenant's file.
fn disturb(home: &Home, supervisor: u32, over: &AtomicBool) {
    let mut lots = Lots(99);
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(40));
        let servers: Vec<Held> =
            descendants(supervisor).into_iter().filter(|it| it.name == "puppet").collect();
        if !servers.is_empty() && lots.draw(30) == 0 {
            servers[lots.draw(servers.len())].kill();
        }
        if lots.draw(4) == 0 {
            let tenant = TENANTS[lots.draw(3)];
            let quota = format!("[quota]\nsessions = {}\n", 100 + lots.draw(50));
            let value = format!("v{}", lots.draw(2));
            home.tenant(tenant, &format!("{}{quota}", puppet_tenant(&[("CHANGED", &value)], "")));
        }
    }
}

/// Ends the disturbance, also where a client panics: the scope waits for it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs so many sessions, a few at a time.
fn churn(home: &Home, sessions: u64, seed: u64) -> u64 {
    let door = home.path().join("run/session.sock");
    let (left, calls) = (AtomicU64::new(sessions), AtomicU64::new(0));
    let client = |number: u64| {
        let mut lots = Lots(seed * 1000 + number);
        let next = |left: u64| left.checked_sub(1);
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok() {
            calls.fetch_add(live(&door, &mut lots), Ordering::Relaxed);
        }
    };
    let client = &client;
    as_owner(|| {
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || client(number));
            }
        });
    });
    calls.into_inner()
}

/// What the processes hold when everything that ended has been put away: as soon as it is no more than
/// before, or when there was time enough for that.
fn settled(pids: &[u32], before: &[Holding]) -> Vec<Holding> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let held: Vec<_> = pids.iter().map(|pid| Holding::of(*pid)).collect();
        let flat = |(now, then): (&Holding, &Holding)| {
            now.descriptors <= then.descriptors && now.threads <= then.threads
        };
        if held.iter().zip(before).all(flat) || Instant::now() >= deadline {
            return held;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A session of each tenant, so that its mux stays, with the pids of supervisor and muxes.
fn stay(home: &Home, supervisor: u32) -> (Vec<Light>, Vec<u32>) {
    let door = home.path().join("run/session.sock");
    let open = |tenant: &&str| as_owner(|| Light::open(&door, tenant).expect("a session"));
    let sessions = TENANTS.iter().map(open).collect();
    let mux = |tenant: &&str| {
        let status = home.tenant_status(tenant, |tenant| !tenant["mux_pid"].is_null());
        status["mux_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
    };
    (sessions, std::iter::once(supervisor).chain(TENANTS.iter().map(mux)).collect())
}

#[test]
fn after_thousands_of_sessions_everything_is_as_it_was() {
    let sessions = amount("TENANTD_SOAK_SESSIONS", 1500);
    let home = Home::new();
    TENANTS.iter().for_each(|tenant| {
        home.tenant(tenant, &puppet_tenant(&[("CHANGED", "v0")], ""));
    });
    let supervisor = home.start();
    let pid = supervisor.pid();
    let (stayed, pids) = stay(&home, pid);
    let over = AtomicBool::new(false);
    let (before, after) = std::thread::scope(|scope| {
        scope.spawn(|| disturb(&home, pid, &over));
        let _over = Over(&over);
        churn(&home, (sessions / 5).min(1000), 1);
        let before = (settled(&pids, &[]), files_below(home.path()));
        let calls = churn(&home, sessions, 2);
        over.store(true, Ordering::Relaxed);
        println!("{sessions} sessions, {calls} calls");
        let after = (settled(&pids, &before.0), files_below(home.path()));
        (before, after)
    });
    println!("before {before:?}\nafter  {after:?}");
    for (now, then) in after.0.iter().zip(&before.0) {
        // A server that was just killed or is just started has a few descriptors less or more.
        assert!(now.descriptors <= then.descriptors + 8, "descriptors");
        assert!(now.threads <= then.threads, "threads");
        // The allocator keeps some slack; a leak of one small thing a session would be more.
        assert!(now.memory <= then.memory + 512 + sessions / 100, "memory");
    }
    drop(stayed);
    // Rotated logs and a cell's socket may come and go.
    assert!(after.1 <= before.1 + 12, "files: {:?}", walk(home.path()));
    supervisor.stop();
}
