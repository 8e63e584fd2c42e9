//! Cell sockets with somebody else behind them than the tenant's own mux.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;

use super::*;
use crate::support::{DEADLINE, as_user, readable, wait_until};

/// A cell socket of `tenant`, at which `listens` listens and `answers` answers as a mux would.
fn false_mux(
    home: &Home,
    number: u32,
    tenant: &str,
    listens: u32,
    answers: u32,
    child: Option<u32>,
) -> std::thread::JoinHandle<()> {
    let socket = home.path().join(format!("run/cells/{number}.sock"));
    fs::write(socket.with_extension("tenant"), format!("{tenant}\n")).expect("written");
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let listener = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None);
    let listener = listener.expect("a socket");
    rustix::net::bind(&listener, &SocketAddrUnix::new(&socket).expect("a path")).expect("bound");
    let listen = || rustix::net::listen(&listener, 4).expect("listening");
    if listens == 0 {
        listen()
    } else {
        as_user(listens, listens, listen)
    }
    let tenant = tenant.to_owned();
    std::thread::spawn(move || {
        let serve = || serve(&listener, &tenant, child);
        if answers == 0 { serve() } else { as_user(answers, answers, serve) }
    })
}

fn serve(listener: &OwnedFd, tenant: &str, child: Option<u32>) {
    if !readable(listener, Instant::now() + DEADLINE) {
        return;
    }
    let line = rustix::net::accept(listener).expect("accepted");
    // What is said before anybody asked is signed by nobody (unix(7), SO_PASSCRED).
    let _ = rustix::net::recv(&line, &mut [0; 4096][..], RecvFlags::empty());
    let hello = json!({"say": "hello", "wire": tenantd::wire::VERSION, "tenant": tenant, "digest": "x",
        "start_digest": "x", "audit_head": null, "draining": false});
    let line_of = |pid: u32| {
        json!({"child": 1, "server": "main", "pid": pid, "user": null, "state": "running",
            "era": null, "version": null, "sessions": 0, "starts": 1, "last": null, "stderr": [], "age_s": 1})
    };
    let children: Vec<_> = child.into_iter().map(line_of).collect();
    let inventory = json!({"say": "inventory", "sessions": [], "children": children, "last": true});
    let number = child.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let pidfd = number.map(|pid| pidfd_open(pid, PidfdFlags::empty()).expect("it lives"));
    let with: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
    for (word, descriptors) in [(hello, &[][..]), (inventory, &with)] {
        let bytes = word.to_string();
        // It may have heard enough.
        let _ = tenantd::sys::send_datagram(
            line.as_fd(),
            bytes.as_bytes(),
            descriptors,
            SendFlags::empty(),
        );
    }
    // Until it is let go.
    while readable(&line, Instant::now() + DEADLINE) {
        let got = rustix::net::recv(&line, &mut [0; 4096][..], RecvFlags::empty());
        if !matches!(got, Ok((_, 1..))) {
            return;
        }
    }
}

#[test]
fn only_the_tenants_own_mux_is_taken_over() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &granted(&puppet_tenant(&[], "")));
    home.tenant("globex", &granted(&puppet_tenant(&[], "")));
    home.start_system().stop();
    let [server, mux, egress] = uids(&home, "acme");
    let [_, other_mux, _] = uids(&home, "globex");
    let mut threads = Vec::new();
    let cases = [
        (101, server, mux, server),
        (102, mux, mux, mux),
        (103, 0, server, server),
        (104, 0, egress, egress),
        (105, 0, other_mux, other_mux),
        (106, 0, 0, 0),
        (107, 77_777, 77_777, 77_777),
    ];
    for (number, listens, answers, _) in cases {
        threads.push(false_mux(&home, number, "acme", listens, answers, None));
    }
    threads.push(false_mux(&home, 108, "nobody-s", 0, mux, None));
    threads.push(false_mux(&home, 109, "acme", 0, mux, None));
    // It would have a process of root's killed for a server that outlives its mux.
    threads.push(false_mux(&home, 110, "globex", 0, other_mux, Some(std::process::id())));
    let supervisor = home.start_system();
    // It is written down by a thread, in order: what every start says last is there for the second time.
    let written = || log(&home).matches("tenantd serves").count() == 2;
    wait_until("what it says of the cells is in its log", written);
    let log = log(&home);
    for (number, .., told) in cases {
        let line = log.lines().find(|line| line.contains(&format!("cell={number}")));
        let line = line.unwrap_or_else(|| panic!("{number}: {log}"));
        assert!(line.contains(&format!("uid {told} ")), "{line}");
    }
    assert!(log.lines().any(|line| line.contains("cell=108")), "of no tenant: {log}");
    let lies = |line: &str| line.contains("cell=110") && line.contains("not its child's");
    assert!(log.lines().any(lies), "a child of root's: {log}");
    // Who is right in this is asked for more: where there are control groups it is in none of the tenant's.
    let right = |line: &str| {
        line.contains("was taken over")
            || line.contains("cell=109") && line.contains("control group")
    };
    assert_eq!(log.lines().filter(|line| right(line)).count(), 1, "{log}");
    // It is this very process, which the supervisor must not wait for.
    supervisor.kill();
    for thread in threads {
        thread.join().expect("a false mux");
    }
}
