//! Secrets of a service: under a key that only this machine can decrypt, and there after it was switched off.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;

use crate::machine::{Machine, said};
use crate::service::open_tenant;
use crate::support::Era;

const VALUE: &str = "planted-value-of-acme";
/// What of a machine is on its disk, and stays when it is switched off.
const DISK: [&str; 3] = ["/etc/credstore.encrypted", "/var/lib/systemd", "/var/lib/tenantd"];

/// Boots a machine with this disk, and a tenant with a secret.
fn boot(disk: &Path) -> Option<Machine> {
    let binds = DISK.map(|place| {
        let path = disk.join(place.trim_start_matches('/'));
        std::fs::create_dir_all(&path).expect("made");
        format!("{}:{place}", path.display())
    });
    // Which machine it is: the key that systemd made for one is refused on any other (machine-id(5)).
    let id = disk.join("machine-id");
    std::fs::write(&id, "0a1b2c3d4e5f60718293a4b5c6d7e8f9\n").expect("written");
    let binds = [&binds[..], &[format!("{}:/etc/machine-id", id.display())]].concat();
    let machine = Machine::boot_with(&binds)?;
    let secret = "[[credential]]\nname = \"token\"\nenv = \"TOKEN\"\n";
    machine.tenant("acme", &format!("{}{secret}", open_tenant("")));
    machine.run(&["systemctl", "start", "tenantd.socket"]);
    Some(machine)
}

fn set(machine: &Machine) -> Output {
    let mut command = machine.command(&["tenantd", "credential", "set", "acme", "token"]);
    let mut set = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsenter");
    set.stdin.take().expect("a pipe").write_all(VALUE.as_bytes()).expect("written");
    set.wait_with_output().expect("waited")
}

/// What the tenant's server has in its environment.
fn seen(machine: &Machine) -> String {
    let mut session = machine.connect("acme");
    session.open(Era::Legacy);
    let asked = json!({"program": ["/usr/bin/printenv", "TOKEN"], "input": ""});
    let answer = session.call("run", asked).to_string();
    assert_eq!(session.close().code(), Some(0));
    answer
}

#[test]
fn a_secret_under_the_machines_own_key_is_there_after_it_was_switched_off() {
    let disk = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let Some(machine) = boot(disk.path()) else { return };
    // Without a key the service runs, and says what is missing.
    let refused = set(&machine);
    assert!(!refused.status.success() && said(&refused).contains("credential init"), "{refused:?}");

    let made = machine.run(&["tenantd", "credential", "init"]);
    assert!(made.contains("LoadCredentialEncrypted=tenantd.key"), "{made}");
    assert!(machine.run(&["tenantd", "credential", "init"]).contains("nothing was changed"));
    machine.run(&["systemctl", "restart", "tenantd.service"]);
    let kept = set(&machine);
    assert!(kept.status.success(), "{}; {}", said(&kept), machine.journal());
    assert!(seen(&machine).contains(VALUE));

    drop(machine);
    let Some(machine) = boot(disk.path()) else { return };
    assert!(seen(&machine).contains(VALUE), "it is gone; {}", machine.journal());
    // The key itself is nowhere on the disk, and neither is the secret.
    assert!(!disk.path().join("var/lib/tenantd/tenantd.key").exists());
    assert!(disk.path().join("var/lib/tenantd/secrets/acme/keyring").exists());
    assert!(!holds(disk.path(), VALUE.as_bytes()), "the secret is on the disk");
    assert!(!machine.journal().contains(VALUE), "the secret is in the journal");
}

#[test]
fn another_machine_with_a_copy_of_the_disk_but_not_the_machines_key_has_no_secrets() {
    let disk = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let Some(machine) = boot(disk.path()) else { return };
    machine.run(&["tenantd", "credential", "init"]);
    machine.run(&["systemctl", "restart", "tenantd.service"]);
    assert!(set(&machine).status.success());
    drop(machine);
    let key = disk.path().join("var/lib/systemd/credential.secret");
    std::fs::remove_file(&key).expect("the machine's own key");

    let Some(machine) = boot(disk.path()) else { return };
    let start = machine.command(&["systemctl", "restart", "tenantd.service"]).output();
    assert!(!start.expect("nsenter").status.success(), "it starts with a key that is none");
    let journal = machine.journal();
    assert!(journal.contains("Failed to set up credentials"), "nothing says why: {journal}");
}

/// Whether a file below a directory holds these bytes.
fn holds(below: &Path, planted: &[u8]) -> bool {
    std::fs::read_dir(below).expect("listed").flatten().any(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holds(&path, planted),
            Ok(kind) if kind.is_file() => std::fs::read(&path)
                .is_ok_and(|bytes| bytes.windows(planted.len()).any(|part| part == planted)),
            _ => false,
        }
    })
}
