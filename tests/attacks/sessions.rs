//! Descriptors whose last close blocks, sent through the sockets of a session that is open: the tenant's
//! other sessions are served by the same thread.

use std::io::Write;

use super::pipes::{Client, Kind, assert_answers, other_session, puppet_home};
use super::*;
use crate::support::{Fuse, Weapon};

/// Where the weapon comes in.
#[derive(Debug, Clone, Copy)]
enum Through {
    Stdin,
    StdinOutOfBand,
    Stdout,
    Lifeline,
}

const WAYS: [Through; 4] =
    [Through::Stdin, Through::StdinOutOfBand, Through::Stdout, Through::Lifeline];

/// Sends the weapon while the mux cannot look, and drops what was handed over.
fn throw(mux: u32, client: &mut Client, through: Through) -> Fuse {
    let weapon = Weapon::new();
    while_stopped(mux, || {
        let with = [weapon.as_fd()];
        let none = MsgFlags::empty();
        let sent = match through {
            Through::Stdin => send_with(&client.to, b"x", &with, none),
            Through::StdinOutOfBand => send_with(&client.to, b"x", &with, MsgFlags::MSG_OOB),
            Through::Stdout => send_with(client.from.as_ref().expect("open"), b"x", &with, none),
            Through::Lifeline => send_with(&client.lifeline, b"x", &with, none),
        };
        sent.expect("sent");
        client.given.clear();
        // Behind what came out of band, so that it is passed over.
        client.to.write_all(b"\n").expect("sent");
        weapon.thrown(true).expect("sent")
    })
}

#[test]
fn a_weapon_sent_into_a_session_holds_up_no_other() {
    let home = puppet_home();
    let supervisor = home.start();
    let mut other = other_session(&supervisor);
    let status = home.tenant_status("acme", |tenant| tenant["mux_pid"].is_u64());
    let mux = u32::try_from(status["mux_pid"].as_u64().expect("a pid")).expect("a pid");
    for through in WAYS {
        let mut client = Client::open(&home, Kind::Sockets);
        let fuse = throw(mux, &mut client, through);
        for _ in 0..20 {
            assert_answers(&mut other);
        }
        // The client goes with what nobody read.
        drop(client);
        for _ in 0..20 {
            assert_answers(&mut other);
        }
        let mut next = supervisor.connect("acme");
        next.open(Era::Legacy);
        assert_answers(&mut next);
        assert_eq!(next.close().code(), Some(0), "{through:?}");
        drop(fuse);
    }
    supervisor.stop();
}
