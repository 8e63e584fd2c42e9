//! `tenantd credential` as people use it: typed, piped, listed, removed, and never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Home, test_user};
use crate::world::{
    AtTerminal, assert_nowhere, command_as, credential, done, home, listed, piped, printed,
    tenant_with, with_store,
};

const PLANTED: &str = "s3cr3t-Qe9xTT-planted";
const OTHER: &str = "0ther-Zk2vMM-planted";
const SET: [&str; 4] = ["credential", "set", "acme", "token"];

fn acme() -> Home {
    let home = home();
    home.tenant("acme", &tenant_with(&credential("token", "TOKEN")));
    home
}

#[test]
fn a_secret_is_typed_twice_and_the_terminal_never_shows_it() {
    let home = acme();
    let supervisor = home.start();
    let mut terminal = AtTerminal::start(home.command(&SET));
    terminal.until("token of acme (not shown): ");
    assert!(!terminal.echoes());
    // Rubbed out, begun anew, and longer than the line of a terminal that collects lines.
    let long = PLANTED.repeat(300);
    terminal.types(&format!("wrong\x15x\x7f{long}\n"));
    terminal.until("the same again: ");
    terminal.types(&format!("{long}\n"));
    assert!(terminal.end().success(), "{}", terminal.shown);
    assert!(terminal.shown.contains("token of acme is stored"), "{}", terminal.shown);
    assert!(!terminal.shown.contains("s3cr3t") && !terminal.shown.contains("wrong"));
    assert!(terminal.echoes());
    assert_eq!(listed(&home, "token").expect("listed")["source"], "set");
    supervisor.stop();
    assert_nowhere(home.path(), PLANTED);
}

#[test]
fn two_entries_that_differ_and_none_at_all_store_nothing() {
    let home = acme();
    let supervisor = home.start();
    let mut terminal = AtTerminal::start(home.command(&SET));
    terminal.until("(not shown): ");
    terminal.types(&format!("{PLANTED}\n"));
    terminal.until("the same again: ");
    terminal.types(&format!("{OTHER}\n"));
    assert_eq!(terminal.end().code(), Some(64));
    assert!(terminal.shown.contains("the two entries differ"), "{}", terminal.shown);
    assert!(!terminal.shown.contains("planted"), "{}", terminal.shown);
    let mut terminal = AtTerminal::start(home.command(&SET));
    terminal.until("(not shown): ");
    terminal.types("\n");
    assert_eq!(terminal.end().code(), Some(64));
    assert_eq!(listed(&home, "token").expect("listed")["set"], false);
    supervisor.stop();
}

#[test]
fn a_signal_leaves_a_terminal_that_shows_what_is_typed() {
    let home = acme();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut terminal = AtTerminal::start(home.command(&SET));
        terminal.until("(not shown): ");
        assert!(!terminal.echoes());
        terminal.types("s3cr");
        let pid = Pid::from_raw(i32::try_from(terminal.child.id()).expect("a pid"));
        kill(pid, signal).expect("sent");
        assert_eq!(terminal.end().signal(), Some(signal as i32), "{}", terminal.shown);
        assert!(terminal.echoes(), "{signal}");
        assert!(!terminal.shown.contains("s3cr"), "{}", terminal.shown);
    }
}

#[test]
fn stdin_is_taken_whole_and_a_rotation_needs_something_to_rotate() {
    let home = acme();
    let supervisor = home.start();
    let rotate = ["credential", "rotate", "acme", "token"];
    let early = piped(home.command(&rotate), PLANTED.as_bytes());
    assert_eq!(early.status.code(), Some(78), "{}", printed(&early));
    assert!(printed(&early).contains("tenantd credential set acme token"), "{}", printed(&early));
    let set = piped(home.command(&SET), format!("{PLANTED}\n").as_bytes());
    assert_eq!(done(&set), "token of acme is stored\n");
    let rotated = piped(home.command(&rotate), OTHER.as_bytes());
    assert_eq!(done(&rotated), "token of acme is stored in the place of the one before\n");
    for bad in [b"".as_slice(), b"\n", &vec![b'x'; 65 * 1024]] {
        let refused = piped(home.command(&SET), bad);
        assert_eq!(refused.status.code(), Some(64), "{}", printed(&refused));
    }
    supervisor.stop();
    for planted in [PLANTED, OTHER] {
        assert_nowhere(home.path(), planted);
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let home = acme();
    let value = format!("--value={PLANTED}");
    for words in [&[PLANTED][..], &[&value], &["--", PLANTED], &[PLANTED, OTHER], &["-x", PLANTED]]
    {
        for deed in ["set", "rotate"] {
            let line: Vec<_> =
                ["credential", deed, "acme", "token"].iter().chain(words).copied().collect();
            let refused = home.run(&line);
            assert_eq!(refused.status.code(), Some(64), "{line:?}");
            let said = printed(&refused);
            assert!(said.contains("never an argument") && said.contains("history"), "{said}");
            assert!(!said.contains("planted"), "{said}");
        }
    }
    let refused = home.run(&["credential", "set", "acme", &format!("token={PLANTED}")]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(!printed(&refused).contains("planted"), "{}", printed(&refused));
    let help = done(&home.run(&["credential", "set", "--help"]));
    assert!(help.contains("never an argument"), "{help}");
}

#[test]
fn the_list_tells_what_is_set_what_is_not_and_what_nobody_gets() {
    let home = acme();
    let more = format!("{}{}", credential("token", "TOKEN"), credential("late", "LATE"));
    home.tenant("acme", &tenant_with(&more));
    let supervisor = home.start();
    done(&piped(home.command(&SET), PLANTED.as_bytes()));
    let page = done(&home.run(&["credential", "list", "acme"]));
    assert!(page.contains("late is not set: tenantd credential set acme late"), "{page}");
    assert!(page.contains("env TOKEN") && !page.contains("planted"), "{page}");
    let problems = home.tenant_status("acme", |_| true)["problems"].to_string();
    assert!(problems.contains("tenantd credential set acme late"), "{problems}");
    assert!(!problems.contains("credential token"), "{problems}");
    let wrong = home.run(&["credential", "remove", "acme", "nosuch"]);
    assert_eq!(wrong.status.code(), Some(78));
    assert!(printed(&wrong).contains("choices: token, late"), "{}", printed(&wrong));
    // What the file no longer names is still there, and can be removed.
    home.tenant("acme", &tenant_with(&credential("late", "LATE")));
    done(&home.run(&["reload"]));
    let orphan = listed(&home, "token").expect("listed");
    assert_eq!(orphan["named"], false);
    assert_eq!(orphan["cure"], "tenantd credential remove acme token");
    let removed = done(&home.run(&["credential", "remove", "acme", "token"]));
    assert!(removed.starts_with("token of acme is removed\n"), "{removed}");
    assert!(listed(&home, "token").is_none());
    let again = done(&home.run(&["credential", "remove", "acme", "late"]));
    assert_eq!(again, "late of acme was not set\n");
    supervisor.stop();
}

#[test]
fn the_list_survives_a_restart_and_a_damaged_one_is_said() {
    let home = acme();
    let supervisor = home.start();
    done(&piped(home.command(&SET), PLANTED.as_bytes()));
    supervisor.stop();
    let index = home.path().join("state/credentials/acme.json");
    assert_eq!(fs::metadata(&index).expect("there").permissions().mode() & 0o777, 0o600);
    let supervisor = home.start();
    assert_eq!(listed(&home, "token").expect("listed")["set"], true);
    supervisor.stop();
    fs::write(&index, "{\"version\":1,").expect("damaged");
    let supervisor = home.start();
    let page = done(&home.run(&["credential", "list"]));
    assert!(page.contains("was damaged and begun anew"), "{page}");
    // The store has it: a rotation does not believe the list.
    let rotate = ["credential", "rotate", "acme", "token"];
    done(&piped(home.command(&rotate), OTHER.as_bytes()));
    assert_eq!(listed(&home, "token").expect("listed")["set"], true);
    supervisor.stop();
    assert!(index.with_extension("json.damaged").exists());
}

#[test]
fn what_the_store_has_comes_back_into_the_list_when_a_server_starts() {
    let home = acme();
    let supervisor = home.start();
    done(&piped(home.command(&SET), PLANTED.as_bytes()));
    supervisor.stop();
    fs::remove_file(home.path().join("state/credentials/acme.json")).expect("removed");
    let supervisor = home.start();
    assert_eq!(listed(&home, "token").expect("listed")["set"], false);
    done(&home.run(&["call", "acme", "echo", r#"{"text":"x"}"#]));
    let found = listed(&home, "token").expect("listed");
    assert_eq!((&found["set"], &found["source"]), (&Value::Bool(true), &Value::from("found")));
    supervisor.stop();
}

#[test]
fn in_a_system_everybody_has_what_is_theirs_and_no_more() {
    let Some(user) = test_user() else {
        assert!(std::env::var_os("CI").is_none(), "run as root with TENANTD_TEST_USER");
        return;
    };
    let home = Home::system();
    with_store(&home);
    // `file` gives it to the test user; a system's key is root's.
    let key = home.path().join("state/tenantd.key");
    std::os::unix::fs::chown(&key, Some(0), Some(0)).expect("chown");
    let own = "[[credential]]\nname = \"own\"\nscope = \"user\"\nenv = \"OWN\"\n";
    let shares = |text: &str| text.replacen("[server]\n", "[server]\nshare = \"user\"\n", 1);
    let grant = format!("[[grant]]\nusers = [{:?}]\n", user.name);
    let more = format!("{}{own}{grant}", credential("token", "TOKEN"));
    home.tenant("acme", &shares(&tenant_with(&more)));
    home.tenant("hidden", &tenant_with(&credential("token", "TOKEN")));
    let supervisor = home.start_system();
    let uid = user.uid.as_raw();
    let set = |who, tenant, name| {
        let line = ["credential", "set", "--system", tenant, name];
        piped(command_as(&home, who, &line), PLANTED.as_bytes())
    };
    // A tenant's own is its admins'.
    let shared = set(uid, "acme", "token");
    assert_eq!(shared.status.code(), Some(77), "{}", printed(&shared));
    assert!(printed(&shared).contains("an admin sets"), "{}", printed(&shared));
    done(&set(0, "acme", "token"));
    // A user's own is their own, and not even root's.
    let said = done(&set(uid, "acme", "own"));
    assert_eq!(said, format!("own of {} in acme is stored\n", user.name));
    assert_eq!(set(0, "acme", "own").status.code(), Some(77));
    // What is hidden looks like what is not there.
    for name in ["token", "nosuch"] {
        let hidden = set(uid, "hidden", name);
        let none = set(uid, "nosuch", name);
        assert_eq!(hidden.status.code(), Some(77));
        assert_eq!(printed(&hidden).replace("hidden", "nosuch"), printed(&none));
    }
    let page = |who| {
        let line = ["credential", "list", "--system", "--json"];
        let output = command_as(&home, who, &line).output().expect("started");
        serde_json::from_str::<Value>(&done(&output)).expect("JSON")["credentials"].clone()
    };
    let mine = page(uid);
    assert_eq!(mine.as_array().map(Vec::len), Some(1), "{mine}");
    assert_eq!((&mine[0]["name"], &mine[0]["user"]), (&"own".into(), &user.name.as_str().into()));
    assert_eq!(page(0).as_array().map(Vec::len), Some(3));
    let remove = |who, words: &[&str]| {
        let line: Vec<_> =
            ["credential", "remove", "--system", "acme"].iter().chain(words).copied().collect();
        command_as(&home, who, &line).output().expect("started")
    };
    assert_eq!(remove(uid, &["token"]).status.code(), Some(77));
    assert_eq!(remove(uid, &["own", "--of", "root"]).status.code(), Some(77));
    assert_eq!(remove(0, &["own"]).status.code(), Some(77));
    let removed = done(&remove(0, &["own", "--of", &user.name]));
    assert!(removed.starts_with(&format!("own of {} in acme is removed", user.name)), "{removed}");
    supervisor.stop();
    assert_nowhere(home.path(), PLANTED);
}
