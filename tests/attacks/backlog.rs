//! What strangers left in the backlog of sockets that systemd holds, before there was a supervisor.
//!
//! Such a connection was made before this supervisor could refuse descriptors on it (SO_PASSRIGHTS): what
//! it brings is what every connection can bring where the kernel is older than 6.16.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

use super::*;
use crate::support::{Fuse, Weapon};

/// As systemd.exec(3) passes sockets: from descriptor 3 on, with the pid of who is to have them.
const ACTIVATE: &str = "exec 3<&0 4<&1 </dev/null >/dev/null
LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=session:control exec \"$@\"";

fn listener(path: &Path, kind: SocketType) -> OwnedFd {
    let socket = socket(AddressFamily::UNIX, kind, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("bound");
    listen(&socket, 128).expect("listening");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).expect("chmod");
    socket
}

/// The sockets as systemd holds them, with nobody who accepts.
struct Held {
    session: OwnedFd,
    control: OwnedFd,
}

impl Held {
    fn at(home: &Home) -> Self {
        let run = home.path().join("run");
        std::fs::create_dir(&run).expect("made");
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        Self {
            session: listener(&run.join("session.sock"), SocketType::SEQPACKET),
            control: listener(&run.join("tenantd.sock"), SocketType::STREAM),
        }
    }

    fn start(self, home: &Home) -> Supervisor<'_> {
        let mut command = home.system_command(&["sh", "-c", ACTIVATE, "activate"]);
        command.stdin(Stdio::from(self.session)).stdout(Stdio::from(self.control));
        home.launch(command)
    }
}

/// The ways to bring a weapon to a stream.
#[derive(Debug, Clone, Copy)]
enum Way {
    WithAQuestion,
    WithHalfAMessage,
    BehindAQuestion,
    OutOfBand,
    ThenGone,
}

const WAYS: [Way; 5] = [
    Way::WithAQuestion,
    Way::WithHalfAMessage,
    Way::BehindAQuestion,
    Way::OutOfBand,
    Way::ThenGone,
];

/// Brings a weapon; what stays is to be kept. None where the kernel refused it: then there is none.
fn bring(way: Way, door: &Path, weapon: Weapon) -> (Option<UnixStream>, Option<Fuse>) {
    let mut connection = UnixStream::connect(door).expect("connected");
    let send = |mut connection: &UnixStream, bytes: &[u8], flags| {
        let sent = send_with(connection, bytes, &[weapon.as_fd()], flags);
        // Without its weapon the message is sent all the same.
        sent.map(drop).or_else(|error| connection.write_all(bytes).and(Err(error.into())))
    };
    let sent = match way {
        Way::WithAQuestion | Way::ThenGone => send(&connection, LIST, MsgFlags::empty()),
        Way::WithHalfAMessage => send(&connection, &LIST[..10], MsgFlags::empty()),
        Way::BehindAQuestion => {
            connection.write_all(LIST).expect("sent");
            send(&connection, b"x", MsgFlags::empty())
        }
        Way::OutOfBand => {
            let sent = send(&connection, b"x", MsgFlags::MSG_OOB);
            connection.write_all(LIST).expect("sent");
            sent
        }
    };
    let fuse = weapon.thrown(sent.is_ok());
    ((!matches!(way, Way::ThenGone)).then_some(connection), fuse)
}

type Brought = Vec<(Option<UnixStream>, Option<Fuse>)>;

fn brought(door: &Path, attacker: u32, ways: &[Way]) -> Brought {
    let weapons: Vec<_> = ways.iter().map(|_| Weapon::new()).collect();
    as_user(attacker, attacker, || {
        ways.iter().zip(weapons).map(|(way, weapon)| bring(*way, door, weapon)).collect()
    })
}

#[test]
fn weapons_that_waited_for_the_supervisor_hold_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let held = Held::at(&home);
    let control = brought(&home.path().join("run/tenantd.sock"), attacker, &WAYS);
    assert!(control.iter().all(|(_, fuse)| fuse.is_some()), "nothing refuses them yet");
    let session = home.path().join("run/session.sock");
    let weapons: Vec<_> = (0..20).map(|_| Weapon::new()).collect();
    let _session: Vec<_> = as_user(attacker, attacker, || {
        let throw = |weapon: Weapon| {
            let connection = knock(&session);
            send_with(&connection, OPEN, &[weapon.as_fd()], MsgFlags::empty()).expect("sent");
            (connection, weapon.thrown(true))
        };
        weapons.into_iter().map(throw).collect()
    });
    let arena = Arena::around(&home, attacker, held.start(&home));
    let pulse = arena.pulse();
    pulse.feel(100);
    for _ in 0..5 {
        arena.assert_opens(OTHER);
    }
    pulse.stop("weapons in the backlog");
    arena.assert_serves();
    arena.supervisor.stop();
}

#[test]
fn weapons_brought_to_the_control_door_hold_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    for _ in 0..3 {
        let _brought = arena.surprised(&pulse, || brought(&arena.control_door(), attacker, &WAYS));
        pulse.feel(50);
        arena.assert_opens(OTHER);
    }
    pulse.stop("weapons at the control door");
    arena.assert_serves();
    arena.supervisor.stop();
}

/// Beyond the seats of the control door, and beyond the room for connections that hang.
#[test]
fn more_weapons_than_room_in_the_backlog_of_the_control_door_hold_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let held = Held::at(&home);
    let door = home.path().join("run/tenantd.sock");
    let _brought = brought(&door, attacker, &[Way::ThenGone; 100]);
    let limited = ["prlimit", "--nofile=400:400", "sh", "-c", ACTIVATE, "activate"];
    let mut command = home.system_command(&limited);
    command.stdin(Stdio::from(held.session)).stdout(Stdio::from(held.control));
    let arena = Arena::around(&home, attacker, home.launch(command));
    let pulse = arena.pulse();
    pulse.feel(100);
    arena.assert_opens(OTHER);
    pulse.stop("a backlog of weapons at the control door");
    arena.supervisor.stop();
}
