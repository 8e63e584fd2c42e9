//! The supervisor is replaced by the program on disk: sessions, calls and connecting clients never notice,
//! and a program that does not work replaces nothing.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType};
use serde_json::{Value, json};
use support::{
    DEADLINE, Ending, Era, Home, Load, Session, as_owner, as_test_user, documents_tenant,
    door_answer, knock, left_after, own, tenantd, working_below,
};

/// Puts a program in its place as an upgrade does. Copied by another process: what this one holds open
/// for writing the children of other tests inherit for a moment, and then it cannot be executed.
fn place(from: &Path, program: &Path) {
    let new = program.with_extension("new");
    let copied = Command::new("cp").args([from, &new]).status().expect("cp runs");
    assert!(copied.success());
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("chmod");
    own(&new);
    fs::rename(new, program).expect("renamed");
}

/// A copy of the program under test.
fn install(home: &Home) -> PathBuf {
    let program = home.directory("bin").join("tenantd");
    place(tenantd(), &program);
    program
}

fn write_program(home: &Home, program: &Path, text: &str) {
    place(&home.file("text", text), program);
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

/// Whether a process has a thread of this name.
fn has_thread(pid: u32, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.into_iter().any(|comm| comm.trim_end() == name)
}

#[test]
fn who_was_let_in_before_the_doors_closed_is_still_answered() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start_program(&install(&home));
    let early = as_owner(|| knock(&home.path().join("run/session.sock")));
    // Its door thread is there, so that it has been let in.
    let deadline = Instant::now() + DEADLINE;
    while !has_thread(supervisor.pid(), "door") {
        assert!(Instant::now() < deadline, "nobody attends");
    }
    let mut restarting = home.command(&["restart", "--supervisor"]);
    let mut restarting = restarting.stdout(Stdio::null()).spawn().expect("started");
    while has_thread(supervisor.pid(), "porter") {
        assert!(Instant::now() < deadline, "the doors are still open");
    }
    let ask = br#"{"do":"ask","target":"acme"}"#;
    tenantd::sys::send_datagram(&early, ask, &[], SendFlags::empty()).expect("sent");
    assert_eq!(door_answer(&early), Some(json!({"is": "known"})));
    assert!(restarting.wait().expect("ended").success());
    supervisor.stop();
}

#[test]
fn sockets_of_systemd_are_passed_on_and_left_where_they_are() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let run = home.directory("run");
    let listen = |name: &str, kind| {
        as_owner(|| {
            let listener = rustix::net::socket(AddressFamily::UNIX, kind, None).expect("a socket");
            let path = SocketAddrUnix::new(run.join(name)).expect("a path");
            rustix::net::bind(&listener, &path).expect("bound");
            rustix::net::listen(&listener, 128).expect("listening");
            listener
        })
    };
    let session = listen("session.sock", SocketType::SEQPACKET);
    let control = listen("tenantd.sock", SocketType::STREAM);
    let program = install(&home);
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 \
        LISTEN_FDNAMES=session:control exec \"$0\" serve --user";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(&program).env("TENANTD_HOME", home.path());
    as_test_user(&mut command);
    let mut child = command.stdin(session).stdout(control).spawn().expect("started");
    let mut old = home.connect("acme");
    old.open(Era::Modern);
    for _ in 0..2 {
        let (code, said) = restart(&home);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(supervisor_of(&home)["pid"], child.id());
    }
    echo(&mut old, "old");
    assert!(home.run(&["stop"]).status.success());
    assert!(child.wait().expect("ended").success());
    assert!(run.join("session.sock").exists() && run.join("tenantd.sock").exists());
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
    let broken = [
        ("garbage\n", "format"),
        ("#!/bin/sh\necho something else\n", "something else"),
        ("#!/bin/sh\nsleep 60\n", "said nothing within 5 s"),
    ];
    for (text, why) in broken {
        write_program(&home, &program, text);
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
    write_program(&home, &program, "#!/bin/sh\necho tenantd 9.9.9\n");
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
