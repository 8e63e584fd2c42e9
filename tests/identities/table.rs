//! The table of uids: what is given stays given, and whatever is wrong with it starts nobody.

use std::fs;

use serde_json::json;

use super::*;
use crate::support::wait_until;

/// Writes its uid behind those of earlier runs.
const SIGNS: &str = "id -u >> signatures";

/// Waits until this many servers of a tenant have signed; all of them are one uid.
fn signed(home: &Home, tenant: &str, times: usize) {
    let path = home.data(tenant).join("signatures");
    let [server, ..] = uids(home, tenant);
    let wanted = format!("{server}\n").repeat(times);
    wait_until(&format!("{tenant} has signed {times} times"), || {
        fs::read_to_string(&path).is_ok_and(|text| text == wanted)
    });
}

fn reload(home: &Home) {
    let reloaded = as_root(home, &["reload", "--system"]);
    assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
}

/// Why a session does not open.
fn refused(home: &Home, tenant: &str) -> String {
    let mut session = connect(home, tenant);
    let answer = session.initialize(json!({}));
    assert_eq!(session.close().code(), Some(69), "{answer}");
    answer["error"]["message"].to_string()
}

#[test]
fn a_tenant_that_was_removed_and_comes_back_finds_uids_and_data() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &script_tenant(SIGNS, ""));
    let supervisor = home.start_system();
    signed(&home, "acme", 1);
    let before = uids(&home, "acme");
    fs::remove_file(home.path().join("config/tenants.d/acme.toml")).expect("removed");
    home.tenant("globex", &script_tenant(SIGNS, ""));
    reload(&home);
    signed(&home, "globex", 1);
    assert!(uids(&home, "globex").iter().all(|uid| !before.contains(uid)));
    home.tenant("acme", &script_tenant(SIGNS, ""));
    reload(&home);
    assert_eq!(uids(&home, "acme"), before);
    signed(&home, "acme", 2);
    supervisor.stop();
}

#[test]
fn a_damaged_table_starts_nobody_and_says_so() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &script_tenant(SIGNS, ""));
    let supervisor = home.start_system();
    signed(&home, "acme", 1);
    supervisor.stop();
    let table = home.path().join("state/uids.json");
    let good = fs::read(&table).expect("the table");
    fs::write(&table, &good[..good.len() / 2]).expect("cut");
    let supervisor = home.start_system();
    let error = refused(&home, "acme");
    assert!(error.contains("uids.json") && error.contains("is damaged"), "{error}");
    let problems = status(&home)["supervisor"]["problems"].to_string();
    assert!(problems.contains("uids.json"), "{problems}");
    let checked = as_root(&home, &["check", "--system"]);
    assert_eq!(checked.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("uids.json"));
    assert_eq!(fs::read(&table).expect("the table").len(), good.len() / 2, "it is left as it is");
    fs::write(&table, &good).expect("restored");
    reload(&home);
    signed(&home, "acme", 2);
    supervisor.stop();
}

#[test]
fn a_lost_table_is_no_reason_to_give_uids_anew() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("globex", &script_tenant(SIGNS, ""));
    let supervisor = home.start_system();
    signed(&home, "globex", 1);
    supervisor.stop();
    fs::remove_file(home.path().join("state/uids.json")).expect("removed");
    // In the order of names it would be given the uids of the other.
    home.tenant("acme", &script_tenant(SIGNS, ""));
    let supervisor = home.start_system();
    for tenant in ["acme", "globex"] {
        let error = refused(&home, tenant);
        assert!(error.contains("uids.json") && error.contains("is gone"), "{tenant}: {error}");
    }
    assert!(!home.path().join("state/uids.json").exists());
    supervisor.stop();
}

#[test]
fn a_range_that_leaves_a_tenant_out_is_told_with_the_line_to_write() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &granted(&puppet_tenant(&[], "")));
    let supervisor = home.start_system();
    home.settings("uid_range = [2000000000, 2000000100]\n");
    assert!(!as_root(&home, &["reload", "--system"]).status.success(), "it is a problem");
    let problems = status(&home)["supervisor"]["problems"].to_string();
    assert!(problems.contains("write uid_range = [1900000000, 2000000100]"), "{problems}");
    assert!(refused(&home, "acme").contains("leaves out uid 1900000000"));
    home.settings("uid_range = [1900000000, 2000000100]\n");
    reload(&home);
    // A mux that could not be started is tried again after a pause.
    let mut session = connect(&home, "acme");
    session.open(crate::support::Era::Legacy);
    session.close();
    supervisor.stop();
}
