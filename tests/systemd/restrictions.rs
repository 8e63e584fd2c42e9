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
    let server = tenant_with(REHEARSAL.as_ref(), &["{data}"], "start = \"always\"");
    machine.tenant("acme", &server);
    machine.run(&["systemctl", "start", "tenantd.service"]);
    let path = machine.path("/var/lib/tenantd/tenants/acme/data/outcome");
    let outcome = || std::fs::read_to_string(&path).unwrap_or_default();
    machine.until("the rehearsal is over", || outcome().ends_with("done\n"));
    let outcome = outcome();
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
