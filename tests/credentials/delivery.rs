//! A server finds its secrets in its environment and as files, and starts with all of them or not at all.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::house::{is_root, keep_in_files, set, set_as_root, shell, with};
use crate::support::{DEADLINE, Era, Home, Session, Supervisor, as_test_user, tenantd, test_user};

const TOKEN: &str = "name = \"token\"\nenv = \"API_TOKEN\"";
const CERT: &str = "name = \"cert\"\nfile = \"cert.pem\"";
const MINE: &str = "name = \"mine\"\nenv = \"MY_TOKEN\"\nscope = \"user\"";
/// How a server sees its file, and that it cannot change it.
const LOOK: &str = "cd \"$CREDENTIALS_DIRECTORY\"; ls; cat cert.pem; stat -c '%a' cert.pem; \
    stat -c %u cert.pem | grep -qx $(id -u) && echo own; cat cert.pem > new; rm cert.pem; chmod 600 cert.pem";

fn assert_delivered(session: &mut Session) {
    session.open(Era::Legacy);
    assert_eq!(shell(session, "printf %s \"$API_TOKEN\""), "s3cr3t token");
    let seen = shell(session, LOOK);
    assert!(seen.starts_with("cert.pem\na key\n400\nown\n"), "{seen}");
    assert_eq!(seen.matches("Read-only file system").count(), 3, "{seen}");
    let mounted = shell(session, "grep ' /run/credentials ' /proc/self/mountinfo");
    for option in ["ro,", "nosuid", "nodev", "noexec", "tmpfs", "size="] {
        assert!(mounted.contains(option), "{option}: {mounted}");
    }
}

#[test]
fn a_server_finds_its_secrets_where_its_file_says() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &with(&[TOKEN, CERT], ""));
    let supervisor = home.start();
    set(&home, &["acme", "token"], b"s3cr3t token");
    set(&home, &["acme", "cert"], b"a key\n\n");
    let mut session = supervisor.connect("acme");
    assert_delivered(&mut session);
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

#[test]
fn a_server_of_a_system_finds_its_secrets_as_well() {
    if !is_root() {
        return;
    }
    let user = test_user().expect("TENANTD_TEST_USER");
    let home = Home::system();
    keep_in_files(&home, true);
    let grant = format!("[[grant]]\nusers = [{:?}]\n", user.name);
    home.tenant("acme", &format!("{}{grant}", with(&[TOKEN, CERT], "")));
    let supervisor = home.start_system();
    set_as_root(&home, &["acme", "token"], b"s3cr3t token");
    set_as_root(&home, &["acme", "cert"], b"a key\n\n");
    let mut session = Session::spawn(home.command(&["connect", "--system", "acme"]));
    assert_delivered(&mut session);
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

#[test]
fn a_server_without_its_secret_waits_for_it_and_starts_by_itself() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &with(&[TOKEN], ""));
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let status = session.call("tenantd_status", json!({}));
    let text = status.to_string();
    assert!(text.contains("tenantd credential set acme token"), "{text}");
    set(&home, &["acme", "token"], b"s3cr3t token");
    session.recv_method("notifications/tools/list_changed");
    assert_eq!(shell(&mut session, "printf %s \"$API_TOKEN\""), "s3cr3t token");
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

/// A value that a torn file would give away.
fn large(letter: char) -> String {
    format!("{letter}{}{letter}", "x".repeat(60_000))
}

#[test]
fn a_file_is_replaced_in_one_step_while_the_server_runs() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &with(&[CERT], ""));
    let supervisor = home.start();
    set(&home, &["acme", "cert"], large('a').as_bytes());
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    let before = home.server("acme").pid;
    let watch = "cd $CREDENTIALS_DIRECTORY; while :; do v=$(cat cert.pem) || exit 1; case \"$v\" in a*a) ;; \
        b*b) echo new ${#v}; exit;; *) echo torn ${#v}; exit;; esac; done";
    let arguments = json!({"program": ["sh", "-c", watch], "input": ""});
    let asked = session.ask("tools/call", json!({"name": "run", "arguments": arguments}));
    set(&home, &["acme", "cert"], large('b').as_bytes());
    let answer = session.answer(&asked).to_string();
    assert!(answer.contains("new 60002"), "{answer}");
    assert_eq!(shell(&mut session, "ls -A $CREDENTIALS_DIRECTORY"), "cert.pem\n");
    assert_eq!(home.server("acme").pid, before, "it was started anew");
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

#[test]
fn a_server_with_a_secret_in_its_environment_is_started_anew_with_the_next() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &with(&[TOKEN], ""));
    let supervisor = home.start();
    set(&home, &["acme", "token"], b"first value");
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    assert_eq!(shell(&mut session, "printf %s \"$API_TOKEN\""), "first value");
    let before = home.server("acme");
    set(&home, &["acme", "token"], b"second value");
    assert!(before.ends_within(DEADLINE), "it runs on with the old value");
    assert_eq!(shell(&mut session, "printf %s \"$API_TOKEN\""), "second value");
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

#[test]
fn what_the_server_writes_to_stderr_holds_no_secret() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &with(&[TOKEN, CERT], ""));
    let supervisor = home.start();
    set(&home, &["acme", "token"], b"t0ken-of-acme");
    set(&home, &["acme", "cert"], b"f1rst-value-of-cert");
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    let tell = "exec > /proc/$PPID/fd/2; echo \"token $API_TOKEN.\"; printf %s $API_TOKEN | base64; \
        echo \"file $(cat $CREDENTIALS_DIRECTORY/cert.pem).\"; echo this is plain";
    shell(&mut session, tell);
    set(&home, &["acme", "cert"], b"s3cond-value-of-cert");
    let both = "while ! grep -q s3cond $CREDENTIALS_DIRECTORY/cert.pem; do :; done; exec > /proc/$PPID/fd/2; \
        echo \"now $(cat $CREDENTIALS_DIRECTORY/cert.pem).\"; echo old f1rst-value-of-cert.; echo the end";
    shell(&mut session, both);
    assert_eq!(session.close().code(), Some(0));
    let log = until_logged(&home, "the end");
    for said in [
        "token [redacted: token].",
        "file [redacted: cert].",
        "this is plain",
        "now [redacted: cert].",
        "old [redacted: cert].",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    for value in ["t0ken-of", "dDBrZW4t", "f1rst-value", "s3cond-value"] {
        assert!(!log.contains(value), "{value}: {log}");
    }
    supervisor.stop();
}

/// Asks why the server does not run until this is said.
fn until_told(session: &mut Session, why: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let status = session.call("tenantd_status", json!({})).to_string();
        if status.contains(why) {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
}

/// The tenant's server log, as soon as this is in it.
fn until_logged(home: &Home, text: &str) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let output = home.run(&["logs", "acme"]);
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        if log.contains(text) {
            return log;
        }
        assert!(Instant::now() < deadline, "{log}");
    }
}

#[test]
fn each_user_has_their_own() {
    if !is_root() {
        return;
    }
    let user = test_user().expect("TENANTD_TEST_USER");
    let home = Home::system();
    keep_in_files(&home, true);
    let grant = format!("[[grant]]\nusers = [{:?}, \"root\"]\n", user.name);
    home.tenant("acme", &format!("{}{grant}", with(&[MINE], "share = \"user\"")));
    let supervisor = home.start_system();
    let mut theirs = Session::spawn(home.command(&["connect", "--system", "acme"]));
    theirs.initialize(json!({}));
    set_as_root(&home, &["acme", "mine"], b"root's own");
    let mut command = Command::new(tenantd());
    command.args(["connect", "--system", "acme"]).env("TENANTD_HOME", home.path());
    let mut roots = Session::spawn_as_is(command);
    roots.open(Era::Legacy);
    assert_eq!(shell(&mut roots, "printf %s \"$MY_TOKEN\""), "root's own");
    until_told(&mut theirs, "tenantd credential set acme mine");
    set(&home, &["--system", "acme", "mine"], b"the user's own");
    theirs.recv_method("notifications/tools/list_changed");
    assert_eq!(shell(&mut theirs, "printf %s \"$MY_TOKEN\""), "the user's own");
    assert_eq!(shell(&mut roots, "printf %s \"$MY_TOKEN\""), "root's own");
    for session in [theirs, roots] {
        assert_eq!(session.close().code(), Some(0));
    }
    supervisor.stop();
}

/// What `tenantd status --json` says of the supervisor's tenants, and what is in every file of the home.
pub(crate) fn shown(home: &Home) -> Vec<(String, Vec<u8>)> {
    let status: Value = home.status();
    let mut all = vec![("status".to_owned(), status.to_string().into_bytes())];
    let mut next = vec![home.path().to_owned()];
    while let Some(directory) = next.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => next.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = fs::read(&path).unwrap_or_default();
                    all.push((path.display().to_string(), bytes));
                }
                _ => {}
            }
        }
    }
    all
}

/// A supervisor on a machine that lets nobody make namespaces.
fn start_without_namespaces(home: &Home) -> Supervisor<'_> {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
        exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh"]);
    command.arg(tenantd()).args(["serve", "--user"]);
    command.env("TENANTD_HOME", home.path()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    as_test_user(&mut command);
    home.launch(command)
}

/// The file of a tenant that does without namespaces.
fn bare(credentials: &[&str]) -> String {
    with(credentials, "").replace("\"namespaces\", ", "")
}

#[test]
fn without_namespaces_a_server_has_its_environment_and_is_kept_out_of_its_log() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &bare(&[TOKEN]));
    home.tenant("files", &bare(&[CERT]));
    let supervisor = start_without_namespaces(&home);
    set(&home, &["acme", "token"], b"t0ken-of-acme");
    set(&home, &["files", "cert"], b"a key");
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    assert_eq!(shell(&mut session, "printf %s ${#API_TOKEN}"), "13");
    let server = session.call("environment", json!({}));
    assert!(server.to_string().contains("API_TOKEN"), "{server}");
    let tell = "exec > /proc/$PPID/fd/2; echo \"token $API_TOKEN.\"; echo the end";
    shell(&mut session, tell);
    let log = until_logged(&home, "the end");
    assert!(log.contains("token [redacted: token].") && !log.contains("t0ken-of"), "{log}");
    assert_eq!(session.close().code(), Some(0));
    let mut session = supervisor.connect("files");
    session.initialize(json!({}));
    until_told(&mut session, "needs namespaces");
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

#[test]
fn a_server_that_another_supervisor_started_is_started_anew_with_the_next_value() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &with(&[CERT], ""));
    let supervisor = home.start();
    set(&home, &["acme", "cert"], b"first value");
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    let before = home.server("acme");
    supervisor.kill();
    let supervisor = home.start();
    assert_eq!(shell(&mut session, "cat $CREDENTIALS_DIRECTORY/cert.pem"), "first value");
    set(&home, &["acme", "cert"], b"second value");
    assert!(before.ends_within(DEADLINE), "it runs on with the old value");
    assert_eq!(shell(&mut session, "cat $CREDENTIALS_DIRECTORY/cert.pem"), "second value");
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}

#[test]
fn a_server_whose_secret_is_removed_does_not_go_on_with_it() {
    let home = Home::new();
    keep_in_files(&home, false);
    home.tenant("acme", &with(&[CERT], ""));
    let supervisor = home.start();
    set(&home, &["acme", "cert"], b"a value");
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    shell(&mut session, "test -s $CREDENTIALS_DIRECTORY/cert.pem");
    let before = home.server("acme");
    assert!(home.run(&["credential", "remove", "acme", "cert"]).status.success());
    assert!(before.ends_within(DEADLINE), "it runs on");
    until_told(&mut session, "tenantd credential set acme cert");
    assert_eq!(session.close().code(), Some(0));
    supervisor.stop();
}
