//! What strangers bring to the session door as a secret: anything but one sealed memfd is refused, unread.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use serde_json::{Value, json};
use tenantd::post::seal_secret;

use crate::support::{Home, as_owner, ask_door};
use crate::world::{assert_nowhere, credential, home, listed, tenant_with};

const PLANTED: &str = "d00r-Wn7cKK-planted";

fn ask(home: &Home, with: &[OwnedFd], change: &[(&str, Value)]) -> Value {
    let mut request = json!({
        "do": "set-credential", "tenant": "acme", "name": "token", "source": "set", "rotate": false,
    });
    change.iter().for_each(|(key, value)| request[key] = value.clone());
    let path = home.path().join("run/session.sock");
    as_owner(|| ask_door(&path, request.to_string().as_bytes(), with)).expect("an answer")
}

/// A memfd of our own with these seals.
fn memfd(bytes: usize, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create("x", flags).expect("a memfd");
    rustix::fs::ftruncate(&memfd, bytes as u64).expect("sized");
    rustix::fs::fcntl_add_seals(&memfd, seals).expect("sealed");
    memfd
}

#[test]
fn anything_but_one_sealed_memfd_is_refused() {
    let home = home();
    home.tenant("acme", &tenant_with(&credential("token", "TOKEN")));
    let supervisor = home.start();
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let good = || seal_secret(PLANTED.as_bytes()).expect("sealed");
    let (pipe, _end) = rustix::pipe::pipe().expect("a pipe");
    let file = tempfile::tempfile().expect("a file");
    let attacks: [(&str, Vec<OwnedFd>); 9] = [
        ("not sealed", vec![memfd(5, SealFlags::empty())]),
        ("not sealed", vec![memfd(5, all.difference(SealFlags::WRITE))]),
        ("not sealed", vec![memfd(5, all.difference(SealFlags::SHRINK))]),
        ("comes in a memfd", vec![pipe]),
        ("comes in a memfd", vec![file.into()]),
        ("1 descriptor", vec![good(), good()]),
        ("1 descriptor", vec![]),
        ("larger than 64 KiB", vec![memfd(65 * 1024, all)]),
        ("empty", vec![memfd(0, all)]),
    ];
    for (wanted, with) in attacks {
        let answer = ask(&home, &with, &[]);
        assert_eq!((&answer["is"], &answer["code"]), (&"refused".into(), &64.into()), "{answer}");
        assert!(answer["message"].to_string().contains(wanted), "{wanted}: {answer}");
    }
    assert_eq!(listed(&home, "token").expect("listed")["set"], false);
    let kept = ask(&home, &[good()], &[]);
    assert_eq!((&kept["is"], &kept["replaced"]), (&"kept".into(), &false.into()), "{kept}");
    supervisor.stop();
    assert_nowhere(home.path(), PLANTED);
}

#[test]
fn what_is_asked_for_in_a_wrong_way_is_refused_and_nothing_is_kept() {
    let home = home();
    home.tenant("acme", &tenant_with(&credential("token", "TOKEN")));
    let supervisor = home.start();
    let good = || vec![seal_secret(PLANTED.as_bytes()).expect("sealed")];
    for (change, code, wanted) in [
        (("name", json!("nosuch")), 78, "choices: token"),
        (("name", json!("../acme/token")), 78, "choices: token"),
        (("tenant", json!("nosuch")), 77, "no tenant nosuch"),
        (("tenant", json!("../acme")), 64, "tenant"),
        (("source", json!("found")), 64, "not found"),
        (("source", json!("stolen")), 64, "not understood"),
        (("user", json!("root")), 64, "not understood"),
        (("value", json!("x")), 64, "not understood"),
    ] {
        let answer = ask(&home, &good(), std::slice::from_ref(&change));
        assert_eq!(answer["code"], code, "{change:?}: {answer}");
        assert!(answer["message"].to_string().contains(wanted), "{change:?}: {answer}");
    }
    assert_eq!(listed(&home, "token").expect("listed")["set"], false);
    supervisor.stop();
}
