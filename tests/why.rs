//! `tenantd why`: what keeps a tenant from its sessions, what happened lately, and what to do, for each
//! way to be ill; and to whom it says how much.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use nix::unistd::{User, geteuid};
use serde_json::{Value, json};
use support::{DEADLINE, Era, Home, Session, documents_tenant, tenant, tenantd};

/// Runs `why`; gives its page, and fails unless it ends with this code.
#[track_caller]
fn why(home: &Home, code: i32) -> String {
    told(&home.run(&["why", "acme"]), code)
}

#[track_caller]
fn told(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}{said}");
    text
}

/// The page as soon as it holds these words and the command ends with this code.
#[track_caller]
fn until(home: &Home, code: i32, words: &str) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let output = home.run(&["why", "acme"]);
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains(words) && output.status.code() == Some(code) {
            return text.into_owned();
        }
        assert!(Instant::now() < deadline, "never {words} and {code}: {text}");
    }
}

#[track_caller]
fn assert_says(page: &str, words: &[&str]) {
    for word in words {
        assert!(page.contains(word), "{word}: {page}");
    }
}

/// Opens a session, and waits for its answer whatever it is.
fn knock(home: &Home) -> Session {
    let mut session = home.connect("acme");
    session.initialize(json!({}));
    session
}

#[test]
fn of_a_suspended_tenant_it_says_how_to_resume_and_who_was_refused() {
    let home = Home::new();
    home.tenant("acme", &format!("status = \"suspended\"\n{}", documents_tenant()));
    let supervisor = home.start();
    let strict = Session::spawn(home.command(&["connect", "--strict", "acme"]));
    assert_eq!(strict.close().code(), Some(69));
    let page = why(&home, 0);
    assert_says(&page, &["to do: set status = \"active\" in tenants.d/acme.toml"]);
    assert_says(
        &page,
        &[
            "kept by: acme is suspended",
            "not in use",
            "layers: hold namespaces, landlock, seccomp; missing ",
        ],
    );
    let refused = page.lines().find(|line| line.contains("acme is suspended (whoever"));
    let _waiting = knock(&home);
    let page = until(&home, 0, "waits");
    assert!(refused.is_some() && page.contains(" left ") && page.contains("1 session"), "{page}");
    supervisor.stop();
}

#[test]
fn of_a_server_that_misses_a_file_it_says_the_line_that_shows_it_and_no_others_ground() {
    let home = Home::new();
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let shared = home.directory("shared");
    open(&shared, 0o755);
    let terms = home.file("shared/terms", "these are the terms\n");
    // What is another tenant's, and what is tenantd's own, is there, and everybody might read it.
    let secret = home.directory("secret");
    open(&secret, 0o755);
    home.file("secret/plan", "");
    home.tenant("globex", &format!("data = {secret:?}\n{}", documents_tenant()));
    let own = home.path().join("config/tenants.d/globex.toml");
    open(&own, 0o644);
    let script = format!(
        "cat {terms:?} >&2 || {{ for x in {own:?} {:?}; do echo \"ENOENT '$x'\" >&2; done; exit 3; }}; exec cat",
        secret.join("plan")
    );
    let file = format!("[server]\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n");
    home.tenant("acme", &file);
    let supervisor = home.start();
    let mut session = home.connect("acme");
    session.ask("initialize", json!({}));
    let page = until(&home, 0, "crash-loop");
    let line = format!("[sandbox] read = [{shared:?}]");
    let to_do = format!(
        "to do: server main does not see {terms:?}, which is outside of its sandbox; if it should, "
    );
    assert_says(&page, &[&to_do, &format!("add to tenants.d/acme.toml: {line}\n")]);
    // The line does what it says.
    home.tenant("acme", &format!("{file}{}\n", line.replacen("] ", "]\n", 1)));
    until(&home, 0, "| these are the terms");
    supervisor.stop();
}

#[test]
fn of_a_server_that_ends_at_once_it_says_how_and_its_last_words() {
    let home = Home::new();
    let script = "echo 'no \\033[2Jconfig' >&2; exit 3";
    home.tenant("acme", &tenant("/bin/sh".as_ref(), &["-c", script]));
    let supervisor = home.start();
    let mut session = home.connect("acme");
    session.ask("initialize", json!({}));
    let page = until(&home, 0, "crash-loop");
    let keeps = "kept by: server main is crash-loop: it exited with code 3";
    assert_says(&page, &[keeps, "stderr of main:\n", "    | ", "command of main: "]);
    assert_says(
        &page,
        &["to do: mend what it says (tenantd logs acme/main), then tenantd restart"],
    );
    let ends = page.lines().filter(|line| line.ends_with(" ago  it exited with code 3"));
    assert!(ends.count() > 1, "{page}");
    assert!(!page.contains('\x1b'), "{page}");
    supervisor.stop();
}

#[test]
fn of_a_command_that_went_away_it_says_which() {
    let home = Home::new();
    let program = home.file("server.sh", "#!/bin/sh\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    home.tenant("acme", &tenant(&program, &[]));
    let supervisor = home.start();
    fs::remove_file(&program).expect("removed");
    let mut session = home.connect("acme");
    session.ask("initialize", json!({}));
    let page = until(&home, 0, "kept by: server main is failed");
    assert_says(&page, &["server.sh", "to do: mend what it says"]);
    // The row of its start; what became of it may come a moment after the state.
    until(&home, 0, &format!(" ago  {}", program.display()));
    supervisor.stop();
}

#[test]
fn of_a_broken_file_it_says_where() {
    let home = Home::new();
    home.tenant("acme", "name = 1\n[server\n");
    let supervisor = home.start();
    let _waiting = knock(&home);
    let page = why(&home, 78);
    assert_says(&page, &["to do: mend tenants.d/acme.toml:1:8: name = 1 is not text"]);
    assert_says(&page, &["kept by: acme cannot be used, its file is broken", "broken", "waits"]);
    home.tenant("acme", &documents_tenant());
    until(&home, 0, "command of main: ");
    home.tenant("acme", &format!("{}x = 1\n", documents_tenant()));
    let page = until(&home, 78, "the last good version goes on");
    assert_says(&page, &["to do: mend tenants.d/acme.toml:", "problem: tenants.d/acme.toml:"]);
    supervisor.stop();
}

#[test]
fn of_a_sound_tenant_it_says_that_nothing_is_to_be_done() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    assert_says(&why(&home, 0), &["to do: nothing: it starts with its first session"]);
    let mut session = home.connect("acme");
    session.open(Era::Modern);
    session.call("echo", json!({"text": "x"}));
    let page = until(&home, 0, "running");
    assert_says(&page, &["to do: nothing: it serves", "modern", "STARTED", "1 session"]);
    assert_says(&page, &[&format!("command of main: {}", tenantd().display())]);
    assert!(!page.contains("kept by"), "{page}");
    let json: Value =
        serde_json::from_slice(&home.run(&["why", "acme", "--json"]).stdout).expect("JSON");
    assert_eq!((&json["keeps"], &json["refusals"]), (&json!([]), &json!([])), "{json}");
    let start = &json["starts"][0];
    assert!(start["pid"].is_u64() && start["end"].is_null(), "{json}");
    supervisor.stop();
}

#[test]
fn an_unknown_tenant_is_told_with_the_choices() {
    let home = Home::new();
    home.tenant("globex", &documents_tenant());
    let supervisor = home.start();
    let output = home.run(&["why", "acme"]);
    told(&output, 77);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no tenant acme") && said.contains("choices: globex"), "{said}");
    assert_eq!(home.run(&["why", "../acme"]).status.code(), Some(64));
    supervisor.stop();
}

#[test]
fn without_a_supervisor_the_files_answer() {
    let home = Home::new();
    let none = home.run(&["why", "acme"]);
    told(&none, 78);
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(said.contains("no supervisor runs") && said.contains("acme.toml"), "{said}");
    home.tenant("acme", &documents_tenant());
    assert_says(
        &why(&home, 0),
        &["no supervisor runs", "acme.toml is good", "tenantd connect acme"],
    );
    home.tenant("acme", "name = 1\n[server\n");
    assert_says(&why(&home, 78), &["no supervisor runs", "problem: tenants.d/acme.toml:1:8:"]);
    let json: Value =
        serde_json::from_slice(&home.run(&["why", "acme", "--json"]).stdout).expect("JSON");
    assert_eq!((&json["supervisor"], &json["problems"][0]["line"]), (&json!(false), &json!(1)));
}

#[test]
fn a_user_hears_of_their_own_refusals_and_of_no_tenant_without_a_grant() {
    let name = std::env::var("TENANTD_TEST_USER").ok().filter(|_| geteuid().is_root());
    let Some(user) = name.and_then(|name| User::from_name(&name).expect("passwd")) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "set TENANTD_TEST_USER: in CI nothing is skipped"
        );
        return eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    };
    let home = Home::system();
    let shouts = tenant("/bin/sh".as_ref(), &["-c", "echo secret >&2; exit 3"]);
    let grant = format!("[quota]\nsessions = 1\n[[grant]]\nusers = [\"root\", {:?}]\n", user.name);
    home.tenant("mine", &format!("{shouts}{grant}"));
    home.tenant("others", &format!("{}[[grant]]\nusers = [\"root\"]\n", documents_tenant()));
    let supervisor = home.start_system();
    let as_root = |arguments: &[&str]| {
        let mut command = Command::new(tenantd());
        command.args(arguments).env("TENANTD_HOME", home.path()).current_dir("/");
        command.stdin(Stdio::null()).output().expect("started")
    };
    let mut session = Session::spawn(home.command(&["connect", "--system", "mine"]));
    session.ask("initialize", json!({}));
    let of = |output: Output| -> Value { serde_json::from_slice(&output.stdout).expect("JSON") };
    let until = |wanted: &dyn Fn(&Value) -> bool| {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let all = of(as_root(&["why", "--system", "mine", "--json"]));
            if wanted(&all) {
                return all;
            }
            assert!(Instant::now() < deadline, "it never came to be so: {all}");
        }
    };
    until(&|all| all["tenant"]["sessions"].as_array().is_some_and(|open| open.len() == 1));
    // One is open: root is refused by the quota, and so is the user, who also tries another's tenant.
    assert_eq!(as_root(&["connect", "--system", "mine"]).status.code(), Some(69));
    assert_eq!(home.run(&["connect", "--system", "mine"]).status.code(), Some(69));
    assert_eq!(home.run(&["connect", "--system", "others"]).status.code(), Some(77));
    let users = |why: &Value| {
        let lines = why["refusals"].as_array().expect("lines").iter();
        lines.map(|line| line["user"].as_str().expect("a user").to_owned()).collect::<Vec<_>>()
    };
    let all = until(&|all| all["stderr"].to_string().contains("secret"));
    assert_eq!(users(&all), ["root", &user.name]);
    let own = of(home.run(&["why", "--system", "mine", "--json"]));
    assert_eq!(users(&own), [&*user.name]);
    assert!(!own.to_string().contains("secret"), "{own}");
    assert_eq!(users(&of(as_root(&["why", "--system", "others", "--json"]))), [&*user.name]);
    let blank = |name: &str| {
        let output = home.run(&["why", "--system", name]);
        (
            output.status,
            String::from_utf8_lossy(&output.stderr).replace(name, "NAME"),
            output.stdout,
        )
    };
    assert_eq!(blank("others"), blank("nosuch"));
    supervisor.stop();
}
