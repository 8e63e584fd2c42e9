//! Supervisors that listen and say nothing: a client is told what hangs and what to do, in bounded time.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::refused;
use serde_json::json;

use crate::support::{Home, as_owner, documents_tenant, own};

fn listener(path: &Path) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("an address")).expect("bound");
    listen(&socket, 8).expect("listening");
    socket
}

#[test]
fn a_supervisor_that_does_not_answer_is_named_with_a_way_out() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let run = home.directory("run");
    home.directory("state");
    home.file("state/lock", "4242\n");
    let path = run.join("session.sock");
    let silent = as_owner(|| listener(&path));
    own(&path);
    let since = Instant::now();
    let mut session = home.connect("acme");
    let error = session.initialize(json!({}))["error"].take();
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    session.hang_up();
    // What was sent to it is kept open by its queue, stdout too.
    drop(silent);
    assert_eq!(session.wait().code(), Some(69));
    let message = error["message"].as_str().expect("a refusal");
    assert!(message.len() < 300, "{message}");
    let log = home.path().join("log");
    let path = path.display().to_string();
    let log = log.display().to_string();
    for word in ["cannot open a session", &path, "did not answer within 13 s", "kill 4242", &log] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(!message.contains("os error"), "{message}");
}

/// It takes the connection and is gone before it answers, as one that leaves for want of work just then.
#[test]
fn a_client_whose_supervisor_ends_before_it_answers_gets_a_session_of_the_next() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let path = home.directory("run").join("session.sock");
    let leaving = as_owner(|| listener(&path));
    own(&path);
    let ends = std::thread::spawn(move || {
        let connection = rustix::net::accept(&leaving).expect("a client");
        let mut asked = [0; 4096];
        let flags = rustix::net::RecvFlags::PEEK;
        rustix::net::recv(&connection, &mut asked[..], flags).expect("a question");
    });
    let mut session = home.connect("acme");
    crate::assert_works(&mut session);
    ends.join().expect("no panic");
    session.close();
    assert!(home.run(&["stop"]).status.success());
}

#[test]
fn supervisors_that_end_again_and_again_are_named_with_a_way_out() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let path = home.directory("run").join("session.sock");
    let leaving = as_owner(|| listener(&path));
    own(&path);
    let ends = std::thread::spawn(move || {
        (0..3).for_each(|_| drop(rustix::net::accept(&leaving).expect("a client")));
        leaving
    });
    let (message, code) = refused(home.connect("acme"));
    ends.join().expect("no panic");
    assert_eq!(code, Some(69), "{message}");
    for word in ["cannot open a session", "ended before it answered", "connect again", "log is in"]
    {
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn an_old_socket_at_which_nobody_listens_is_no_obstacle() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let path = home.directory("run").join("session.sock");
    drop(as_owner(|| listener(&path)));
    own(&path);
    let mut session = home.connect("acme");
    crate::assert_works(&mut session);
    session.close();
    assert!(home.run(&["stop"]).status.success());
}
