//! What `ps` shows, and what the users that it shows cannot do.

use serde_json::json;

use super::*;
use crate::support::{Era, as_user};

/// The uids (real, effective, saved, of files) and capabilities of a process.
fn assert_is(pid: u32, uid: u32, capabilities: u64) {
    let status = proc_status(pid);
    let name = &status["Name"];
    for key in ["Uid", "Gid"] {
        let all: Vec<u32> =
            status[key].split_whitespace().map(|id| id.parse().expect("a number")).collect();
        assert_eq!(all, [uid; 4], "{key} of {name}");
    }
    assert_eq!(status["Groups"], "", "groups of {name}");
    for key in ["CapPrm", "CapEff", "CapInh"] {
        let held = u64::from_str_radix(&status[key], 16).expect("hexadecimal");
        let most = if key == "CapInh" { 0 } else { capabilities };
        assert_eq!(held, most, "{key} of {name}");
    }
    assert_eq!(status["NoNewPrivs"], "1", "{name}");
}

/// The processes with this name and uid below the supervisor.
fn named<'a>(family: &'a [Held], name: &str, uid: u32) -> Vec<&'a Held> {
    let is = |held: &&Held| {
        held.name == name && proc_status(held.pid)["Uid"].starts_with(&format!("{uid}\t"))
    };
    family.iter().filter(is).collect()
}

#[test]
fn mux_server_and_keeper_of_each_tenant_have_uids_that_nobody_else_has() {
    const KILL: u64 = 1 << 5; // CAP_KILL, capabilities(7)
    if !root() {
        return;
    }
    let home = Home::system();
    let tenants = ["acme", "globex"];
    for tenant in tenants {
        home.tenant(tenant, &granted(&puppet_tenant(&[], "")));
    }
    let supervisor = home.start_system();
    let mut sessions = tenants.map(|tenant| connect(&home, tenant));
    for session in &mut sessions {
        session.open(Era::Legacy);
        session.call("echo", json!({"text": "x"}));
    }
    let family = family(&supervisor);
    let mut seen = vec![0];
    for tenant in tenants {
        let [server, mux, egress] = uids(&home, tenant);
        for uid in [server, mux, egress] {
            assert!((RANGE.0..=RANGE.1).contains(&uid) && !seen.contains(&uid), "{uid}: {seen:?}");
            seen.push(uid);
        }
        let shown = tenant_status(&home, tenant)["mux_pid"].as_u64().expect("a pid");
        assert_is(u32::try_from(shown).expect("a pid"), mux, 0);
        for (name, uid, capabilities) in
            [("puppet", server, 0), ("tenantd-init", server, 0), ("tenantd-keeper", mux, KILL)]
        {
            let found = named(&family, name, uid);
            assert_eq!(found.len(), 1, "{name} of {tenant}");
            assert_is(found[0].pid, uid, capabilities);
        }
    }
    let others: Vec<_> =
        family.iter().filter(|held| proc_status(held.pid)["Uid"].starts_with("0\t")).collect();
    assert!(others.is_empty(), "only the supervisor is root");
    drop(sessions);
    supervisor.stop();
}

#[test]
fn a_tenants_uids_reach_nothing_of_another_tenant_or_of_its_own_mux() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &granted(&puppet_tenant(&[], "")));
    home.tenant("globex", &granted(&puppet_tenant(&[], "")));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    session.open(Era::Legacy);
    session.call("echo", json!({"text": "x"}));
    let mux = tenant_status(&home, "acme")["mux_pid"].as_u64().expect("a pid");
    let own = home.path().join("state/tenants/acme");
    let [server, mux_uid, egress] = uids(&home, "acme");
    let [other, other_mux, _] = uids(&home, "globex");
    let denied = |uid: u32, path: &Path| {
        let error = as_user(uid, uid, || match path.is_dir() {
            true => std::fs::read_dir(path).map(drop),
            false => std::fs::read(path).map(drop),
        });
        let kind = error.expect_err(&format!("uid {uid} reads {}", path.display())).kind();
        assert_eq!(kind, std::io::ErrorKind::PermissionDenied, "uid {uid}, {}", path.display());
    };
    for uid in [other, other_mux, mux_uid, egress] {
        denied(uid, &own.join("data"));
        denied(uid, &own.join("home"));
    }
    for own in ["data", "home"].map(|name| own.join(name)) {
        as_user(server, server, || std::fs::read_dir(own).map(drop)).expect("its own");
    }
    let process = Path::new("/proc").join(mux.to_string());
    for uid in [server, other, other_mux, egress, mux_uid] {
        denied(uid, &process.join("environ"));
        denied(uid, &process.join("maps"));
        for below in [
            "state/uids.json",
            "state/tenants",
            "state/tenants/acme/handshakes.jsonl",
            "run/cells",
            "log",
        ] {
            denied(uid, &home.path().join(below));
        }
    }
    session.close();
    supervisor.stop();
}

#[test]
fn a_replaced_or_killed_supervisor_finds_its_muxes_as_who_they_are() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &granted(&puppet_tenant(&[], "")));
    let mut supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    session.open(Era::Legacy);
    let life = |home: &Home| {
        let status = tenant_status(home, "acme");
        (status["mux_pid"].clone(), status["servers"][0]["children"][0]["pid"].clone())
    };
    session.call("echo", json!({"text": "x"}));
    let before = life(&home);
    assert!(before.0.is_u64() && before.1.is_u64(), "{before:?}");
    for round in 0..3 {
        if round == 1 {
            let replaced = as_root(&home, &["restart", "--system", "--supervisor"]);
            assert!(replaced.status.success(), "{}", String::from_utf8_lossy(&replaced.stderr));
        } else {
            supervisor.kill();
            supervisor = home.start_system();
        }
        assert_eq!(life(&home), before, "round {round}");
        assert_eq!(session.call("echo", json!({"text": "y"}))["content"][0]["text"], "y");
    }
    // It ends what it took over, whose user is not its own.
    session.close();
    let held = [&before.0, &before.1].map(|pid| {
        Held::of(u32::try_from(pid.as_u64().expect("a pid")).expect("a pid")).expect("it lives")
    });
    supervisor.stop();
    let gone = held.iter().all(|held| held.ends_within(crate::support::DEADLINE));
    assert!(gone, "what was taken over has ended");
}

#[test]
fn what_an_overdue_mux_leaves_is_killed_whoever_it_is() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("acme", &granted(&puppet_tenant(&[], "")));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    session.open(Era::Legacy);
    session.call("echo", json!({"text": "x"}));
    let family = family(&supervisor);
    let keeper = family.iter().find(|held| held.name == "tenantd-keeper").expect("a keeper");
    let mux = family.iter().find(|held| held.name == "tenantd-mux").expect("a mux");
    let pid = |held: &Held| nix::unistd::Pid::from_raw(held.pid.cast_signed());
    // Neither says or hears anything any more.
    for held in [keeper, mux] {
        nix::sys::signal::kill(pid(held), nix::sys::signal::Signal::SIGSTOP).expect("stopped");
    }
    session.hang_up();
    supervisor.stop();
}
