//! Supervisors that listen and say nothing: a client is told what hangs and what to do, in bounded time.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::refused;
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
    let _silent = as_owner(|| listener(&path));
    own(&path);
    let since = Instant::now();
    let (message, code) = refused(home.connect("acme"));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    assert_eq!(code, Some(69), "{message}");
    let log = home.path().join("log");
    let path = path.display().to_string();
    let log = log.display().to_string();
    for word in ["cannot open a session", &path, "did not answer within 13 s", "kill 4242", &log] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(!message.contains("os error"), "{message}");
}

/// It takes the connection and is gone before it answers.
#[test]
fn a_supervisor_that_ends_before_it_answers_is_named_with_a_way_out() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let path = home.directory("run").join("session.sock");
    let silent = as_owner(|| listener(&path));
    own(&path);
    let ends = std::thread::spawn(move || {
        let connection = rustix::net::accept(&silent).expect("a client");
        let mut asked = [0; 4096];
        let _ = rustix::net::recv(&connection, &mut asked[..], rustix::net::RecvFlags::PEEK);
    });
    let (message, code) = refused(home.connect("acme"));
    ends.join().expect("no panic");
    assert_eq!(code, Some(69), "{message}");
    assert!(message.contains("ended before it answered"), "{message}");
    assert!(message.contains("connect again"), "{message}");
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
