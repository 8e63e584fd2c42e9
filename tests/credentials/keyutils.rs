//! The kernel's keyring: in a session of its own, and not without one.

use std::process::Command;

use tenantd::wire::credential::{StorePlan, Trouble};

use crate::role::{Stage, account, trouble};
use crate::support::Home;

#[test]
fn a_secret_outlives_the_session_that_set_it_in_the_users_persistent_keyring() {
    // Every one joins a session of its own; what they share is the user's.
    let stage = Stage {
        through: ["keyctl", "session", "-"].map(str::to_owned).to_vec(),
        ..Stage::new(StorePlan::Keyutils)
    };
    let name = account(&format!("token-{}", std::process::id()));
    assert_eq!(trouble(stage.read("acme", &name)), Trouble::Missing);
    assert_eq!(stage.keep("acme", &name, b"planted\0value"), Ok(()));
    assert_eq!(stage.read("acme", &name), Ok(b"planted\0value".to_vec()));
    assert_eq!(trouble(stage.read("globex", &name)), Trouble::Missing);
    assert_eq!(stage.keep("acme", &name, b"another"), Ok(()));
    assert_eq!(stage.read("acme", &name), Ok(b"another".to_vec()));
    assert_eq!(stage.forget("acme", &name), Ok(()));
    assert_eq!(stage.forget("acme", &name), Ok(()));
    assert_eq!(trouble(stage.read("acme", &name)), Trouble::Missing);
}

#[test]
fn without_a_session_of_its_own_there_is_no_store_rather_than_an_empty_one() {
    let shown = Command::new("keyctl").arg("show").output().expect("keyctl");
    if !String::from_utf8_lossy(&shown.stdout).contains("_uid_ses.") {
        // This test runs within a session: what it is about cannot be had here.
        return;
    }
    let stage = Stage::new(StorePlan::Keyutils);
    assert_eq!(trouble(stage.read("acme", &account("token"))), Trouble::NoStore);
    assert_eq!(trouble(stage.keep("acme", &account("token"), b"value")), Trouble::NoStore);
}

#[test]
fn status_says_what_the_kernels_keyring_forgets() {
    let home = Home::new();
    home.settings("[credentials]\nstore = \"keyutils\"\n");
    let supervisor = home.start();
    let status = home.run(&["status"]);
    let shown = String::from_utf8(status.stdout).expect("UTF-8");
    assert!(shown.contains("forgets every secret at reboot"), "{shown}");
    supervisor.stop();
}
