//! `tenantd doctor` on machines that lack something: what it finds by trying, and the line to type.

use std::process::Command;

use nix::unistd::geteuid;
use serde_json::Value;

use super::strict_tenant;
use crate::support::{Home, tenantd};

/// What `doctor --system` says as root after these lines of shell, in a mount namespace that ends with it.
fn doctor(home: &Home, prepared: &str) -> (Value, Option<i32>) {
    let line = format!("set -e; {prepared}\nexec \"$TENANTD\" doctor --system --json");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "/bin/sh", "-c", &line]);
    command.env("TENANTD", tenantd()).env("TENANTD_HOME", home.path()).current_dir(home.path());
    let output = command.output().expect("unshare runs");
    let shown = String::from_utf8_lossy(&output.stderr);
    let found = serde_json::from_slice(&output.stdout);
    (found.unwrap_or_else(|error| panic!("{error}: {shown}")), output.status.code())
}

fn fact(found: &Value, name: &str) -> Value {
    let facts = found["machine"].as_array().expect("facts");
    facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
}

fn text<'a>(fact: &'a Value, key: &str) -> &'a str {
    fact[key].as_str().unwrap_or_else(|| panic!("no {key}: {fact}"))
}

fn root() -> bool {
    let is = geteuid().is_root();
    if !is {
        eprintln!("SKIPPED: only root mounts (run tests/run as root)");
    }
    is
}

#[test]
fn a_file_system_without_projects_is_watched_and_the_line_names_its_disk_and_place() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.directory("state");
    let state = home.path().join("state");
    let state = state.to_str().expect("text");
    let disk =
        "truncate -s 32M disk; mkfs.ext4 -q -F -O ^quota,^project disk; mount -o loop disk state";
    let (found, _) = doctor(&home, disk);
    let quota = fact(&found, "storage quota");
    assert_eq!(quota["good"], false, "{quota}");
    let watched = format!("watcher: ext4 at {state} limits no projects, its files belong to none");
    assert_eq!(text(&quota, "found"), watched);
    let cure = text(&quota, "cure");
    assert!(
        cure.contains(&format!("umount {state} && tune2fs -O project,quota /dev/loop")),
        "{cure}"
    );
    assert!(cure.contains(" && mount -o prjquota /dev/loop") && cure.ends_with(state), "{cure}");
    // What was tried is not there any more.
    let left = "mkdir -p state/tenants; \"$TENANTD\" doctor --system >/dev/null || true; \
                test -z \"$(ls -A state/tenants)\"";
    doctor(&home, &format!("{disk}; {left}"));

    let (found, _) = doctor(&home, "mount -t ramfs none state");
    let quota = fact(&found, "storage quota");
    assert!(text(&quota, "found").starts_with("watcher: ramfs at "), "{quota}");
    assert!(text(&quota, "cure").starts_with("mkfs.ext4 -O quota,project "), "{quota}");
}

#[test]
fn a_persons_data_is_lent_where_its_file_system_can_and_else_there_is_another_way() {
    if !root() {
        return;
    }
    let home = Home::system();
    let data = home.directory("customers");
    home.tenant("acme", &format!("data = {data:?}\n{}", strict_tenant("", "")));
    let lent = fact(&doctor(&home, "mount -t tmpfs none customers").0, "idmapped mounts");
    let at = format!("tmpfs at {}", data.display());
    assert!(lent["good"] == true && text(&lent, "found").contains(&at), "{lent}");
    let lent = fact(&doctor(&home, "mount -t ramfs none customers").0, "idmapped mounts");
    assert!(lent["good"] == false && text(&lent, "found").contains("ramfs at "), "{lent}");
    assert!(
        text(&lent, "cure").starts_with(&format!("chgrp -R GROUP {}", data.display())),
        "{lent}"
    );
}

#[test]
fn a_machine_where_tenants_have_no_uids_is_not_fit() {
    if !root() {
        return;
    }
    let home = Home::system();
    let (found, code) = doctor(&home, ":");
    assert_eq!(fact(&found, "uids")["good"], true, "{found}");
    assert_eq!(code, Some(if found["strict"] == true { 0 } else { 1 }));
    // Everybody's: there is somebody with uid 65534.
    home.settings("uid_range = [60000, 125535]\n");
    let (found, code) = doctor(&home, ":");
    let uids = fact(&found, "uids");
    assert!(uids["good"] == false && uids["cure"].is_string(), "{uids}");
    assert_eq!((&found["strict"], code), (&Value::Bool(false), Some(1)));
}
