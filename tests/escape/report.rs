//! `tenantd doctor`: the report that an auditor files, and what it says of this machine.

use std::collections::BTreeSet;
use std::process::Output;

use nix::unistd::geteuid;
use serde_json::Value;

use super::{as_root, strict_tenant};
use crate::support::{Home, documents_tenant, test_user};

/// What the system's tenants have no one of: a person whose supervisor it is, a file in these tests, and a limit
/// of memory beside their group's.
const NOBODYS: [&str; 6] = [
    "files.other-file-read",
    "files.person-keys",
    "files.person-listed",
    "files.person-profile",
    "limits.memory",
    "network.session-bus",
];

/// Without a control group for this user there is none to hold anything; with one no process has a limit of
/// its own.
const UNBOUNDED: [&str; 1] = ["groups.processes"];
const BOUNDED: [&str; 1] = ["limits.memory"];

/// The report's body, after a look at its digest.
fn body(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{shown}"));
    let body = text.split_once("{\"body\":").expect("a body").1;
    let body = body.rsplit_once(",\"blake3\":").expect("a digest").0;
    assert_eq!(report["blake3"], blake3::hash(body.as_bytes()).to_string());
    report["body"].clone()
}

fn with_verdict<'a>(body: &'a Value, verdict: &str) -> BTreeSet<&'a str> {
    let probes = body["probes"].as_array().expect("probes").iter();
    let of = probes.filter(|probe| probe["verdict"] == verdict);
    of.map(|probe| probe["id"].as_str().expect("an id")).collect()
}

/// Nothing is open, and what is blocked is blocked by the sandbox: at least `bite` probes work without it.
fn assert_isolated(output: &Output, bite: usize, untried: &[&str]) -> Value {
    let body = body(output);
    assert_eq!(with_verdict(&body, "open"), BTreeSet::new(), "{body}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(body["verdict"], "isolated");
    assert_eq!(with_verdict(&body, "not-tried"), untried.iter().copied().collect());
    let accepted = with_verdict(&body, "accepted");
    let known = ["files.symlink-planted", "network.netlink", "programs.memfd"];
    assert_eq!(accepted, BTreeSet::from(known));
    let stopped = with_verdict(&body, "stopped");
    assert!(stopped.len() >= bite, "only {} work without a sandbox: {stopped:?}", stopped.len());
    body
}

#[test]
fn nothing_is_open_between_two_tenants_of_one_user_and_the_same_probes_work_without_a_sandbox() {
    let home = Home::new();
    for tenant in ["acme", "globex"] {
        home.tenant(tenant, &strict_tenant("", ""));
    }
    home.directory("state/tenants/globex/data");
    home.file("state/tenants/globex/data/ledger", "not yours\n");
    let supervisor = home.start();
    let output = home.run(&["doctor", "--isolation", "acme", "globex", "--json"]);
    let bounded = home.status()["supervisor"]["limits"].to_string().starts_with("\"cgroup");
    let body = assert_isolated(&output, 90, if bounded { &BOUNDED } else { &UNBOUNDED });
    let stopped = with_verdict(&body, "stopped");
    // One of each kind, so that none can be lost unseen.
    for id in [
        "files.other-file-read",
        "files.symlink-followed",
        "programs.set-user-id",
        "programs.mark-open",
        "processes.server-environment",
        "processes.secrets",
        "processes.supervisor-signalled",
        "network.loopback-tcp",
        "network.abstract",
        "network.socket-control",
        "network.vsock",
        "ipc.shared-memory",
        "ipc.key-found",
        "ipc.own-keyring",
        "ipc.descriptors",
        "namespaces.user-made",
        "kernel.io-uring",
        "privileges.filter",
        "privileges.gained",
        "privileges.landlock",
        "limits.tmp",
        "groups.named",
    ] {
        assert!(stopped.contains(id), "{id}: {stopped:?}");
    }
    let text = home.run(&["doctor", "--isolation", "acme", "globex"]);
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    let (above, last) = text.trim_end().rsplit_once('\n').expect("lines");
    assert!(last.ends_with(&blake3::hash(format!("{above}\n").as_bytes()).to_string()), "{last}");
    assert!(text.starts_with("isolated: 0 open, ") && !text.contains("not yours"), "{text}");
    supervisor.stop();
}

#[test]
fn nothing_is_open_between_two_tenants_of_the_system() {
    if test_user().is_none() {
        assert!(
            !geteuid().is_root() || std::env::var_os("CI").is_none(),
            "in CI nothing is skipped"
        );
        return eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    }
    let home = Home::system();
    for tenant in ["acme", "globex"] {
        let grant = "[[grant]]\nusers = [\"root\"]\n";
        home.tenant(
            tenant,
            &strict_tenant("require = [\"namespaces\", \"landlock\", \"seccomp\"]", grant),
        );
    }
    let supervisor = home.start_system();
    let output = as_root(&home, &["doctor", "--system", "--isolation", "acme", "globex", "--json"]);
    let body = assert_isolated(&output, 45, &NOBODYS);
    assert_ne!(body["uid"], 0, "servers of the system have users of their own");
    // Of root's making, so that in CI there is always one to be tried.
    assert!(with_verdict(&body, "stopped").contains("groups.processes"), "{body}");
    supervisor.stop();
}

#[test]
fn nothing_is_open_even_where_the_user_is_root() {
    if !geteuid().is_root() {
        return eprintln!("SKIPPED: only root is root (run tests/run as root)");
    }
    // What stops this user is the sandbox alone: no mode of a file does.
    let home = Home::system();
    for tenant in ["acme", "globex"] {
        home.tenant(tenant, &strict_tenant("", ""));
    }
    let mut serve = std::process::Command::new(crate::support::tenantd());
    serve.args(["serve", "--user"]).env("TENANTD_HOME", home.path()).current_dir("/");
    serve.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let supervisor = home.launch(serve);
    let output = as_root(&home, &["doctor", "--user", "--isolation", "acme", "globex", "--json"]);
    let body = body(&output);
    assert_eq!(with_verdict(&body, "open"), BTreeSet::new(), "{body}");
    assert_eq!((&body["uid"], output.status.code()), (&Value::from(0), Some(0)), "{body}");
    // As root everything would work without a sandbox, so that nobody tries.
    assert!(body["no_comparison"].is_string(), "{body}");
    assert!(with_verdict(&body, "refused").len() >= 150, "{body}");
    supervisor.stop();
}

#[test]
fn only_an_admin_probes_and_only_two_tenants_that_are_there() {
    let Some(user) = test_user() else {
        return eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    };
    let home = Home::system();
    let grant = format!("[[grant]]\nusers = [{:?}]\n", user.name);
    for tenant in ["acme", "globex"] {
        home.tenant(tenant, &format!("{}{grant}", documents_tenant()));
    }
    let supervisor = home.start_system();
    let refused = home.run(&["doctor", "--system", "--isolation", "acme", "globex"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(77), "{why}");
    assert!(why.contains("needs an administrator"), "{why}");
    for (pair, code) in [(["acme", "acme"], 64), (["acme", "nosuch"], 77)] {
        let output = as_root(&home, &["doctor", "--system", "--isolation", pair[0], pair[1]]);
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    }
    supervisor.stop();
}

#[test]
fn the_machine_is_said_to_be_fit_by_what_was_tried() {
    let home = Home::new();
    let output = home.run(&["doctor", "--user", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let layers = found["layers"].as_array().expect("layers");
    let good =
        |name: &str| layers.iter().any(|layer| layer["name"] == name && layer["good"] == true);
    let strict = ["namespaces", "landlock", "seccomp"].iter().all(|name| good(name));
    assert_eq!(found["strict"], strict, "{found}");
    assert_eq!(output.status.code(), Some(if strict { 0 } else { 1 }));
    for fact in layers.iter().chain(found["machine"].as_array().expect("facts")) {
        assert!(fact["good"] == true || fact["cure"].is_string(), "{fact}");
    }
    // What says no to the stage says no to `doctor`: one process is not enough for it.
    let mut poor = std::process::Command::new("prlimit");
    poor.args(["--nproc=1:1", "--"])
        .arg(crate::support::tenantd())
        .args(["doctor", "--user", "--json"]);
    poor.env("TENANTD_HOME", home.path()).current_dir("/");
    let output = crate::support::as_test_user(&mut poor).output().expect("prlimit runs");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&found["strict"], output.status.code()), (&Value::Bool(false), Some(1)), "{found}");
}
