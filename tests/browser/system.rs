//! The same in system mode: the browser is a user of its tenant's own, and each session has its own browser.

use std::fs;

use serde_json::Value;

use crate::confined::{assert_confined, assert_gone, browsers, until_none};
use crate::documented;
use crate::pages::{greet, ground, opened, snapshot, visit};
use crate::site::Site;
use crate::support::{Held, Home, Session, Supervisor, test_user};

fn connect(home: &Home) -> Session {
    opened(Session::spawn(home.command(&["connect", "--system", "acme"])))
}

/// The uid that the table has for the tenant's servers.
fn uid(home: &Home) -> u32 {
    let text = fs::read_to_string(home.path().join("state/uids.json")).expect("the table");
    let table: Value = serde_json::from_str(&text).expect("JSON");
    let uid = table["tenants"]["acme"]["server"].as_u64().expect("a uid");
    u32::try_from(uid).expect("32 bits")
}

/// The server whose browser it is: there is one.
fn server(supervisor: &Supervisor<'_>) -> Held {
    let mut nodes = supervisor.descendants().into_iter().filter(|held| held.name == "node");
    let server = nodes.next().expect("a Node");
    assert!(nodes.next().is_none(), "one server");
    server
}

#[test]
fn in_system_mode_each_session_has_a_browser_that_is_a_user_of_its_tenants_own() {
    let Some((world, packages)) = ground() else { return };
    let Some(user) = test_user() else { return };
    let _site = Site::open(&world, &packages, ("127.0.0.1", 80));
    let home = Home::system();
    let file = documented::browser(&packages);
    home.tenant("acme", &format!("{file}\n[[grant]]\nusers = [{:?}]\n", user.name));
    let entering = world.entering();
    let supervisor =
        home.start_system_under(&entering.iter().map(String::as_str).collect::<Vec<_>>());
    let mut session = connect(&home);
    visit(&mut session, "http://wiki.acme.lan/");
    greet(&mut session, "Ada");
    let first = browsers(&supervisor);
    assert_confined(&first, &server(&supervisor), &supervisor, uid(&home));

    let mut other = connect(&home);
    visit(&mut other, "http://wiki.acme.lan/");
    greet(&mut other, "Grace");
    assert!(snapshot(&mut session).contains("Hello, Ada!"), "two sessions, two pages");
    assert!(session.close().success());
    assert_gone(first);
    assert!(snapshot(&mut other).contains("Hello, Grace!"), "the other one goes on");
    let second = browsers(&supervisor);
    assert!(other.close().success());
    assert_gone(second);
    until_none(&supervisor);
    supervisor.stop();
}
