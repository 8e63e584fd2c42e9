//! The two doors of a supervisor, and what strangers bring to them.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use support::{
    DEADLINE, Era, Home, Supervisor, Thing, as_owner, ask_door, documents_tenant, door_answer,
    knock, readable,
};

fn home() -> Home {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    home
}

fn door(home: &Home) -> PathBuf {
    home.path().join("run/session.sock")
}

const OPEN: &[u8] = br#"{"do":"open","target":"acme","strict":false}"#;

/// What the door answers to a session opened with these things.
fn open_with(home: &Home, things: &[Thing]) -> Value {
    let scratch = home.directory("scratch");
    as_owner(|| {
        let mut kept: Vec<OwnedFd> = Vec::new();
        let with: Vec<_> = things.iter().map(|thing| thing.make(&scratch, &mut kept)).collect();
        ask_door(&door(home), OPEN, &with).expect("an answer")
    })
}

/// The supervisor still does what it is for.
fn assert_serves(supervisor: &Supervisor<'_>) {
    let mut session = supervisor.connect("acme");
    session.open(Era::Modern);
    let result = session.call("echo", json!({"text": "well"}));
    assert_eq!(result["content"][0]["text"], "well");
    session.close();
}

#[test]
fn three_good_descriptors_open_a_session() {
    use Thing::{BothEnds, ReadEnd, Socket, WriteEnd};
    let home = home();
    let supervisor = home.start();
    for good in
        [[ReadEnd, WriteEnd, Socket], [Socket, Socket, Socket], [BothEnds, BothEnds, Socket]]
    {
        let answer = open_with(&home, &good);
        assert_eq!(answer["is"], "open", "{good:?}: {answer}");
        assert_eq!(answer["tenant"], "acme");
    }
    supervisor.stop();
}

#[test]
fn every_other_descriptor_is_refused_by_name() {
    use Thing::*;
    let home = home();
    let supervisor = home.start();
    let cases: [(&[Thing], &str); 24] = [
        (&[], "3 descriptors"),
        (&[ReadEnd, WriteEnd], "3 descriptors"),
        (&[ReadEnd, WriteEnd, Socket, Socket], "3 descriptors"),
        (&[WriteEnd, WriteEnd, Socket], "stdin is the write end"),
        (&[ReadEnd, ReadEnd, Socket], "stdout is the read end"),
        (&[ReadEnd, WriteEnd, ReadEnd], "lifeline is a pipe"),
        (&[Fifo, WriteEnd, Socket], "FIFO"),
        (&[ReadEnd, Fifo, Socket], "FIFO"),
        (&[RegularFile, WriteEnd, Socket], "regular file"),
        (&[ReadEnd, RegularFile, Socket], "regular file"),
        (&[ReadEnd, WriteEnd, Datagrams], "socket"),
        (&[Listener, WriteEnd, Socket], "socket"),
        (&[Inet, WriteEnd, Socket], "socket"),
        (&[ReadEnd, Null, Directory], "device"),
        (&[ReadEnd, Memfd, Socket], "file"),
        (&[Directory, WriteEnd, Socket], "stdin is a directory"),
        (&[ReadEnd, WriteEnd, Directory], "lifeline is a directory"),
        (&[PathOnly, WriteEnd, Socket], "stdin is a path that is not opened (O_PATH)"),
        (&[ReadEnd, PathOnly, Socket], "stdout is a path that is not opened (O_PATH)"),
        (&[Epoll, WriteEnd, Socket], "stdin is something else"),
        (&[ReadEnd, Event, Socket], "stdout is something else"),
        (&[ReadEnd, WriteEnd, Epoll], "lifeline is something else"),
        (&[Datagrams, WriteEnd, Socket], "stdin is another kind of socket"),
        (&[ReadEnd, Unconnected, Socket], "stdout is another kind of socket"),
    ];
    for (things, says) in cases {
        let answer = open_with(&home, things);
        let message = answer["message"].as_str().unwrap_or_else(|| panic!("{things:?}: {answer}"));
        assert!(message.contains(says), "{things:?}: {message}");
        assert!(message.len() < 300, "{things:?}: {message}");
    }
    assert_serves(&supervisor);
    supervisor.stop();
}

#[test]
fn a_question_is_answered_and_opens_nothing() {
    let home = home();
    home.tenant("asleep", &format!("status = \"suspended\"\n{}", documents_tenant()));
    let supervisor = home.start();
    let ask = |target: Value, with: &[Thing]| {
        let asked = json!({"do": "ask", "target": target}).to_string();
        let scratch = home.directory("scratch");
        as_owner(|| {
            let mut kept = Vec::new();
            let with: Vec<_> = with.iter().map(|thing| thing.make(&scratch, &mut kept)).collect();
            ask_door(&door(&home), asked.as_bytes(), &with).expect("an answer")
        })
    };
    for known in ["acme", "acme/main", "asleep"] {
        assert_eq!(ask(json!(known), &[])["is"], "known", "{known}");
    }
    let unknown = ask(json!("nosuch"), &[]);
    assert_eq!((&unknown["is"], &unknown["elsewhere"]), (&json!("refused"), &json!(true)));
    let nothing_named = ask(Value::Null, &[]);
    assert_eq!(nothing_named["is"], "known", "{nothing_named}");
    let bad = ask(json!("../acme"), &[]);
    assert_eq!((&bad["is"], &bad["code"]), (&json!("refused"), &json!(64)), "{bad}");
    use Thing::{Null, ReadEnd, Socket, WriteEnd};
    for with in [&[Socket][..], &[ReadEnd, WriteEnd, Socket], &[Null]] {
        let refused = ask(json!("acme"), with);
        assert_eq!(refused["is"], "refused", "{with:?}: {refused}");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains("no descriptors")));
    }
    let status = home.status();
    let in_use = |tenant: &Value| !tenant["mux_pid"].is_null();
    assert!(!status["tenants"].as_array().expect("tenants").iter().any(in_use), "{status}");
    supervisor.stop();
}

#[test]
fn a_datagram_that_is_no_request_is_refused() {
    let home = home();
    let supervisor = home.start();
    let long = vec![b' '; 5000];
    let requests: [&[u8]; 7] = [
        b"{",
        b"\xff",
        b"[]",
        br#"{"do":"open"}"#,
        br#"{"do":"open","target":"acme","strict":false,"command":"/bin/sh"}"#,
        br#"{"do":"spawn","target":"acme"}"#,
        &long,
    ];
    for request in requests {
        let answer = as_owner(|| ask_door(&door(&home), request, &[])).expect("an answer");
        assert_eq!(answer["is"], "refused", "{}: {answer}", String::from_utf8_lossy(request));
        assert_eq!(answer["code"], 64, "{answer}");
    }
    assert_serves(&supervisor);
    supervisor.stop();
}

#[test]
fn silence_at_the_door_is_ended_and_delays_nobody() {
    let home = home();
    let supervisor = home.start();
    let silent = as_owner(|| knock(&door(&home)));
    let since = Instant::now();
    assert_serves(&supervisor);
    assert!(since.elapsed().as_secs() < 4, "the silent one held the door");
    let answer = door_answer(&silent).expect("an answer");
    assert_eq!(answer["is"], "refused", "{answer}");
    // One that says nothing and goes is no event at all.
    drop(as_owner(|| knock(&door(&home))));
    assert_serves(&supervisor);
    supervisor.stop();
}

#[test]
fn more_silent_connections_than_seats_end_by_themselves() {
    let home = home();
    let supervisor = home.start();
    let silent: Vec<_> = as_owner(|| (0..40).map(|_| knock(&door(&home))).collect());
    for door in &silent {
        // Refused at once for want of a seat, or after its time.
        assert!(readable(door, Instant::now() + DEADLINE), "nobody ended it");
    }
    assert_serves(&supervisor);
    supervisor.stop();
}

#[test]
fn what_is_no_varlink_is_cut_off_at_the_control_door() {
    let home = home();
    let supervisor = home.start();
    let control = home.path().join("run/tenantd.sock");
    let call = |bytes: &[u8]| {
        as_owner(|| {
            let mut stream = UnixStream::connect(&control).expect("connected");
            // Cut off in the middle of the writing is as good as after it.
            let _ = stream.write_all(bytes);
            let mut answer = Vec::new();
            assert!(readable(&stream, Instant::now() + DEADLINE), "nothing, not even an end");
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).unwrap_or(0);
            answer.extend_from_slice(&chunk[..count]);
            answer
        })
    };
    let large =
        [br#"{"method":"io.tenantd.Supervisor.Status","x":""#.as_slice(), &[b'x'; 70_000]].concat();
    assert!(call(&large).is_empty(), "70 KB were answered");
    call(b"no json\0");
    let status = call(b"{\"method\":\"io.tenantd.Supervisor.Status\"}\0");
    assert!(
        String::from_utf8_lossy(&status).contains("acme"),
        "{}",
        String::from_utf8_lossy(&status)
    );
    assert_serves(&supervisor);
    supervisor.stop();
}

#[test]
fn half_a_message_at_the_control_door_delays_nobody() {
    let home = home();
    let supervisor = home.start();
    let control = home.path().join("run/tenantd.sock");
    let mut half: Vec<_> =
        as_owner(|| (0..5).map(|_| UnixStream::connect(&control).expect("connected")).collect());
    for stream in &mut half {
        stream.write_all(b"{\"method\":\"io.tenantd").expect("written");
    }
    let status = home.run(&["status", "--json"]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert_serves(&supervisor);
    supervisor.stop();
}

#[test]
fn another_user_cannot_learn_whether_a_tenant_exists() {
    if !nix::unistd::geteuid().is_root() || std::env::var_os("TENANTD_TEST_USER").is_none() {
        eprintln!("SKIPPED: only root can be two users (run tests/run as root)");
        return;
    }
    let home = home();
    let supervisor = home.start();
    // Opened wide, as the sockets of a system supervisor are: identity decides, not the file's mode.
    for path in ["", "run", "run/session.sock"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(home.path().join(path), mode).expect("chmod");
    }
    let nobody = |target: &str| {
        let asked = json!({"do": "ask", "target": target}).to_string();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                rustix::thread::set_thread_groups(&[]).expect("groups");
                rustix::thread::set_thread_uid(rustix::thread::Uid::from_raw(65_533)).expect("uid");
                ask_door(&door(&home), asked.as_bytes(), &[]).expect("an answer")
            });
            thread.join().expect("no panic in there")
        })
    };
    let (there, not_there) = (nobody("acme"), nobody("nonesuch"));
    assert_eq!(there["is"], "refused", "{there}");
    let blank = |answer: &Value, name: &str| answer.to_string().replace(name, "NAME");
    assert_eq!(blank(&there, "acme"), blank(&not_there, "nonesuch"));
    supervisor.stop();
}
