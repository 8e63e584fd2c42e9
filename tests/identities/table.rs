//! The table of uids: what is given stays given, and whatever is wrong with it starts nobody.

use std::fs;

use serde_json::json;

use super::*;
use crate::support::Era;

fn save(home: &Home, tenant: &str, text: &str) {
    let mut session = connect(home, tenant);
    session.open(Era::Modern);
    session.call("save_document", json!({"name": "notes.md", "text": text}));
    assert_eq!(session.close().code(), Some(0));
}

fn read(home: &Home, tenant: &str) -> String {
    let mut session = connect(home, tenant);
    session.open(Era::Modern);
    let text = session.call("get_document", json!({"name": "notes.md"}))["structuredContent"]["text"]
        .as_str()
        .map(str::to_owned);
    session.close();
    text.expect("a text")
}

#[test]
fn a_tenant_that_was_removed_and_comes_back_finds_uids_and_data() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &granted(&documents_tenant()));
    let supervisor = home.start_system();
    save(&home, "acme", "before");
    let before = uids(&home, "acme");
    fs::remove_file(home.path().join("config/tenants.d/acme.toml")).expect("removed");
    home.tenant("globex", &granted(&documents_tenant()));
    assert!(as_root(&home, &["reload", "--system"]).status.success());
    save(&home, "globex", "other");
    assert!(uids(&home, "globex").iter().all(|uid| !before.contains(uid)));
    home.tenant("acme", &granted(&documents_tenant()));
    assert!(as_root(&home, &["reload", "--system"]).status.success());
    assert_eq!(uids(&home, "acme"), before);
    assert_eq!(read(&home, "acme"), "before");
    supervisor.stop();
}

#[test]
fn a_damaged_table_starts_nobody_and_says_so() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &granted(&documents_tenant()));
    let supervisor = home.start_system();
    save(&home, "acme", "before");
    supervisor.stop();
    let table = home.path().join("state/uids.json");
    let good = fs::read(&table).expect("the table");
    fs::write(&table, &good[..good.len() / 2]).expect("cut");
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    let error = session.initialize(json!({}))["error"]["message"].take().to_string();
    assert!(error.contains("uids.json") && error.contains("is damaged"), "{error}");
    assert_eq!(session.close().code(), Some(69));
    let problems = status(&home)["supervisor"]["problems"].to_string();
    assert!(problems.contains("uids.json"), "{problems}");
    let checked = as_root(&home, &["check", "--system"]);
    assert_eq!(checked.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("uids.json"));
    assert_eq!(fs::read(&table).expect("the table").len(), good.len() / 2, "it is left as it is");
    fs::write(&table, &good).expect("restored");
    assert!(as_root(&home, &["reload", "--system"]).status.success());
    assert_eq!(read(&home, "acme"), "before");
    supervisor.stop();
}

#[test]
fn a_lost_table_is_no_reason_to_give_uids_anew() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("globex", &granted(&documents_tenant()));
    let supervisor = home.start_system();
    save(&home, "globex", "mine");
    fs::remove_file(home.path().join("state/uids.json")).expect("removed");
    // In the order of names it would be given the uids of the other.
    home.tenant("acme", &granted(&documents_tenant()));
    assert!(as_root(&home, &["reload", "--system"]).status.success());
    for tenant in ["acme", "globex"] {
        let mut session = connect(&home, tenant);
        let answer = session.initialize(json!({}));
        let error = answer["error"]["message"].to_string();
        assert!(error.contains("uids.json") && error.contains("is gone"), "{tenant}: {answer}");
        session.close();
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
    home.tenant("acme", &granted(&documents_tenant()));
    let supervisor = home.start_system();
    save(&home, "acme", "before");
    home.settings("uid_range = [2000000000, 2000000100]\n");
    assert!(as_root(&home, &["reload", "--system"]).status.success());
    let problems = status(&home)["supervisor"]["problems"].to_string();
    assert!(problems.contains("write uid_range = [1900000000, 2000000100]"), "{problems}");
    home.settings("uid_range = [1900000000, 2000000100]\n");
    assert!(as_root(&home, &["reload", "--system"]).status.success());
    assert_eq!(read(&home, "acme"), "before");
    supervisor.stop();
}
