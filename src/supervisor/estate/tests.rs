//! Whose directories a server is given. Only root can give any away.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use super::*;

const RANGE: (u32, u32) = (2_000_000_000, 2_000_000_100);
const SERVER: u32 = 2_000_000_000;
const OTHER: u32 = 2_000_000_003;
/// A person and what they share.
const PERSON: u32 = 100_001;
const SHARED: u32 = 100_002;

fn server(groups: &[u32]) -> Identity {
    Identity { uid: SERVER, gid: SERVER, groups: groups.to_vec() }
}

/// A directory in which only root is at home; none, and loudly, for anybody else.
fn ground() -> Option<(tempfile::TempDir, PathBuf)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give directories away (run tests/run as root)");
        return None;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().canonicalize().expect("a path");
    Some((dir, path))
}

fn of(path: &Path) -> (u32, u32, u32) {
    let meta = path.symlink_metadata().expect("it is there");
    (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777)
}

fn make(path: &Path, uid: u32, gid: u32, mode: u32) {
    fs::create_dir(path).expect("made");
    chown(path, Some(uid), Some(gid)).expect("given");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn what_is_a_tenants_own_is_its_alone_and_can_be_passed_to() {
    let Some((_dir, root)) = ground() else { return };
    let (identity, tenant) = (server(&[]), root.join("acme"));
    let estate = Estate { identity: &identity, range: RANGE };
    make(&tenant, 0, 0, 0o700);
    estate.own(&tenant, "data").expect("made");
    assert_eq!(of(&tenant), (0, 0, 0o711));
    assert_eq!(of(&tenant.join("data")), (SERVER, SERVER, 0o700));
    // Opened to others by the server, closed again; left to root by a crash, given away.
    fs::set_permissions(tenant.join("data"), fs::Permissions::from_mode(0o777)).expect("chmod");
    make(&tenant.join("home"), 0, 0, 0o700);
    for name in ["data", "home"] {
        estate.own(&tenant, name).expect("again");
        assert_eq!(of(&tenant.join(name)), (SERVER, SERVER, 0o700), "{name}");
    }
}

#[test]
fn what_is_somebody_elses_is_not_taken() {
    let Some((_dir, tenant)) = ground() else { return };
    let identity = server(&[]);
    let estate = Estate { identity: &identity, range: RANGE };
    make(&tenant.join("theirs"), OTHER, OTHER, 0o777);
    make(&tenant.join("roots"), 0, 0, 0o700);
    fs::write(tenant.join("roots/file"), "x").expect("written");
    symlink(tenant.join("roots"), tenant.join("link")).expect("a link");
    for name in ["theirs", "roots", "link"] {
        let error = estate.own(&tenant, name).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
    let theirs = estate.lent(&tenant.join("theirs")).expect_err("theirs");
    assert!(matches!(theirs, EstateError::Others(_, OTHER)), "{theirs}");
    let roots = estate.lent(&tenant.join("roots")).expect_err("roots").to_string();
    assert!(roots.contains(&format!("chown -R {SERVER}:{SERVER} ")), "{roots}");
    assert_eq!(of(&tenant.join("roots")).0, 0);
    let link = estate.lent(&tenant.join("link")).expect_err("a link").to_string();
    assert!(link.contains(&format!("(write {})", tenant.join("roots").display())), "{link}");
    let below = estate.lent(&tenant.join("link/new")).expect_err("below a link");
    assert!(matches!(below, EstateError::Link { .. }), "{below}");
}

#[test]
fn what_is_a_persons_stays_theirs() {
    let Some((_dir, root)) = ground() else { return };
    let identity = server(&[]);
    let estate = Estate { identity: &identity, range: RANGE };
    make(&root.join("home"), PERSON, SHARED, 0o700);
    assert!(estate.look(&root.join("home/x")).expect("looked").is_none());
    let lent = estate.lent(&root.join("home")).expect("lent");
    assert_eq!(lent.owner, Some(Owner { uid: PERSON, gid: SHARED }));
    let new = estate.lent(&root.join("home/Customers/Acme")).expect("made");
    assert_eq!(new.owner, Some(Owner { uid: PERSON, gid: SHARED }));
    assert_eq!(of(&root.join("home/Customers")), (PERSON, SHARED, 0o711));
    assert_eq!(of(&root.join("home/Customers/Acme")), (PERSON, SHARED, 0o700));
    // A new one among root's is the server's.
    let new = estate.lent(&root.join("srv/acme")).expect("made");
    assert_eq!(new.owner, None);
    assert_eq!(of(&root.join("srv")), (0, 0, 0o711));
    assert_eq!(of(&root.join("srv/acme")), (SERVER, SERVER, 0o700));
}

#[test]
fn root_lends_only_what_a_group_may_write() {
    let Some((_dir, root)) = ground() else { return };
    let (alone, grouped) = (server(&[]), server(&[SHARED]));
    make(&root.join("shared"), 0, SHARED, 0o2770);
    make(&root.join("by-root-s-group"), PERSON, 0, 0o770);
    make(&root.join("readable"), 0, SHARED, 0o2755);
    let lend = |identity, name| Estate { identity, range: RANGE }.lent(&root.join(name));
    assert_eq!(lend(&grouped, "shared").expect("lent").owner, None);
    for (identity, name) in
        [(&alone, "shared"), (&grouped, "readable"), (&grouped, "by-root-s-group")]
    {
        let error = lend(identity, name).expect_err(name);
        assert!(matches!(error, EstateError::NotIts { .. }), "{error}");
        assert!(error.to_string().contains("sandbox.groups"), "{error}");
    }
    // Who looked is still root, on every thread.
    assert!(nix::unistd::geteuid().is_root());
    assert!(fs::read_dir(root.join("shared")).is_ok());
}
