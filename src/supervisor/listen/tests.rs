//! The accept thread over a real socket, with nobody at the loop who answers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType};

use super::*;
use crate::auth::{Directory, Nobodies};
use crate::supervisor::message::{Admission, Handle, Message};

struct Door {
    dir: tempfile::TempDir,
    _porter: Porter,
    inbox: tokio::sync::mpsc::Receiver<Message>,
}

fn socket() -> OwnedFd {
    rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket")
}

fn door() -> Door {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = socket();
    rustix::net::bind(&listener, &address(&dir)).expect("bound");
    rustix::net::listen(&listener, 200).expect("listening");
    let (house, inbox) = Handle::new();
    let attendant = Attendant {
        house,
        directory: Directory::start().expect("a thread"),
        nobodies: Arc::new(Mutex::new(Nobodies { overflow: u32::MAX, reserved: None })),
        parting: Parting::new(),
    };
    Door { dir, _porter: Porter::start(listener, attendant).expect("open"), inbox }
}

fn address(dir: &tempfile::TempDir) -> SocketAddrUnix {
    SocketAddrUnix::new(dir.path().join("door")).expect("an address")
}

/// Asks for a session and waits for nothing.
fn knock(door: &Door) -> OwnedFd {
    let client = socket();
    rustix::net::connect(&client, &address(&door.dir)).expect("connected");
    let (near, _far) = UnixStream::pair().expect("a pair");
    let (other, _other) = UnixStream::pair().expect("a pair");
    let three = [near.as_fd(), other.as_fd(), near.as_fd()];
    // The peers are gone by the time they are looked at; a connected socket stays one.
    let request = br#"{"do":"open","target":"acme","strict":false}"#;
    // Who is refused at once may be refused before this; the answer is there all the same.
    let _ = sys::send_datagram(&client, request, &three, SendFlags::empty());
    client
}

fn answer(client: &OwnedFd) -> Answer {
    let mut buffer = vec![0; 4096];
    let got = sys::receive_datagram(client, &mut buffer, RecvFlags::empty()).expect("an answer");
    serde_json::from_slice(&buffer[..got.bytes]).expect("of the wire")
}

fn refuse(message: Message, word: &str) {
    let Message::Open(ask) = message else { panic!("another message") };
    let refusal = refusal(word, UNAVAILABLE, word, false);
    ask.reply.try_send(Admission::Refused(refusal)).expect("somebody waits");
}

#[test]
fn more_connections_than_seats_wait_for_one() {
    let mut door = door();
    let clients: Vec<_> = (0..20).map(|_| knock(&door)).collect();
    let seated: Vec<_> =
        (0..SEATS.each).map(|_| door.inbox.blocking_recv().expect("asked")).collect();
    assert!(door.inbox.try_recv().is_err(), "nobody else has a seat yet");
    seated.into_iter().for_each(|message| refuse(message, "first"));
    for _ in SEATS.each..20 {
        refuse(door.inbox.blocking_recv().expect("asked"), "later");
    }
    for client in &clients {
        assert!(matches!(answer(client), Answer::Refused(_)));
    }
}

#[test]
fn beyond_those_who_wait_everybody_is_told_so_at_once() {
    let mut door = door();
    let room = SEATS.each + WAITING.each;
    let clients: Vec<_> = (0..room + 3).map(|_| knock(&door)).collect();
    for late in &clients[room as usize..] {
        let Answer::Refused(refusal) = answer(late) else { panic!("opened") };
        assert_eq!(refusal.reason, "busy");
    }
    for _ in 0..room {
        refuse(door.inbox.blocking_recv().expect("asked"), "in turn");
    }
}
