//! Adoption with somebody else at the other end: muxes that lie, hang or send weapons, and supervisors of
//! another version.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use support::{DEADLINE, Era, Home, Session, as_owner, documents_tenant, knock, own, readable};

/// One thing that a false mux says: a message with its descriptors.
type Word = (Value, Vec<OwnedFd>);

fn hello(wire: u32, tenant: &str) -> Value {
    json!({"say": "hello", "wire": wire, "tenant": tenant, "digest": "x", "start_digest": "x",
        "audit_head": null, "draining": false})
}

fn child(pid: i32) -> Value {
    json!({"child": 1, "server": "main", "pid": pid, "user": null, "state": "running", "era": null,
        "version": null, "sessions": 0, "starts": 1, "last": null, "stderr": [], "age_s": 1})
}

fn inventory(children: &[Value]) -> Value {
    json!({"say": "inventory", "sessions": [], "children": children, "last": true})
}

/// A TCP connection whose close blocks for a minute: what was sent is never read.
fn weapon(kept: &mut Vec<OwnedFd>) -> OwnedFd {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut near =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let far = listener.accept().expect("accepted").0;
    near.set_nonblocking(true).expect("set");
    while near.write(&[0; 65536]).is_ok() {}
    near.set_nonblocking(false).expect("set");
    let linger = libc::linger { l_onoff: 1, l_linger: 60 };
    setsockopt(&near, sockopt::Linger, &linger).expect("set");
    kept.push(far.into());
    kept.push(listener.into());
    near.into()
}

/// A mux that is none, at its own cell socket, made for `tenant`; it says these words when it is adopted,
/// and then waits for the end of the connection.
fn false_mux(home: &Home, number: u32, tenant: &str, words: Vec<Word>) -> JoinHandle<()> {
    let socket = home.path().join(format!("run/cells/{number}.sock"));
    fs::write(socket.with_extension("tenant"), format!("{tenant}\n")).expect("written");
    own(&socket.with_extension("tenant"));
    let listener = as_owner(|| {
        let flags = SocketFlags::CLOEXEC;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let listener = listener.expect("a socket");
        rustix::net::bind(&listener, &SocketAddrUnix::new(&socket).expect("a path"))
            .expect("bound");
        rustix::net::listen(&listener, 4).expect("listening");
        listener
    });
    std::thread::spawn(move || as_owner(|| serve(&listener, words)))
}

fn serve(listener: &OwnedFd, words: Vec<Word>) {
    if !readable(listener, Instant::now() + DEADLINE) {
        return;
    }
    let line = rustix::net::accept(listener).expect("accepted");
    let mut buffer = [0; 4096];
    let (_, count) = rustix::net::recv(&line, &mut buffer[..], RecvFlags::empty()).expect("read");
    let said: Value = serde_json::from_slice(&buffer[..count]).expect("JSON");
    assert_eq!(said, json!({"do": "adopt", "wire": tenantd::wire::VERSION}), "of every version");
    for (word, descriptors) in words {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        // It may have heard enough.
        let sent = tenantd::sys::send_datagram(
            &line,
            word.to_string().as_bytes(),
            &borrowed,
            SendFlags::empty(),
        );
        drop(borrowed);
        // Of a weapon only the copy on the way is left.
        drop(descriptors);
        if sent.is_err() {
            return;
        }
    }
    let _ = rustix::net::recv(&line, &mut buffer[..], RecvFlags::empty());
}

fn cells(home: &Home) -> PathBuf {
    home.path().join("run/cells")
}

fn the_socket(home: &Home) -> PathBuf {
    let mut sockets: Vec<_> = fs::read_dir(cells(home))
        .expect("cells")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "sock"))
        .collect();
    assert_eq!(sockets.len(), 1);
    sockets.remove(0)
}

fn echo(session: &mut Session, text: &str) {
    let result = session.call("echo", json!({"text": text}));
    assert_eq!(result["content"][0]["text"], text);
}

#[test]
fn a_mux_that_lies_or_sends_weapons_neither_stops_nor_blocks_the_next_supervisor() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant()).tenant("globex", &documents_tenant());
    let first = home.start();
    let mut session = home.connect("globex");
    session.open(Era::Modern);
    let before = home.tenant_status("globex", |_| true)["mux_pid"].clone();
    first.kill();
    let mut kept = Vec::new();
    let mut arm = || vec![weapon(&mut kept)];
    let me = i32::try_from(std::process::id()).expect("a pid");
    let other = Pid::from_raw(before.as_i64().expect("a pid") as i32).expect("a pid");
    let pidfd = || vec![pidfd_open(other, PidfdFlags::empty()).expect("a pidfd")];
    let greeting = |tenant| (hello(2, tenant), Vec::new());
    let liars = [
        vec![],
        vec![(json!("garbage"), Vec::new())],
        vec![(json!({"say": "may-leave"}), Vec::new())],
        vec![(hello(99, "acme"), Vec::new())],
        // Another tenant's sessions would be sent to it.
        vec![greeting("globex"), (inventory(&[]), Vec::new())],
        vec![(hello(2, "acme"), arm())],
        vec![greeting("acme"), (inventory(&[child(me)]), arm())],
        vec![greeting("acme"), (inventory(&[]), arm())],
        vec![
            greeting("acme"),
            (json!({"say": "may-leave"}), arm()),
            (json!("garbage"), Vec::new()),
        ],
        // A process of somebody else's, to be killed in its stead.
        vec![greeting("acme"), (inventory(&[child(me)]), pidfd())],
        vec![greeting("acme"), (inventory(&[child(me)]), Vec::new())],
    ];
    let count = liars.len();
    let false_muxes: Vec<_> =
        (100..).zip(liars).map(|(number, words)| false_mux(&home, number, "acme", words)).collect();
    let since = Instant::now();
    let second = home.start();
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    let asked = Instant::now();
    let globex = home.tenant_status("globex", |_| true);
    assert_eq!(globex["mux_pid"], before);
    assert!(home.tenant_status("acme", |_| true)["mux_pid"].is_null(), "none of them was believed");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    echo(&mut session, "globex");
    let mut acme = home.connect("acme");
    acme.open(Era::Modern);
    echo(&mut acme, "acme");
    for number in 100..100 + count {
        assert!(cells(&home).join(format!("{number}.sock")).exists(), "a live one is left alone");
    }
    // The weapons lose their edge: their closing threads must not outlive the test.
    drop(kept);
    second.stop();
    for mux in false_muxes {
        mux.join().expect("no panic");
    }
}

#[test]
fn deserted_cells_are_cleared() {
    let home = Home::new();
    home.directory("run/cells");
    let path = |name: &str| home.path().join("run/cells").join(name);
    drop(false_listener(&path("7.sock")));
    own(&path("7.sock"));
    home.file("run/cells/7.tenant", "acme\n");
    home.file("run/cells/8.tenant", "acme\n");
    home.file("run/cells/note", "");
    let supervisor = home.start();
    for name in ["7.sock", "7.tenant", "8.tenant"] {
        assert!(!path(name).exists(), "{name}");
    }
    assert!(path("note").exists());
    supervisor.stop();
}

fn false_listener(path: &Path) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let listener = listener.expect("a socket");
    rustix::net::bind(&listener, &SocketAddrUnix::new(path).expect("a path")).expect("bound");
    rustix::net::listen(&listener, 1).expect("listening");
    listener
}

/// Says something at a cell socket as its owner; what comes back, if anything.
fn say(socket: &Path, word: &[u8]) -> (OwnedFd, Option<Value>) {
    as_owner(|| {
        let line = knock(socket);
        tenantd::sys::send_datagram(&line, word, &[], SendFlags::empty()).expect("sent");
        let mut buffer = vec![0; 65536];
        let heard = readable(&line, Instant::now() + DEADLINE)
            .then(|| rustix::net::recv(&line, &mut buffer[..], RecvFlags::empty()));
        let count = heard.expect("an answer, or the end").map_or(0, |(_, count)| count);
        (line, (count > 0).then(|| serde_json::from_slice(&buffer[..count]).expect("JSON")))
    })
}

#[test]
fn a_supervisor_of_another_version_gets_a_mux_that_says_who_it_is_and_leaves() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let first = home.start();
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    echo(&mut session, "before");
    let socket = the_socket(&home);
    first.kill();
    let (_line, answer) = say(&socket, br#"{"do":"adopt","wire":99}"#);
    let answer = answer.expect("a Hello");
    assert_eq!(
        (&answer["say"], &answer["wire"]),
        (&json!("hello"), &json!(tenantd::wire::VERSION)),
        "{answer}"
    );
    assert_eq!(session.wait().code(), Some(69));
    assert!(session.stderr().contains("another version"), "{}", session.stderr());
}

#[test]
fn who_knocks_at_a_cell_and_does_not_adopt_disturbs_nobody() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    let socket = the_socket(&home);
    let silent = as_owner(|| knock(&socket));
    for word in [&b"garbage"[..], br#"{"do":"leave"}"#, br#"{"do":"drain"}"#] {
        assert_eq!(say(&socket, word).1, None);
    }
    echo(&mut session, "undisturbed");
    let status = home.tenant_status("acme", |_| true);
    assert_eq!(status["sessions"].as_array().map(Vec::len), Some(1), "{status}");
    drop(silent);
    echo(&mut session, "undisturbed");
    supervisor.stop();
}
