//! System mode as its users meet it: root's supervisor, sockets that everybody may knock at, and grants.
//! Only root can be several users, so that these tests are skipped, loudly, for anybody else.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
use serde_json::{Value, json};
use support::{Era, Home, Session, documents_tenant, puppet_tenant, tenantd};

/// The overflow uid, which every unmapped user looks like.
const OVERFLOW: u32 = 65_534;
/// In the default `uid_range`.
const RESERVED: u32 = 1_900_000_123;

/// The unprivileged user of these tests.
fn user() -> Option<User> {
    let name = std::env::var("TENANTD_TEST_USER").ok().filter(|_| geteuid().is_root());
    let user = name.and_then(|name| User::from_name(&name).expect("passwd"));
    if user.is_none() {
        let root_in_ci = geteuid().is_root() && std::env::var_os("CI").is_some();
        assert!(!root_in_ci, "set TENANTD_TEST_USER: in CI nothing is skipped");
        eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    }
    user
}

fn granted(key: &str, who: &str) -> String {
    format!("{}[[grant]]\n{key} = [{who:?}]\n", documents_tenant())
}

fn connect(home: &Home, target: &str) -> Session {
    Session::spawn(home.command(&["connect", "--system", target]))
}

fn assert_opens(home: &Home, target: &str) {
    let mut session = connect(home, target);
    session.open(Era::Modern);
    assert_eq!(session.call("echo", json!({"text": target}))["content"][0]["text"], target);
    assert_eq!(session.close().code(), Some(0));
}

/// What `initialize` is refused with, and the exit code.
fn refused(home: &Home, target: &str) -> (String, Option<i32>) {
    let mut session = connect(home, target);
    let error = session.initialize(json!({}))["error"].take();
    let message = error["message"].as_str().unwrap_or_else(|| panic!("{target}: {error}"));
    (message.to_owned(), session.close().code())
}

/// A session of root's, with pipes of root's.
fn connect_as_root(home: &Home, target: &str) -> Session {
    let mut command = Command::new(tenantd());
    command.args(["connect", "--system", target]).env("TENANTD_HOME", home.path());
    command.current_dir("/");
    Session::spawn_as_is(command)
}

/// The binary as somebody else.
fn run_as(home: &Home, uid: u32, arguments: &[&str]) -> Output {
    let mut command = Command::new(tenantd());
    command.args(arguments).env("TENANTD_HOME", home.path()).current_dir("/");
    command.uid(uid).gid(uid).stdin(Stdio::null()).output().expect("started")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn grants_name_users_and_groups_by_name_and_by_number() {
    let Some(user) = user() else { return };
    let group = nix::unistd::Group::from_gid(user.gid).expect("group").expect("it is there");
    let home = Home::system();
    home.tenant("by-name", &granted("users", &user.name));
    home.tenant("by-uid", &granted("users", &user.uid.to_string()));
    home.tenant("by-group", &granted("groups", &group.name));
    home.tenant("by-gid", &granted("groups", &user.gid.to_string()));
    let supervisor = home.start_system();
    for tenant in ["by-name", "by-uid", "by-group", "by-gid"] {
        assert_opens(&home, tenant);
    }
    supervisor.stop();
}

#[test]
fn a_tenant_without_a_grant_looks_like_none() {
    let Some(user) = user() else { return };
    let home = Home::system();
    home.tenant("mine", &granted("users", &user.name));
    home.tenant("others", &granted("users", "root"));
    home.tenant("broken", "=\n");
    home.tenant("asleep", &format!("status = \"suspended\"\n{}", granted("users", "root")));
    let supervisor = home.start_system();
    let blank = |name: &str| {
        let (message, code) = refused(&home, name);
        (message.replace(name, "NAME"), code)
    };
    let unknown = blank("nosuch");
    assert_eq!(unknown.1, Some(77));
    for secret in ["others", "broken", "asleep"] {
        assert_eq!(blank(secret), unknown, "{secret}");
        assert_eq!(blank(&format!("{secret}/main")).1, unknown.1, "{secret}");
        let call = home.run(&["call", "--system", secret, "echo"]);
        let none = home.run(&["call", "--system", "nosuch", "echo"]);
        assert_eq!(call.status, none.status);
        assert_eq!(stderr(&call).replace(secret, "nosuch"), stderr(&none));
    }
    let status = home.run(&["status", "--system", "--json"]);
    let text = String::from_utf8(status.stdout).expect("UTF-8");
    let seen: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(seen["tenants"].as_array().map(Vec::len), Some(1), "{text}");
    assert_eq!(seen["tenants"][0]["id"], "mine");
    for secret in ["others", "broken", "asleep"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    supervisor.stop();
}

#[test]
fn admin_methods_need_an_admin() {
    let Some(user) = user() else { return };
    let home = Home::system();
    home.tenant("mine", &granted("users", &user.name));
    let supervisor = home.start_system();
    for method in [
        &["reload", "--system"][..],
        &["restart", "--system", "mine"],
        &["stop", "--system"],
        &["restart", "--system", "--supervisor"],
    ] {
        let output = home.run(method);
        assert_eq!(output.status.code(), Some(77), "{method:?}");
        assert!(stderr(&output).contains("needs an administrator"), "{}", stderr(&output));
    }
    home.settings(&format!("admins = [{:?}]\n", user.name));
    let reload = run_as(&home, 0, &["reload", "--system"]);
    assert!(reload.status.success(), "{}", stderr(&reload));
    let reload = home.run(&["reload", "--system"]);
    assert!(reload.status.success(), "{}", stderr(&reload));
    supervisor.stop();
}

#[test]
fn nobodies_are_refused_whatever_is_granted_to_them() {
    if user().is_none() {
        return;
    }
    let home = Home::system();
    let grant = format!("{}[[grant]]\nusers = [\"65534\", \"{RESERVED}\"]\n", documents_tenant());
    home.tenant("acme", &grant);
    let supervisor = home.start_system();
    for uid in [OVERFLOW, RESERVED] {
        let output = run_as(&home, uid, &["connect", "--system", "acme"]);
        assert_eq!(output.status.code(), Some(77), "{uid}: {}", stderr(&output));
        assert!(stderr(&output).contains(&uid.to_string()), "{}", stderr(&output));
        let status = run_as(&home, uid, &["status", "--system", "--json"]);
        assert!(!status.status.success(), "{uid}: {}", String::from_utf8_lossy(&status.stdout));
    }
    supervisor.stop();
}

#[test]
fn a_grant_that_goes_takes_its_session_along() {
    let Some(user) = user() else { return };
    let home = Home::system();
    home.tenant("acme", &granted("users", &user.name));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    session.open(Era::Modern);
    session.call("echo", json!({"text": "x"}));
    let since = Instant::now();
    home.tenant("acme", &granted("users", "root"));
    assert_eq!(session.wait().code(), Some(77), "{}", session.stderr());
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(session.stderr().contains("grant"), "{}", session.stderr());
    home.tenant("acme", &granted("users", &user.name));
    assert!(run_as(&home, 0, &["reload", "--system"]).status.success());
    assert_opens(&home, "acme");
    supervisor.stop();
}

#[test]
fn what_a_shared_modern_server_gave_one_user_no_other_user_can_bring_it() {
    let Some(user) = user() else { return };
    let home = Home::system();
    let tenant = puppet_tenant(&[("PUPPET_ERA", "modern")], "share = \"tenant\"");
    let grant = format!("{tenant}[[grant]]\nusers = [{:?}, \"root\"]\n", user.name);
    home.tenant("acme", &grant);
    let supervisor = home.start_system();
    let (mut mine, mut other) = (connect(&home, "acme"), connect_as_root(&home, "acme"));
    for session in [&mut mine, &mut other] {
        session.open(Era::Modern);
    }
    let process = |session: &mut Session| {
        let found = session.call("environment", json!({}));
        let text = found["content"][0]["text"].as_str().expect("text");
        let found: Value = serde_json::from_str(text).expect("JSON");
        found["process"].as_str().expect("a name").to_owned()
    };
    assert_eq!(process(&mut mine), process(&mut other), "one server for both");

    let able = json!({
        "elicitation": {"form": {}},
        "extensions": {"io.modelcontextprotocol/tasks": {}},
    });
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": able});
    let call = json!({"name": "input", "arguments": {}, "_meta": meta});
    let asked = mine.result("tools/call", call.clone());
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let mut retry = call;
    retry["requestState"] = asked["requestState"].clone();
    retry["inputResponses"] = json!({"name": {"action": "accept", "content": {"name": "x"}}});
    let refused = other.request("tools/call", retry.clone());
    assert_eq!(refused["error"]["data"]["reason"], "request-state", "{refused}");
    assert_eq!(mine.result("tools/call", retry)["resultType"], "complete");

    let call = json!({"name": "durable", "arguments": {"text": "mine"}, "_meta": meta});
    let task = mine.result("tools/call", call)["taskId"].take();
    let get = json!({"taskId": task, "_meta": meta});
    let refused = other.request("tasks/get", get.clone());
    assert_eq!(refused["error"]["data"]["reason"], "unknown-task", "{refused}");
    assert_eq!(mine.result("tasks/get", get)["status"], "completed");
    supervisor.stop();
}

#[test]
fn only_the_sockets_are_open_to_others() {
    let Some(user) = user() else { return };
    let home = Home::system();
    home.tenant("acme", &granted("users", &user.name));
    let supervisor = home.start_system();
    assert_opens(&home, "acme");
    let table = std::fs::read_to_string(home.path().join("state/uids.json")).expect("a table");
    let table: Value = serde_json::from_str(&table).expect("JSON");
    let server = table["tenants"]["acme"]["server"].as_u64().expect("a uid");
    let cases = [
        ("run", 0o755),
        ("run/session.sock", 0o666),
        ("run/tenantd.sock", 0o666),
        ("run/cells", 0o700),
        ("state/tenants", 0o711),
        ("state/tenants/acme", 0o711),
        ("state/uids.json", 0o600),
        ("state/tenants/acme/data", 0o700),
        ("state/tenants/acme/home", 0o700),
        ("log", 0o700),
    ];
    for (below, mode) in cases {
        let meta = home.path().join(below).metadata().expect("it is there");
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{below}");
        let owner = if below.contains("acme/") { server } else { 0 };
        assert_eq!(u64::from(meta.uid()), owner, "{below}");
    }
    supervisor.stop();
}
