//! A keyring that asks a person, and nobody answers.

use std::process::{Child, Command};
use std::time::Duration;

use tenantd::wire::credential::Trouble;

use crate::role::{account, trouble};
use crate::session::PersonsSession;
use crate::support::wait_until;

/// Holds the name of the desktop's prompter on a bus, and answers nothing: a window that nobody looks at.
struct Window(Child);

impl Window {
    fn open(session: &PersonsSession) -> Self {
        let script = "import socket, sys, os
path = os.environ['DBUS_SESSION_BUS_ADDRESS'].split('=', 1)[1]
bus = socket.socket(socket.AF_UNIX); bus.connect(path)
bus.sendall(b'\\0AUTH EXTERNAL ' + str(os.getuid()).encode().hex().encode() + b'\\r\\n')
assert bus.recv(256).startswith(b'OK'); bus.sendall(b'BEGIN\\r\\n')
def text(s): s = s.encode(); return len(s).to_bytes(4, 'little') + s + b'\\0'
def pad(b, n): return b + b'\\0' * (-len(b) % n)
def call(serial, member, signature, body):
    fields = b''
    for code, kind, value in ((1, 'o', '/org/freedesktop/DBus'), (2, 's', 'org.freedesktop.DBus'),
                              (3, 's', member), (6, 's', 'org.freedesktop.DBus')):
        fields = pad(fields, 8) + bytes([code, 1]) + kind.encode() + b'\\0' + text(value)
    if signature:
        fields = pad(fields, 8) + bytes([8, 1]) + b'g\\0' + bytes([len(signature)]) + signature.encode() + b'\\0'
    head = b'l\\1\\0\\1' + len(body).to_bytes(4, 'little') + serial.to_bytes(4, 'little')
    bus.sendall(pad(head + len(fields).to_bytes(4, 'little') + fields, 8) + body)
call(1, 'Hello', '', b'')
call(2, 'RequestName', 'su', pad(text('org.gnome.keyring.SystemPrompter'), 4) + (0).to_bytes(4, 'little'))
while bus.recv(4096): pass
";
        let child = session.spawn(Command::new("python3").args(["-c", script]), b"");
        wait_until("the window is there", || session.owned("org.gnome.keyring.SystemPrompter"));
        Self(child)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_prompt_that_nobody_answers_ends_with_the_time_and_changes_nothing() {
    let mut session = PersonsSession::unlocked();
    let mut stage = session.stage();
    stage.keep("acme", &account("token"), b"value").expect("kept");
    session.stop_keyring();
    session.start_keyring(false);
    let window = Window::open(&session);
    stage.within = Duration::from_secs(2);
    assert_eq!(trouble(stage.read("acme", &account("token"))), Trouble::TimedOut);
    assert_eq!(trouble(stage.keep("acme", &account("token"), b"new")), Trouble::TimedOut);
    drop(window);
    session.stop_keyring();
    session.start_keyring(true);
    stage.within = crate::role::PLENTY;
    assert_eq!(stage.read("acme", &account("token")), Ok(b"value".to_vec()));
}
