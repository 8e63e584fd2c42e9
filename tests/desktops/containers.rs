//! Clients in containers into which the directory of the sockets is mounted: other processes, other files,
//! and perhaps other uids than the supervisor's.

use std::process::Command;

use crate::support::{Person, Session, tenantd};
use crate::{assert_works, person, refused};

/// Where the sockets are mounted in the container.
const MOUNTED: &str = "/run/user/tenantd";
/// What a container's start makes of its file systems: its own /proc, no `/run/user/UID`, no passwd entry of
/// the person, and the sockets of the host.
const ENTER: &str = "
    set -e
    mount -t proc proc /proc
    mkdir -p /tmp/td-sockets-$1 && mount --bind \"$2\" /tmp/td-sockets-$1
    mount -t tmpfs tmpfs /run/user
    mkdir $3 && mount --move /tmp/td-sockets-$1 $3 && rmdir /tmp/td-sockets-$1
    shift 3
    exec \"$@\"
";

/// Runs `connect acme` in namespaces of its own, through `become` (from root to a user of the container).
fn contained(person: &Person, become_user: &[&str], environment: &[&str]) -> Session {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]);
    command.arg(person.uid().to_string()).arg(person.run().join("tenantd")).arg(MOUNTED);
    command.args(become_user).args(["env", "-i", "PATH=/usr/bin:/bin"]).args(environment);
    command.arg(tenantd()).args(["connect", "acme"]);
    person.spawn(command)
}

fn drop_to(uid: &str) -> [String; 6] {
    let [a, b, c] = ["setpriv", "--clear-groups", "--reuid"].map(str::to_owned);
    [a, b, c, uid.to_owned(), "--regid".to_owned(), uid.to_owned()]
}

/// A supervisor with a session, and the words that make root of a container the person.
fn outside() -> Option<(Person, Session, [String; 6])> {
    let person = person()?;
    person.log_in();
    let mut session = person.connect("acme");
    assert_works(&mut session);
    let words = drop_to(&person.uid().to_string());
    Some((person, session, words))
}

fn with<'a>(words: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    words.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

fn reaches(more: &[&str], environment: &[&str]) {
    let Some((person, _session, words)) = outside() else { return };
    let supervisor = person.supervisor();
    let mut inside = contained(&person, &with(&words, more), environment);
    assert_works(&mut inside);
    assert_eq!(person.supervisor().pid, supervisor.pid);
    let status = person.status().expect("a status");
    let sessions = status["tenants"][0]["sessions"].as_array().map(Vec::len);
    assert_eq!(sessions, Some(2), "{status}");
    assert_eq!(inside.close().code(), Some(0));
    assert_eq!(person.supervisors().len(), 1, "the container started one of its own");
}

const RUNTIME: &str = "TENANTD_RUNTIME=/run/user/tenantd";

#[test]
fn a_client_in_another_mount_and_pid_namespace_gets_a_session() {
    reaches(&[], &[RUNTIME]);
}

#[test]
fn a_client_in_a_user_namespace_that_maps_its_uid_gets_a_session() {
    reaches(&["unshare", "--user", "--map-current-user"], &[RUNTIME]);
}

#[test]
fn a_client_that_is_root_of_a_rootless_container_gets_a_session() {
    reaches(&["unshare", "--user", "--map-root-user"], &[RUNTIME]);
}

/// A container's passwd need not know the person: then the two overrides say everything.
#[test]
fn a_client_without_a_passwd_entry_gets_a_session() {
    let hide = "mount --bind /dev/null /etc/passwd && exec \"$@\"";
    let Some((person, _session, words)) = outside() else { return };
    let hidden: Vec<&str> = [&["sh", "-c", hide, "sh"], &*with(&words, &[])].concat();
    let home = "TENANTD_HOME=/nonexistent";
    assert_works(&mut contained(&person, &hidden, &[RUNTIME, home]));
    // Without them it is told which.
    let (message, code) = refused(contained(&person, &hidden, &[]));
    assert_eq!(code, Some(78), "{message}");
    assert!(message.contains("has no home directory in passwd"), "{message}");
    assert!(message.contains("TENANTD_HOME"), "{message}");
}

#[test]
fn a_client_in_an_unmapped_user_namespace_is_refused() {
    let Some((person, mut session, words)) = outside() else { return };
    for environment in [&[RUNTIME][..], &[]] {
        let unmapped = with(&words, &["unshare", "--user"]);
        let (message, code) = refused(contained(&person, &unmapped, environment));
        assert!(message.contains("overflow uid"), "{message}");
        assert!(message.contains("map your uid"), "{message}");
        assert_eq!(code, Some(77), "{message}");
    }
    crate::assert_echoes(&mut session);
    assert_eq!(person.supervisors().len(), 1);
}
