//! Where control groups are, seen from outside, and a supervisor that has some.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::support::{DEADLINE, Era, Home, Session, puppet_tenant, tenantd};

/// A home whose supervisor is root's and has control groups; `None`, said loudly, where there can be none.
pub(crate) fn home() -> Option<Home> {
    let there = geteuid().is_root() && hierarchy("memory").is_some() && hierarchy("pids").is_some();
    if !there {
        let ci = std::env::var_os("CI").is_some();
        assert!(!ci, "no control groups for root here: in CI nothing is skipped");
        eprintln!("SKIPPED: only root can divide control groups here (run tests/run as root)");
        return None;
    }
    Some(Home::system())
}

/// A puppet that root may use and that requires its limits.
pub(crate) fn bounded(quota: &str) -> String {
    let file = puppet_tenant(&[], "").replace("\"seccomp\"]", "\"seccomp\", \"cgroup\"]");
    format!("{file}[quota]\n{quota}\n[[grant]]\nusers = [\"root\"]\n")
}

/// The binary as root, whoever the other tests belong to.
fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(tenantd());
    command.args(arguments).env("TENANTD_HOME", home.path()).current_dir("/");
    command
}

/// What the supervisor says to root.
pub(crate) fn status(home: &Home) -> Value {
    let output = command(home, &["status", "--system", "--json"]).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What it says of a tenant, as soon as that is as wanted.
pub(crate) fn tenant_status(home: &Home, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    until(&format!("{id} as wanted"), || {
        let mut status = status(home);
        let tenants = status["tenants"].as_array_mut().expect("tenants");
        let it = tenants.iter_mut().find(|tenant| tenant["id"] == id).map(Value::take);
        found = it.unwrap_or_default();
        !found.is_null() && wanted(&found)
    });
    found
}

/// A session of root's.
pub(crate) fn connect(home: &Home, target: &str) -> Session {
    let mut session = Session::spawn_as_is(command(home, &["connect", "--system", target]));
    session.open(Era::Legacy);
    session
}

/// What a tenant's server says.
pub(crate) fn echo(session: &mut Session) -> Value {
    session.call("echo", json!({"text": "here"}))["content"][0]["text"].take()
}

/// The JSON that a tool of the puppet answered with.
pub(crate) fn told(result: &Value) -> Value {
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{result}"));
    serde_json::from_str(text).expect("JSON")
}

/// Where a v1 controller is mounted.
pub(crate) fn hierarchy(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - cgroup ")?;
        let named = after.rsplit([' ', ',']).any(|option| option == controller);
        named.then(|| before.split(' ').nth(4).expect("a place").into())
    })
}

/// Where a process is in the tree of a v1 controller.
pub(crate) fn group_of(pid: u64, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let named = fields.next()?.split(',').any(|name| name == controller);
        fields.next().filter(|_| named)
    });
    let path = path.expect("a group").trim_start_matches('/');
    hierarchy(controller).expect("mounted").join(path)
}

/// The tenant's own group, which its mux is below.
pub(crate) fn tenant_group(home: &Home, tenant: &str, controller: &str) -> PathBuf {
    let status = tenant_status(home, tenant, |status| !status["mux_pid"].is_null());
    let mux = group_of(status["mux_pid"].as_u64().expect("a pid"), controller);
    assert!(mux.ends_with(format!("{tenant}/mux")), "{}", mux.display());
    mux.parent().expect("a tenant").to_owned()
}

/// Waits until the supervisor's log holds this.
pub(crate) fn until_logged(home: &Home, wanted: &str) {
    let logged = || {
        let files = fs::read_dir(home.path().join("log")).expect("a log").flatten();
        files
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .any(|log| log.contains(wanted))
    };
    until(wanted, logged);
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
