//! Connections that begin and do not go on: their seats are free again after five seconds.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;
use crate::support::{readable, threads, wait_until};

/// What a connection has to say what it wants, and what a loaded machine needs beyond.
const PATIENCE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(4);
/// Connections of one user at a time at the control door.
const CONTROL_SEATS: usize = 16;

fn is_over(connection: &mut UnixStream, within: Duration) -> bool {
    readable(&*connection, Instant::now() + within)
        && matches!(connection.read(&mut [0; 64]), Ok(0) | Err(_))
}

#[test]
fn half_a_message_at_the_control_door_keeps_its_seat_for_five_seconds() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    let begun = Instant::now();
    // Nothing, half a message, half a second message, a trickle.
    let says: [&[u8]; 4] = [b"", &LIST[..20], &[LIST, &LIST[..20]].concat(), b"x"];
    let mut all: Vec<UnixStream> = arena.as_attacker(|| {
        let connect = |at: usize| {
            let mut connection = UnixStream::connect(arena.control_door()).expect("connected");
            connection.write_all(says[at % says.len()]).expect("sent");
            connection
        };
        (0..CONTROL_SEATS).map(connect).collect()
    });
    pulse.feel(50);
    // A whole question was answered.
    let mut answer = [0; 4096];
    assert!(
        readable(&all[2], Instant::now() + PROMPT) && all[2].read(&mut answer).expect("read") > 0
    );
    for second in all.iter_mut().skip(6).step_by(4) {
        assert!(readable(&*second, Instant::now() + PROMPT));
        assert!(second.read(&mut answer).expect("an answer") > 0);
    }
    // No seat is left for the attacker: the next is turned away at once.
    let mut next =
        arena.as_attacker(|| UnixStream::connect(arena.control_door()).expect("connected"));
    assert!(is_over(&mut next, PATIENCE / 2), "there were more seats");
    arena.assert_opens(OTHER);
    // The trickle goes on, and is no help.
    let mut trickle = all.split_off(CONTROL_SEATS - 1).remove(0);
    while begun.elapsed() < PATIENCE + SLACK && trickle.write_all(b"x").is_ok() {
        pulse.feel(10);
    }
    let taken = begun.elapsed();
    assert!(taken < PATIENCE + SLACK, "the trickle was waited for: {taken:?}");
    for connection in &mut all {
        let left = (PATIENCE + SLACK).saturating_sub(begun.elapsed());
        assert!(is_over(connection, left), "a seat is kept");
    }
    let mut asks =
        arena.as_attacker(|| UnixStream::connect(arena.control_door()).expect("connected"));
    asks.write_all(LIST).expect("sent");
    assert!(readable(&asks, Instant::now() + PROMPT) && asks.read(&mut answer).expect("read") > 0);
    pulse.stop("half messages at the control door");
    arena.supervisor.stop();
}

#[test]
fn silence_at_the_session_door_keeps_its_seat_for_five_seconds() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    let begun = Instant::now();
    let silent = arena.silent(SEATS);
    wait_until("all seats", || threads(arena.supervisor.pid(), "door") == SEATS);
    for _ in 0..10 {
        arena.assert_opens(OTHER);
    }
    for connection in &silent {
        let answer = crate::support::door_answer(connection).expect("an answer");
        assert!(answer["message"].to_string().contains("within 5 seconds"), "{answer}");
    }
    let taken = begun.elapsed();
    assert!((PATIENCE..PATIENCE + SLACK).contains(&taken), "{taken:?}");
    arena.assert_opens(attacker);
    pulse.stop("silence at the session door");
    arena.supervisor.stop();
}
