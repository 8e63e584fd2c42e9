//! The Secret Service of a person's session: a real GNOME Keyring on a real bus.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use tenantd::wire::credential::Trouble;

use crate::role::{account, of_user, trouble};
use crate::session::{PersonsSession, holds};
use crate::support::own;

#[test]
fn a_secret_is_there_again_also_after_the_person_was_away() {
    let mut session = PersonsSession::unlocked();
    let stage = session.stage();
    let value = b"planted\0value\xff\n";
    assert_eq!(trouble(stage.read("acme", &account("token"))), Trouble::Missing);
    assert_eq!(stage.keep("acme", &account("token"), value), Ok(()));
    assert_eq!(stage.keep("acme", &of_user("token", "alice"), b"alice's own"), Ok(()));
    assert_eq!(stage.keep("globex", &account("token"), b"globex's"), Ok(()));
    assert_eq!(stage.read("acme", &account("token")), Ok(value.to_vec()));
    session.stop_keyring();
    session.start_keyring(true);
    assert_eq!(stage.read("acme", &account("token")), Ok(value.to_vec()));
    assert_eq!(stage.keep("acme", &account("token"), b"another"), Ok(()));
    assert_eq!(stage.read("acme", &account("token")), Ok(b"another".to_vec()));
    assert_eq!(stage.forget("acme", &account("token")), Ok(()));
    assert_eq!(stage.forget("acme", &account("token")), Ok(()));
    assert_eq!(trouble(stage.read("acme", &account("token"))), Trouble::Missing);
    assert_eq!(stage.read("acme", &of_user("token", "alice")), Ok(b"alice's own".to_vec()));
    assert_eq!(stage.read("globex", &account("token")), Ok(b"globex's".to_vec()));
    for planted in [&b"planted"[..], b"alice's own", b"globex's"] {
        assert!(!holds(&session.path(""), planted), "a value is on disk");
    }
}

#[test]
fn a_locked_keyring_says_that_it_is_locked_and_opens_again() {
    let mut session = PersonsSession::unlocked();
    let stage = session.stage();
    stage.keep("acme", &account("token"), b"value").expect("kept");
    session.stop_keyring();
    session.start_keyring(false);
    assert_eq!(trouble(stage.read("acme", &account("token"))), Trouble::Locked);
    assert_eq!(trouble(stage.keep("acme", &account("token"), b"new")), Trouble::Locked);
    assert_eq!(trouble(stage.keep("acme", &account("other"), b"new")), Trouble::Locked);
    session.stop_keyring();
    session.start_keyring(true);
    assert_eq!(stage.read("acme", &account("token")), Ok(b"value".to_vec()));
}

#[test]
fn without_a_bus_or_a_service_on_it_there_is_no_store() {
    let session = PersonsSession::without_bus();
    let before = Instant::now();
    assert_eq!(trouble(session.stage().read("acme", &account("token"))), Trouble::NoStore);
    let session = PersonsSession::new();
    let (kind, reason) = session.stage().read("acme", &account("token")).expect_err("nobody");
    assert_eq!(kind, Trouble::NoStore, "{reason}");
    assert!(reason.contains("encrypted-file"), "{reason}");
    assert!(before.elapsed() < Duration::from_secs(20), "it was waited for");
}

#[test]
fn a_bus_that_takes_the_connection_and_says_nothing_ends_with_the_time() {
    let session = PersonsSession::without_bus();
    let _silent = UnixListener::bind(session.path("bus")).expect("bound");
    own(&session.path("bus"));
    let mut stage = session.stage();
    stage.within = Duration::from_millis(700);
    let (kind, reason) = stage.read("acme", &account("token")).expect_err("nobody answers");
    assert_eq!(kind, Trouble::TimedOut, "{reason}");
    assert!(reason.contains("within 1 s"), "{reason}");
}

#[test]
fn root_itself_is_no_guest_on_a_persons_bus() {
    let session = PersonsSession::unlocked();
    let mut stage = session.stage();
    if stage.identity.take().is_none() {
        return;
    }
    let (kind, reason) = stage.read("acme", &account("token")).expect_err("not its own");
    assert_eq!(kind, Trouble::NoStore, "{reason}");
}
