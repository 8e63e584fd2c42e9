//! The probes run by a real server, as a program that it starts: with what it has by then.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::unistd::geteuid;
use serde_json::Value;
use tenantd::probes::{
    Account, Brief, House, Known, Neighbour, Objects, Outcome, Planted, accepted, identify,
};

use super::{run, strict_tenant};
use crate::support::{Era, Home, Session, Supervisor, as_owner, tenantd, test_user};

/// A server of the tenant on which the probes can be run: it sees this program as well.
fn tenants(home: &Home, rest: &str) {
    let program = tenantd();
    // As a user's supervisor requires by default; not every machine has control groups to divide.
    let require = "require = [\"namespaces\", \"landlock\", \"seccomp\"]";
    home.tenant("acme", &strict_tenant(&format!("read = [{program:?}]\n{require}"), rest));
    home.tenant("globex", &strict_tenant(require, rest));
}

fn text(path: impl AsRef<std::path::Path>) -> Option<String> {
    path.as_ref().to_str().map(str::to_owned)
}

fn processes(
    home: &Home,
    supervisor: &Supervisor<'_>,
    other: &mut Session,
) -> BTreeMap<String, Known> {
    let status =
        home.tenant_status("globex", |tenant| tenant["servers"][0]["children"][0]["pid"].is_u64());
    let keeper = &status["servers"][0]["children"][0]["pid"];
    let number = |pid: &Value| pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    // Of the other server itself: its keeper's last descendant, which is in a namespace of its own.
    let below = crate::support::descendants(u32::try_from(number(keeper)).expect("a pid"));
    let server = below.iter().find(|held| held.name == "puppet").expect("the server").pid;
    other.call("echo", serde_json::json!({"text": "it lives"}));
    let all = [
        ("supervisor", i32::try_from(supervisor.pid()).expect("a pid")),
        ("mux", number(&status["mux_pid"])),
        ("keeper", number(keeper)),
        ("server", i32::try_from(server).expect("a pid")),
    ];
    let known = all.map(|(name, pid)| (name.to_owned(), identify(pid).expect("it runs")));
    known.into_iter().collect()
}

/// The servers' own data is not for who runs the test to look into, but for root.
fn give_a_ledger(home: &Home) {
    let path = home.data("globex").join("ledger");
    std::fs::write(path, "not yours\n").expect("written");
}

fn probed(home: &Home, supervisor: &Supervisor<'_>, sessions: [Session; 2]) -> Account {
    let [mut acme, mut globex] = sessions;
    let name = format!("tenantd-test-{}", std::process::id());
    let number = i32::try_from(std::process::id()).expect("a pid") | 0x7300_0000;
    // Made by the servers' own user, where that is not root.
    let _planted = as_owner(|| Planted::new(number, &name));
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listens = UnixListener::bind_addr(&address).expect("bound");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let namespace = |name: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace");
        (name.to_owned(), text(link).expect("text"))
    };
    let run_directory = home.path().join("run");
    let socket = |name: &str| text(run_directory.join(name)).expect("text");
    let brief = Brief {
        data: text(home.data("acme")),
        other: Neighbour {
            id: Some("globex".to_owned()),
            data: text(home.data("globex")),
            home: text(home.path().join("state/tenants/globex/home")),
            file: text(home.data("globex").join("ledger")),
        },
        house: House {
            runtime: text(&run_directory),
            config: text(home.path().join("config")),
            state: text(home.path().join("state/tenants")),
            log: text(home.path().join("log")),
        },
        processes: processes(home, supervisor, &mut globex),
        sockets: [("session", "session.sock"), ("control", "tenantd.sock")]
            .map(|(name, file)| (name.to_owned(), socket(file)))
            .into(),
        objects: Objects {
            tcp: Some(tcp.local_addr().expect("bound").port()),
            abstract_socket: Some(name.clone()),
            sysv: Some(number),
            mqueue: Some(name.clone()),
            key: Some(name),
            ..Objects::default()
        },
        outside: text(home.file("outside", "not yours")),
        // The environment of the other server, and of nobody in this sandbox.
        secret: Some("TENANTD_TENANT=globex".to_owned()),
        namespaces: ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"].map(namespace).into(),
        open_files_max: Some(1024),
        tmp_bytes: Some(64 << 20),
        ..Brief::default()
    };
    let program = [tenantd().to_str().expect("text"), "--role=probe"];
    let done = run(&mut acme, &program, &serde_json::to_string(&brief).expect("JSON"));
    let said = done["stdout"].as_str().unwrap_or_else(|| panic!("{done}"));
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {done}"))
}

fn assert_closed(account: &Account, tried: usize) {
    let open = account.findings.iter().filter(|it| it.outcome == Outcome::Open);
    let open: Vec<_> = open.filter(|it| accepted(&it.id).is_none()).collect();
    assert!(open.is_empty(), "{open:?}");
    // By the filter, whose word it is, and not by the limit of namespaces that stands behind it.
    let made = ["user-made", "user-cloned", "mount-made", "network-made"].map(|id| (id, "EPERM"));
    for (id, word) in made.into_iter().chain([("user-cloned-anew", "ENOSYS")]) {
        let id = format!("namespaces.{id}");
        let found = account.findings.iter().find(|it| it.id == id).expect("a finding");
        assert_eq!(found.detail, word, "{id}");
    }
    let blocked = account.findings.iter().filter(|it| it.outcome == Outcome::Blocked).count();
    assert!(blocked >= tried, "only {blocked} were tried: {account:?}");
}

#[test]
fn what_a_server_of_a_user_starts_finds_every_way_out_closed() {
    assert_closed_to_users(&Home::new());
}

#[test]
fn where_bubblewrap_makes_the_user_namespaces_they_are_as_closed() {
    assert_closed_to_users(&Home::with_bubblewrap());
}

fn assert_closed_to_users(home: &Home) {
    tenants(home, "");
    // Whoever starts a supervisor may have left something open.
    let left = rustix::io::dup(std::io::stdin()).expect("a copy");
    rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).expect("set");
    let supervisor = home.start();
    let sessions = ["acme", "globex"].map(|tenant| {
        let mut session = supervisor.connect(tenant);
        session.open(Era::Legacy);
        session
    });
    give_a_ledger(home);
    assert_closed(&probed(home, &supervisor, sessions), 160);
    supervisor.stop();
}

#[test]
fn what_a_server_of_the_system_starts_finds_every_way_out_closed() {
    let Some(user) = test_user() else {
        let skipped = geteuid().is_root() && std::env::var_os("CI").is_some();
        assert!(!skipped, "in CI nothing is skipped");
        return eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    };
    let home = Home::system();
    tenants(&home, &format!("[[grant]]\nusers = [\"root\", {:?}]\n", user.name));
    let supervisor = home.start_system();
    let sessions = ["acme", "globex"].map(|tenant| {
        let mut command = std::process::Command::new(tenantd());
        command.args(["connect", "--system", tenant]).env("TENANTD_HOME", home.path());
        let mut session = Session::spawn_as_is(command);
        session.open(Era::Legacy);
        session
    });
    give_a_ledger(&home);
    assert_closed(&probed(&home, &supervisor, sessions), 160);
    supervisor.stop();
}
