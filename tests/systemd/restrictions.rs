//! What the service's unit takes from every process of it, and what it must leave.

use serde_json::json;

use crate::machine::{Machine, REHEARSAL};
use crate::service::machine;
use crate::support::{Era, Packages, tenant_with};

/// The exposure that `systemd-analyze security` may find, in tenths. What is left is what the unit says it must
/// leave: a root that becomes tenants (1.5), namespaces and mounts for their sandbox (1.7), the calls with which
/// that is built and that go with set-id bits and with the host's name (0.3), the host's network for those who ask
/// for it (1.2), tenants' data wherever it is (0.4), control groups (0.3), a /tmp of its own that does not count as
/// one (0.2), and little else, each line of which is rounded up there.
const EXPOSURE: &str = "46";

#[test]
fn the_exposure_of_the_service_does_not_grow() {
    let Some(machine) = machine(&[]) else { return };
    machine.run(&["systemctl", "start", "tenantd.service"]);
    let threshold = format!("--threshold={EXPOSURE}");
    machine.run(&["systemd-analyze", "security", "--no-pager", &threshold, "tenantd.service"]);
}

#[test]
fn the_sandbox_can_be_built_under_the_restrictions_of_the_unit() {
    let Some(machine) = machine(&[]) else { return };
    // Beside the supervisor, in the service: a server is under more than the unit.
    let beside = format!("[Service]\nExecStartPost={REHEARSAL} /var/lib/tenantd\n");
    machine.drop_in("system", "tenantd.service", &beside);
    machine.run(&["systemctl", "start", "tenantd.service"]);
    let outcome = std::fs::read_to_string(machine.path("/var/lib/tenantd/outcome")).expect("done");
    assert!(outcome.ends_with("done\n"), "{outcome}");
    assert!(outcome.starts_with("ok become the tenant\n"), "{outcome}");
    let other: Vec<_> = outcome.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert_eq!(other, ["done"], "{outcome}");
    // All of the calls that confine a server: no list of the unit's may hold one of them back.
    let denied = machine.run(&["systemctl", "show", "-p", "SystemCallFilter", "tenantd.service"]);
    for call in [
        "landlock_restrict_self",
        "seccomp",
        "pivot_root",
        "mount_setattr",
        "clone3",
        "openat2",
        "quotactl",
    ] {
        assert!(!denied.split([' ', '=']).any(|name| name == call), "{call}: {denied}");
    }
}

#[test]
fn a_tenant_has_its_own_users_and_a_persons_data_under_the_restrictions_of_the_unit() {
    let Some(machine) = machine(&[]) else { return };
    let data = "/home/alice/Acme";
    machine.run(&["mkdir", data]);
    // The disk of this machine is an overlay, which cannot be mapped.
    machine.run(&["mount", "-t", "tmpfs", "-o", "mode=700,uid=alice,gid=alice", "tmpfs", data]);
    machine.run(&["chmod", "700", "/home/alice"]);
    let script =
        "grep -E '^(Uid|Gid|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status > outcome && sleep 60";
    let server = tenant_with("/usr/bin/dash".as_ref(), &["-c", script], "start = \"always\"");
    let server =
        server.replace("require = []", "require = [\"namespaces\", \"landlock\", \"seccomp\"]");
    machine.tenant("acme", &format!("data = {data:?}\n{server}"));
    let checked = machine.run(&["tenantd", "check", "--system"]);
    assert!(checked.contains(&format!("{data} stays alice's")), "{checked}");
    machine.run(&["systemctl", "start", "tenantd.service"]);
    let path = machine.path(&format!("{data}/outcome"));
    let outcome = || std::fs::read_to_string(&path).unwrap_or_default();
    machine.until("the server has looked at itself", || outcome().contains("Seccomp:"));
    let uid = "1900000000";
    for line in [
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
        format!("Gid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
        "CapPrm:\t0000000000000000\n".to_owned(),
        "NoNewPrivs:\t1\n".to_owned(),
        "Seccomp:\t2\n".to_owned(),
    ] {
        assert!(outcome().contains(&line), "{line}: {}", outcome());
    }
    let owner = machine.run(&["stat", "-c", "%U:%G", &format!("{data}/outcome")]);
    assert_eq!(owner, "alice:alice\n");
    let table = machine.run(&["stat", "-c", "%U %a", "/var/lib/tenantd/uids.json"]);
    assert_eq!(table, "root 600\n");
    let users = machine.run(&["ps", "-eo", "uid=,comm="]);
    for line in ["1900000001 tenantd-mux", "1900000001 tenantd-keeper", "1900000000 tenantd-init"] {
        assert!(users.lines().any(|user| user.trim() == line), "{line}: {users}");
    }
    machine.run(&["systemctl", "stop", "tenantd.service"]);
    assert!(machine.service().is_empty(), "a stop ends every user's processes");
}

#[test]
fn a_server_that_compiles_as_it_runs_serves_under_the_restrictions_of_the_unit() {
    let Some(packages) = Packages::find() else { return };
    let cache = packages.root().to_str().expect("UTF-8");
    let Some(machine) = Machine::boot_with(&[format!("{cache}/node:/opt/tests/node")]) else {
        return;
    };
    let command = packages.npm_server("everything", &[]);
    let command: Vec<_> = command.iter().map(|word| word.replace(cache, "/opt/tests")).collect();
    let arguments: Vec<_> = command[1..].iter().map(String::as_str).collect();
    let grant = "[[grant]]\nusers = [\"root\"]\n";
    machine.tenant("acme", &format!("{}{grant}", tenant_with(command[0].as_ref(), &arguments, "")));
    machine.run(&["systemctl", "start", "tenantd.socket"]);
    let mut session = machine.connect("acme");
    session.open(Era::Legacy);
    let echo = session.call("echo", json!({"message": "compiled"}));
    assert!(echo.to_string().contains("compiled"), "{echo}");
    assert_eq!(session.close().code(), Some(0));
}
