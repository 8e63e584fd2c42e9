//! Files and directories that cannot be read, or should not be.

use std::os::unix::fs::{PermissionsExt, symlink};

use tenantd::paths::Mode;

use crate::{GOOD, Home, is_good, said};

#[test]
fn a_file_that_cannot_be_read_is_a_problem_of_its_tenant_alone() {
    let home = Home::with(&[("tenants.d/initech.toml", GOOD)]);
    let tenants = home.layout.tenants();
    symlink("loop.toml", tenants.join("loop.toml")).expect("symlink");
    symlink("/nonexistent", tenants.join("dangling.toml")).expect("symlink");
    symlink("/dev/zero", tenants.join("device.toml")).expect("symlink");
    std::fs::create_dir(tenants.join("directory.toml")).expect("mkdir");
    nix::unistd::mkfifo(&tenants.join("fifo.toml"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    home.write("tenants.d/huge.toml", vec![b'#'; (1 << 20) + 1]);
    home.write("tenants.d/latin.toml", b"name = \"x\"\nx = \"Z\xfcrich\"\n");
    home.write("tenants.d/open.toml", GOOD);
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(tenants.join("open.toml"), open).expect("chmod");
    home.write("tenants.d/Upper.toml", GOOD);
    symlink("initech.toml", tenants.join("linked.toml")).expect("symlink");

    let loaded = home.load();
    let said = said(&loaded);
    let expected = [
        ("tenants.d/Upper.toml: ", "is not a tenant id"),
        ("tenants.d/dangling.toml: ", "the link leads nowhere"),
        ("tenants.d/device.toml: ", "is not a regular file"),
        ("tenants.d/directory.toml: ", "is not a regular file"),
        ("tenants.d/fifo.toml: ", "is not a regular file"),
        ("tenants.d/huge.toml: ", "is larger than 1 MiB"),
        ("tenants.d/latin.toml:2:7: ", "not UTF-8"),
        ("tenants.d/loop.toml: ", "cannot be read"),
        ("tenants.d/open.toml: ", "everybody on this machine may change the file"),
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (line, (start, part)) in said.iter().zip(expected) {
        assert!(line.starts_with(start) && line.contains(part), "{line}");
    }
    assert!(is_good(&loaded, "initech") && is_good(&loaded, "linked") && loaded.complete);
}

#[test]
fn a_file_without_the_right_to_read_it_says_so() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root may read every file; the same path is tested by a link to itself");
        return;
    }
    let home = Home::with(&[("tenants.d/acme.toml", GOOD)]);
    let shut = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(home.layout.tenants().join("acme.toml"), shut).expect("chmod");
    let said = said(&home.load());
    assert!(said.len() == 1 && said[0].contains("the right to read it"), "{said:?}");
}

#[test]
fn a_directory_that_cannot_be_listed_is_not_an_empty_one() {
    let home = Home::new(Mode::User);
    std::fs::remove_dir(home.layout.tenants()).expect("rmdir");
    home.write("tenants.d", "a file");
    let loaded = home.load();
    assert!(!loaded.complete && said(&loaded)[0].starts_with("tenants.d: cannot be read"));
}

#[test]
fn a_directory_that_everybody_may_add_to_is_not_believed() {
    let home = Home::with(&[("tenants.d/acme.toml", GOOD)]);
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(home.layout.tenants(), open).expect("chmod");
    let loaded = home.load();
    assert!(!loaded.complete && loaded.tenants.is_empty());
    assert!(said(&loaded)[0].contains("everybody on this machine may add files"), "{loaded:?}");
}
