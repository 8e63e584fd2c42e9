//! System mode: who everything of a tenant runs as. Only root can be several users, so that these tests are
//! skipped, loudly, for anybody else.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod cells;
mod lent;
mod processes;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use support::{Held, Home, Session, Supervisor, puppet_tenant, tenantd};

/// The default `uid_range`.
const RANGE: (u32, u32) = (1_900_000_000, 1_900_065_535);

/// Whether there is somebody to be.
fn root() -> bool {
    let is = support::test_user().is_some();
    if !is {
        let root_in_ci = nix::unistd::geteuid().is_root() && std::env::var_os("CI").is_some();
        assert!(!root_in_ci, "set TENANTD_TEST_USER: in CI nothing is skipped");
        eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    }
    is
}

/// A tenant file that the unprivileged user may use.
fn granted(tenant: &str) -> String {
    let user = support::test_user().expect("asked before");
    format!("{tenant}[[grant]]\nusers = [{:?}]\n", user.name)
}

/// A tenant whose server is this script, run in its data directory with its tenant; it speaks to nobody.
fn script_tenant(script: &str, sandbox: &str) -> String {
    let script = format!("{script}\nexec sleep 60");
    let shell = Path::new("/bin/sh").canonicalize().expect("a shell");
    let server = support::tenant_with(&shell, &["-c", &script], "start = \"always\"");
    granted(&format!("{server}{sandbox}\n"))
}

/// What the supervisor wrote into its log.
fn log(home: &Home) -> String {
    let files = std::fs::read_dir(home.path().join("log")).expect("a directory").flatten();
    let files = files.map(|entry| entry.path()).filter(|path| path.is_file());
    files.map(|path| std::fs::read_to_string(path).expect("text")).collect()
}

fn connect(home: &Home, target: &str) -> Session {
    Session::spawn(home.command(&["connect", "--system", target]))
}

/// The three uids of a tenant, from the table.
fn uids(home: &Home, tenant: &str) -> [u32; 3] {
    let text = std::fs::read_to_string(home.path().join("state/uids.json")).expect("the table");
    let table: Value = serde_json::from_str(&text).expect("JSON");
    ["server", "mux", "egress"].map(|which| {
        let uid = table["tenants"][tenant][which].as_u64().expect("a uid");
        u32::try_from(uid).expect("32 bits")
    })
}

/// The whole status, as root sees it.
fn status(home: &Home) -> Value {
    let mut as_root = std::process::Command::new(tenantd());
    as_root.args(["status", "--system", "--json"]).env("TENANTD_HOME", home.path());
    let output = as_root.output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn tenant_status(home: &Home, tenant: &str) -> Value {
    let status = status(home);
    let tenants = status["tenants"].as_array().expect("tenants");
    tenants.iter().find(|it| it["id"] == tenant).unwrap_or_else(|| panic!("{status}")).clone()
}

/// /proc/PID/status, by key.
fn proc_status(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

/// The processes of a tenant, by name: its mux, and what is below a keeper.
fn family(supervisor: &Supervisor<'_>) -> Vec<Held> {
    supervisor.descendants()
}

fn owner(path: &Path) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let meta =
        path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (meta.uid(), meta.gid())
}

/// Runs the binary as root, here.
fn as_root(home: &Home, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(tenantd());
    command.args(arguments).env("TENANTD_HOME", home.path()).current_dir("/");
    command.stdin(std::process::Stdio::null()).output().expect("started")
}
