//! Connections of strangers, attended by real threads over real sockets.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use tokio::sync::mpsc;

use super::*;
use crate::names::{ServerName, SessionId, TenantId};
use crate::supervisor::message::{Message, Returned, Slip};
use crate::wire::{Holder, ToMux};

struct Stage {
    attendant: Attendant,
    inbox: Option<mpsc::Receiver<Message>>,
}

fn stage() -> Stage {
    let (house, inbox) = Handle::new();
    let attendant = Attendant {
        house,
        directory: Directory::start().expect("a thread"),
        nobodies: Arc::new(Mutex::new(Nobodies { overflow: u32::MAX, reserved: None })),
        parting: Parting::new(),
    };
    Stage { attendant, inbox: Some(inbox) }
}

fn sockets() -> [OwnedFd; 3] {
    // The far ends may close: only what is handed over is looked at, and its peer is still known.
    std::array::from_fn(|_| {
        let (near, far) = UnixStream::pair().expect("a pair");
        std::mem::forget(far);
        near.into()
    })
}

/// Sends a request, and takes what the door thread answers.
fn asked(attendant: &Attendant, request: &[u8], descriptors: &[OwnedFd]) -> Answer {
    let (near, far) = sys::seqpacket_pair().expect("a pair");
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    sys::send_datagram(&far, request, &descriptors, SendFlags::empty()).expect("sent");
    attendant.attend(near);
    let mut buffer = vec![0; DOOR_DATAGRAM];
    let got = sys::receive_datagram(&far, &mut buffer, RecvFlags::empty()).expect("an answer");
    serde_json::from_slice(&buffer[..got.bytes]).expect("of the wire")
}

fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

const OPEN: &[u8] = br#"{"do":"open","target":"acme","strict":false}"#;

#[test]
fn what_is_no_request_is_refused_in_clear_words() {
    let stage = stage();
    let long = [OPEN, &vec![b' '; DOOR_DATAGRAM]].concat();
    let cases: [(&[u8], &str); 5] = [
        (b"{\"do\":", "not understood"),
        (br#"{"do":"open","target":"acme","strict":false,"uid":0}"#, "unknown field"),
        (br#"{"do":"credential"}"#, "not understood"),
        (br#"{"do":"open","target":"../x","strict":false}"#, "not a tenant id"),
        (&long, "at most 4096 bytes"),
    ];
    for (request, words) in cases {
        let refusal = refused(asked(&stage.attendant, request, &sockets()));
        assert!(refusal.message.contains(words), "{}", refusal.message);
        assert_eq!(refusal.code, USAGE);
    }
}

#[test]
fn two_or_four_descriptors_are_refused_and_more_do_no_harm() {
    let stage = stage();
    for count in [0, 2, 4, 20] {
        let many: Vec<_> = (0..count).flat_map(|_| sockets()).take(count).collect();
        let refusal = refused(asked(&stage.attendant, OPEN, &many[..count.min(sys::DESCRIPTORS)]));
        assert!(refusal.message.contains("3 descriptors"), "{}", refusal.message);
    }
}

#[test]
fn our_own_servers_are_refused_before_anything_is_asked() {
    let stage = stage();
    let me = nix::unistd::geteuid().as_raw();
    *stage.attendant.nobodies.lock().expect("whole") =
        Nobodies { overflow: u32::MAX, reserved: Some((me, me)) };
    let refusal = refused(asked(&stage.attendant, OPEN, &sockets()));
    assert_eq!((refusal.code, refusal.reason.as_str()), (NO_PERMISSION, "reserved-uid"));
}

#[test]
fn without_a_loop_the_door_says_so_at_once() {
    let mut stage = stage();
    drop(stage.inbox.take());
    let refusal = refused(asked(&stage.attendant, OPEN, &sockets()));
    assert_eq!((refusal.code, refusal.reason.as_str()), (UNAVAILABLE, "stopping"));
}

fn returned() -> Returned {
    let (tenant, session) = (TenantId::parse("acme").expect("an id"), SessionId(7));
    Returned { tenant, cell: 1, session, sent: false }
}

/// Answers each question with leave to send to the next of these; returns where the slips come back.
fn agree(
    mut inbox: mpsc::Receiver<Message>,
    lines: impl IntoIterator<Item = OwnedFd>,
) -> mpsc::Receiver<Returned> {
    let (back, slips) = mpsc::channel(2);
    let lines: Vec<_> = lines.into_iter().collect();
    std::thread::spawn(move || {
        for line in lines {
            let Some(Message::Open(ask)) = inbox.blocking_recv() else { panic!("nobody asked") };
            let server = ServerName::main();
            let (groups, permissions) = (Vec::new(), Vec::new());
            let holder = Holder { uid: 1, gid: 1, groups, user: "u".into(), permissions };
            let Returned { tenant, session, .. } = returned();
            let open = ToMux::Open { session, server: server.clone(), holder, strict: false };
            let slip = Slip { back: back.clone(), returned: returned() };
            let line = Arc::new(line);
            let pass = Pass { line, open, tenant, server, session, slip };
            ask.reply.try_send(Admission::Pass(Box::new(pass))).expect("somebody waits");
        }
    });
    slips
}

#[test]
fn after_a_yes_the_mux_gets_three_descriptors_and_the_slip_comes_back() {
    let mut stage = stage();
    let (line, mux) = sys::seqpacket_pair().expect("a pair");
    let mut slips = agree(stage.inbox.take().expect("there"), [line]);
    let answer = asked(&stage.attendant, OPEN, &sockets());
    assert!(matches!(answer, Answer::Open { session: SessionId(7), .. }), "{answer:?}");
    let mut buffer = vec![0; 4096];
    let got = sys::receive_datagram(&mux, &mut buffer, RecvFlags::empty()).expect("a session");
    assert_eq!(got.descriptors.len(), 3);
    assert!(matches!(serde_json::from_slice(&buffer[..got.bytes]), Ok(ToMux::Open { .. })));
    assert!(slips.blocking_recv().expect("a slip").sent);
}

#[test]
fn where_a_mux_has_just_died_the_client_comes_to_the_next_one() {
    let mut stage = stage();
    let ((dead, gone), (line, mux)) =
        (sys::seqpacket_pair().expect("a pair"), sys::seqpacket_pair().expect("a pair"));
    drop(gone);
    let mut slips = agree(stage.inbox.take().expect("there"), [dead, line]);
    let answer = asked(&stage.attendant, OPEN, &sockets());
    assert!(matches!(answer, Answer::Open { session: SessionId(7), .. }), "{answer:?}");
    let got = sys::receive_datagram(&mux, &mut [0; 4096], RecvFlags::empty()).expect("a session");
    assert_eq!(got.descriptors.len(), 3);
    assert!(!slips.blocking_recv().expect("a slip").sent);
    assert!(slips.blocking_recv().expect("a slip").sent);
}
