//! Who can be nobody here: a user whom our user namespace does not map, and the tenants' own servers.

use super::*;

/// What the kernel shows for a uid that a user namespace does not map.
const OVERFLOW: u32 = 65_534;
/// In the default `uid_range`.
const RESERVED: u32 = 1_900_000_123;

/// A supervisor in a user namespace that maps its owner alone: every other user looks like the overflow
/// uid, and so cannot be told from any other.
#[test]
fn a_user_whom_the_namespace_does_not_map_is_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = Home::new();
    home.tenant("acme", &granted(&documents_tenant(), &[OVERFLOW, OTHER]));
    let binary = tenantd().to_str().expect("a path of UTF-8");
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", binary, "serve", "--user"]);
    command.env("TENANTD_HOME", home.path()).current_dir("/");
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    crate::support::as_test_user(&mut command);
    let supervisor = home.launch(command);
    // Opened wide, as the sockets of a system supervisor are: identity decides, not the file's mode.
    for path in ["", "run", "run/session.sock", "run/tenantd.sock"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(home.path().join(path), mode).expect("chmod");
    }
    let door = home.path().join("run/session.sock");
    let answer = as_user(OTHER, OTHER, || open(&door));
    assert_eq!((&answer["is"], &answer["reason"]), (&json!("refused"), &json!("overflow-uid")));
    assert!(answer["message"].to_string().contains("65534"), "{answer}");
    let control = home.path().join("run/tenantd.sock");
    assert!(as_user(OTHER, OTHER, || is_refused(&control)), "the control door answered");
    // Its owner is mapped.
    let answer = as_user(attacker, attacker, || open(&door));
    assert_eq!(answer["is"], "open", "{answer}");
    supervisor.stop();
}

#[test]
fn a_tenants_own_servers_may_not_open_sessions() {
    let Some(attacker) = attacker() else { return };
    let home = Home::system();
    home.settings("uid_range = [2000000000, 2000000100]\n");
    let uids = [1_999_999_999, 2_000_000_000, 2_000_000_100, 2_000_000_101, RESERVED];
    home.tenant("acme", &granted(&documents_tenant(), &[&uids[..], &[OTHER, attacker]].concat()));
    let arena = Arena::new(&home, attacker, &[]);
    for (uid, reserved) in std::iter::zip(uids, [false, true, true, false, false]) {
        let answer = as_user(uid, uid, || open(&arena.session_door()));
        let refused = answer["reason"] == "reserved-uid";
        assert_eq!(refused, reserved, "{uid}: {answer}");
        assert_eq!(answer["is"] == "open", !reserved, "{uid}: {answer}");
        let refused = as_user(uid, uid, || is_refused(&arena.control_door()));
        assert_eq!(refused, reserved, "{uid} at the control door");
    }
    arena.supervisor.stop();
}

/// Whether the control door hangs up on a question.
fn is_refused(door: &std::path::Path) -> bool {
    use std::io::{Read, Write};
    let mut connection = std::os::unix::net::UnixStream::connect(door).expect("connected");
    // It may have hung up already.
    let _ = connection.write_all(LIST);
    assert!(crate::support::readable(&connection, Instant::now() + crate::support::DEADLINE));
    matches!(connection.read(&mut [0; 64]), Ok(0) | Err(_))
}
