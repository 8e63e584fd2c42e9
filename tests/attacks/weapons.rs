//! Descriptors whose last close blocks (SO_LINGER with unsent data), at the session door: as one of the
//! three, as a fourth, where they do not fit, and where nobody reads them.

use super::*;
use crate::support::{Fuse, Weapon, door_answer, open_descriptors, threads, wait_until};

/// More weapons than descriptors are looked at.
const MANY: usize = 20;
/// Connections of one user that may wait to be closed, with [`FEW`] descriptors: an eighth of them.
const ROOM: usize = 50;
const FEW: &str = "--nofile=400:400";

/// A connection that brings a weapon, and what keeps it loaded.
struct Thrown {
    connection: OwnedFd,
    fuse: Fuse,
}

impl Arena<'_> {
    /// As many connections with a weapon each, all of them there at the same moment.
    fn throw_weapons(
        &self,
        pulse: &Pulse,
        count: usize,
        bytes: &[u8],
        place: usize,
        things: &[Thing],
    ) -> Vec<Thrown> {
        let weapons: Vec<_> = (0..count).map(|_| Weapon::new()).collect();
        let mut kept = Vec::new();
        let nowhere = PathBuf::new();
        let things: Vec<_> = things.iter().map(|thing| thing.make(&nowhere, &mut kept)).collect();
        let throw = |weapon: Weapon| {
            let connection = knock(&self.session_door());
            let mut with: Vec<_> = things.iter().map(|thing| thing.as_fd()).collect();
            with.insert(place, weapon.as_fd());
            send_with(&connection, bytes, &with, MsgFlags::empty()).expect("sent");
            Thrown { connection, fuse: weapon.thrown(true).expect("sent") }
        };
        self.surprised(pulse, || self.as_attacker(|| weapons.into_iter().map(throw).collect()))
    }

    /// Fails if the weapons that hang in `count` door threads hold up anybody else: another user, the
    /// attacker's own free seats, or the loop.
    #[track_caller]
    fn assert_only_they_wait(&self, pulse: &Pulse, thrown: &[Thrown]) {
        wait_until("the weapons hang", || threads(self.supervisor.pid(), "door") >= thrown.len());
        pulse.feel(100);
        self.assert_opens(OTHER);
        self.assert_opens(self.attacker);
        let hanging = threads(self.supervisor.pid(), "door");
        assert!(hanging >= thrown.len(), "{hanging} hang: these are no weapons");
    }

    /// Unloads the weapons; each connection gets its answer after all.
    fn unload(&self, thrown: Vec<Thrown>, says: &str) {
        for Thrown { connection, fuse } in thrown {
            drop(fuse);
            let answer = door_answer(&connection).expect("an answer");
            let message = answer["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
            assert!(message.contains(says), "{message}");
        }
        wait_until("no thread is left", || threads(self.supervisor.pid(), "door") == 0);
    }
}

#[test]
fn a_weapon_among_the_three_or_beside_them_holds_up_its_own_connection_only() {
    use Thing::{ReadEnd, Socket, WriteEnd};
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    let places: [(usize, &[Thing], &str); 4] = [
        (0, &[WriteEnd, Socket], "stdin is another kind of socket"),
        (1, &[ReadEnd, Socket], "stdout is another kind of socket"),
        (2, &[ReadEnd, WriteEnd], "lifeline is another kind of socket"),
        (3, &[ReadEnd, WriteEnd, Socket], "3 descriptors"),
    ];
    for (place, things, says) in places {
        let thrown = arena.throw_weapons(&pulse, 1, OPEN, place, things);
        arena.assert_only_they_wait(&pulse, &thrown);
        arena.unload(thrown, says);
    }
    pulse.stop("a weapon in a request");
    arena.assert_serves();
    arena.supervisor.stop();
}

#[test]
fn a_weapon_that_does_not_fit_or_is_not_asked_for_holds_up_its_own_connection_only() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    let long = [OPEN, &vec![b' '; 5000]].concat();
    let many = vec![Thing::Socket; MANY];
    let cases: [(&[u8], usize, &[Thing], &str); 5] = [
        (&long, 0, &[], "at most 4096 bytes"),
        (OPEN, MANY, &many, "at most 4096 bytes with 3 descriptors"),
        (b"{", 0, &[], "not understood"),
        (br#"{"do":"ask","target":"acme"}"#, 0, &[], "needs no descriptors"),
        (br#"{"do":"open","target":"../x","strict":false}"#, 0, &[], "3 descriptors"),
    ];
    for (bytes, place, things, says) in cases {
        let thrown = arena.throw_weapons(&pulse, 1, bytes, place, things);
        arena.assert_only_they_wait(&pulse, &thrown);
        arena.unload(thrown, says);
    }
    pulse.stop("a weapon that does not fit");
    arena.assert_serves();
    arena.supervisor.stop();
}

#[test]
fn weapons_in_every_seat_of_one_user_leave_the_seats_of_others_free() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    let thrown = arena.throw_weapons(&pulse, SEATS, OPEN, 0, &[]);
    wait_until("all seats", || threads(arena.supervisor.pid(), "door") == SEATS);
    let mine = arena.throw(br#"{"do":"ask","target":"acme"}"#, &[]);
    for _ in 0..20 {
        arena.assert_opens(OTHER);
    }
    pulse.feel(100);
    wait_until("only they are left", || threads(arena.supervisor.pid(), "door") == SEATS);
    arena.unload(thrown, "3 descriptors");
    let answer = door_answer(&mine).expect("its turn came");
    assert!(["known", "refused"].contains(&answer["is"].as_str().expect("a word")), "{answer}");
    pulse.stop("weapons in every seat");
    arena.supervisor.stop();
}

/// The clients go; what they sent stays.
fn gone(thrown: Vec<Thrown>) -> Vec<Fuse> {
    thrown.into_iter().map(|thrown| thrown.fuse).collect()
}

/// What is sent and never received is dropped with the connection, by whoever closes that.
#[test]
fn a_weapon_left_unread_holds_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    // Behind a question that is answered: closed by a door thread, with the second datagram unread.
    let weapon = Weapon::new();
    let fuse = arena.surprised(&pulse, || {
        arena.as_attacker(|| {
            let connection = knock(&arena.session_door());
            let ask = br#"{"do":"ask","target":"acme"}"#;
            send_with(&connection, ask, &[], MsgFlags::empty()).expect("sent");
            send_with(&connection, b"x", &[weapon.as_fd()], MsgFlags::empty()).expect("sent");
            weapon.thrown(true)
        })
    });
    wait_until("it hangs", || threads(arena.supervisor.pid(), "door") == 1);
    pulse.feel(20);
    arena.assert_opens(OTHER);
    drop(fuse);
    wait_until("no thread is left", || threads(arena.supervisor.pid(), "door") == 0);
    // Without a seat: turned away, and the client is gone before that.
    let _silent = arena.silent(SEATS + CHAIRS);
    let fuses = gone(arena.throw_weapons(&pulse, 10, OPEN, 0, &[]));
    wait_until("one hangs", || threads(arena.supervisor.pid(), "parting") == 1);
    pulse.feel(100);
    for _ in 0..5 {
        arena.assert_opens(OTHER);
    }
    assert_eq!(threads(arena.supervisor.pid(), "parting"), 1, "one thread for all of one user's");
    drop(fuses);
    pulse.stop("weapons left unread");
    arena.assert_serves();
    arena.supervisor.stop();
}

/// So few descriptors that the room for connections that hang is small: what comes beyond it.
#[test]
fn more_connections_that_hang_than_there_is_room_for_hold_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &["prlimit", FEW]);
    let pulse = arena.pulse();
    let before = open_descriptors(arena.supervisor.pid());
    let _silent = arena.silent(SEATS + CHAIRS);
    let fuses = gone(arena.throw_weapons(&pulse, 100, OPEN, 0, &[]));
    pulse.feel(100);
    for _ in 0..5 {
        arena.assert_opens(OTHER);
    }
    let most = before + SEATS + CHAIRS + ROOM + 8;
    wait_until("what does not fit is closed", || open_descriptors(arena.supervisor.pid()) <= most);
    drop(fuses);
    pulse.stop("more weapons than room");
    arena.assert_serves();
    arena.supervisor.stop();
}
