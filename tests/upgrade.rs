//! The supervisor is replaced by the program on disk: sessions, calls and connecting clients never notice,
//! and a program that does not work replaces nothing.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    Ending, Era, Home, Load, Session, documents_tenant, left_after, own, tenantd, working_below,
};

/// A copy of the program that an upgrade replaces.
fn install(home: &Home) -> PathBuf {
    let bin = home.directory("bin");
    let (new, program) = (bin.join("new"), bin.join("tenantd"));
    fs::copy(tenantd(), &new).expect("copied");
    own(&new);
    fs::rename(new, &program).expect("renamed");
    program
}

fn write_program(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("chmod");
    own(&new);
    fs::rename(new, path).expect("renamed");
}

fn restart(home: &Home) -> (Option<i32>, String) {
    let output = home.run(&["restart", "--supervisor"]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn echo(session: &mut Session, text: &str) {
    let result = session.call("echo", json!({"text": text}));
    assert_eq!(result["content"][0]["text"], text);
}

fn supervisor_of(home: &Home) -> Value {
    home.status()["supervisor"].take()
}

#[test]
fn an_upgrade_under_load_drops_nothing_and_refuses_nobody() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant()).tenant("globex", &documents_tenant());
    let supervisor = home.start_program(&install(&home));
    let (load, connects, over) = (Load::default(), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _end = Ending(&load);
        let callers = [("acme", Era::Modern), ("acme", Era::Legacy), ("globex", Era::Modern)]
            .map(|(target, era)| load.call(scope, home.connect(target), era));
        let (home, connects, over) = (&home, &connects, &over);
        let connector = scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let mut session = home.connect("globex");
                session.open(Era::Modern);
                echo(&mut session, "new");
                assert_eq!(session.close().code(), Some(0));
                connects.fetch_add(1, Ordering::Relaxed);
            }
        });
        let before = supervisor_of(home);
        let muxes =
            || ["acme", "globex"].map(|t| home.tenant_status(t, |_| true)["mux_pid"].clone());
        let (before_muxes, mut instance) = (muxes(), before["instance"].clone());
        for round in 0..5 {
            install(home);
            let (code, said) = restart(home);
            assert_eq!(code, Some(0), "round {round}: {said}");
            assert!(said.contains("was replaced"), "{said}");
            let after = supervisor_of(home);
            assert_eq!(after["pid"], before["pid"], "the same process");
            assert_ne!(after["instance"], instance, "another program in it");
            instance = after["instance"].clone();
            assert_eq!(muxes(), before_muxes, "round {round}");
            load.until_answered(20);
            let (then, deadline) =
                (connects.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(20));
            while connects.load(Ordering::Relaxed) <= then {
                assert!(!connector.is_finished() && Instant::now() < deadline, "round {round}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        over.store(true, Ordering::Relaxed);
        load.end();
        connector.join().expect("every connect");
        for caller in callers {
            assert_eq!(caller.join().expect("a caller").close().code(), Some(0));
        }
    });
    let exe = fs::read_link(format!("/proc/{}/exe", supervisor.pid())).expect("a link");
    assert_eq!(exe, home.path().join("bin/tenantd"), "the newest program runs");
    let left = working_below(&home.path().join("state"));
    supervisor.stop();
    assert!(left_after(left, Duration::ZERO).is_empty());
    assert!(!home.path().join("run/session.sock").exists(), "its own sockets are removed");
}

#[test]
fn a_program_that_does_not_work_replaces_nothing() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let program = install(&home);
    let supervisor = home.start_program(&program);
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    let before = supervisor_of(&home)["instance"].take();
    let broken: [(&[u8], &str); 3] = [
        (b"garbage\n", "format"),
        (b"#!/bin/sh\necho something else\n", "something else"),
        (b"#!/bin/sh\nsleep 60\n", "said nothing within 5 s"),
    ];
    for (bytes, why) in broken {
        write_program(&program, bytes);
        let (code, said) = restart(&home);
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains("does not work") && said.contains(why), "{said}");
        assert_eq!(supervisor_of(&home)["instance"], before);
        echo(&mut session, "goes on");
    }
    fs::remove_file(&program).expect("removed");
    let (code, said) = restart(&home);
    assert_eq!(code, Some(69), "{said}");
    echo(&mut session, "goes on");
    install(&home);
    assert_eq!(restart(&home).0, Some(0));
    echo(&mut session, "replaced");
    supervisor.stop();
}

#[test]
fn a_program_that_cannot_start_leaves_the_sessions_to_the_next_supervisor() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let program = install(&home);
    let supervisor = home.start_program(&program);
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    // It says its version, and that is all it can.
    write_program(&program, b"#!/bin/sh\necho tenantd 9.9.9\n");
    let (code, said) = restart(&home);
    assert_eq!(code, Some(69), "{said}");
    echo(&mut session, "alone");
    supervisor.kill();
    let next = home.start();
    echo(&mut session, "taken over");
    next.stop();
}

#[test]
fn a_killed_supervisor_of_an_upgraded_process_has_a_successor_too() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start_program(&install(&home));
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    assert_eq!(restart(&home).0, Some(0));
    assert_eq!(restart(&home).0, Some(0));
    echo(&mut session, "twice");
    supervisor.kill();
    echo(&mut session, "alone");
    let next = home.start();
    echo(&mut session, "taken over");
    next.stop();
}
