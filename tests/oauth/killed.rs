//! The role that renews, killed at any moment: what the store holds is whole, and as good as the server takes it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, sockopt};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tenantd::names::TenantId;
use tenantd::wire::credential::{
    Account, CredentialPlan, Deed, FromCredential, Handed, LoginPlan, StorePlan, Wanted,
};
use tenantd::wire::{self, Birth};
use tenantd::{post, sys};

use crate::browser::login;
use crate::plan;
use crate::provider::{Person, Provider};
use crate::support::{tenantd, wait_until};

/// The time that a role has.
const WITHIN: Duration = Duration::from_secs(60);

struct Role {
    child: Child,
    control: OwnedFd,
}

fn start(place: &Path, deed: Deed, given: &OwnedFd) -> Role {
    let plan = CredentialPlan {
        wire: wire::VERSION,
        tenant: TenantId::parse("acme").expect("an id"),
        store: StorePlan::EncryptedFile {
            directory: place.join("secrets"),
            key: place.join("key"),
        },
        identity: None,
        deed,
        lock: place.join("lock"),
        within_ms: WITHIN.as_millis() as u64,
    };
    let (near, far) = sys::seqpacket_pair().expect("a pair");
    let (control, theirs) = sys::seqpacket_pair().expect("a pair");
    let mut command = Command::new(tenantd());
    command.arg("--role=credential").env_clear().stdin(Stdio::from(far)).stdout(Stdio::null());
    let child = command.stderr(Stdio::null()).spawn().expect("started");
    let plan = post::seal(&plan).expect("sealed");
    let with = [plan.as_fd(), theirs.as_fd(), given.as_fd()];
    post::send(&near, &Birth::Credential, &with, SendFlags::empty()).expect("born");
    Role { child, control }
}

impl Role {
    /// The first line that it says.
    fn says(mut self) -> FromCredential {
        sockopt::set_socket_timeout(&self.control, sockopt::Timeout::Recv, Some(WITHIN))
            .expect("set");
        let mut buffer = [0; 8192];
        let (line, _) =
            post::receive(&self.control, &mut buffer, RecvFlags::empty()).expect("a line");
        self.child.wait().expect("an end");
        line
    }
}

fn account() -> Account {
    Account { name: "tracker".into(), user: None }
}

/// Has a role renew the login; the token, where it is not killed before.
fn renewing(place: &Path, login: &LoginPlan) -> (Role, OwnedFd) {
    let wanted = Wanted { account: account(), login: Some(login.clone()), renew: true };
    let (reads, writes) = sys::seqpacket_pair().expect("a pair");
    (start(place, Deed::HandOver { accounts: vec![wanted] }, &writes), reads)
}

fn token(reads: &OwnedFd) -> String {
    let mut buffer = [0; 4096];
    let (_, with): (Handed, _) =
        post::receive(reads, &mut buffer, RecvFlags::DONTWAIT).expect("handed over");
    let [value] = post::exactly(with).expect("a secret");
    String::from_utf8(post::unseal_secret(value).expect("sealed").to_vec()).expect("a token")
}

/// A place with a store, and a login in it.
fn logged_in(provider: &Provider, person: &mut Person) -> (tempfile::TempDir, LoginPlan) {
    let plan = plan(&provider.issuer);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let document = runtime.block_on(login(&plan, person, None));
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("key"), [7; 32]).expect("written");
    std::fs::set_permissions(
        place.path().join("key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("set");
    let value = post::seal_secret(&document.to_bytes()).expect("sealed");
    let kept = start(place.path(), Deed::Keep { account: account() }, &value).says();
    let FromCredential::Did { expires: Some(_), .. } = kept else { panic!("{kept:?}") };
    (place, plan)
}

/// Whether this process blocks this signal (proc_pid_status(5)).
fn blocks(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    blocked.unwrap_or(0) & 1 << (signal - 1) != 0
}

#[test]
fn a_role_that_is_killed_while_it_renews_loses_nothing_that_the_server_still_takes() {
    // A server that takes an old refresh token again, as those with a time of grace do: so what the store holds
    // must be good after every one of these deaths.
    let settings = json!({ "rotate": false });
    let (Some(provider), Some(mut person)) = (Provider::start(&settings), Person::new()) else {
        return;
    };
    let (place, plan) = logged_in(&provider, &mut person);
    let begun = std::time::Instant::now();
    let (role, reads) = renewing(place.path(), &plan);
    assert!(matches!(role.says(), FromCredential::Did { .. }));
    let whole = begun.elapsed();
    let mut last = token(&reads);
    for moment in 1..=8 {
        let (mut role, _reads) = renewing(place.path(), &plan);
        // The moment is what is tested.
        std::thread::sleep(whole * moment / 8);
        role.child.kill().expect("killed");
        role.child.wait().expect("dead");
        let (role, reads) = renewing(place.path(), &plan);
        let line = role.says();
        assert!(matches!(line, FromCredential::Did { expires: Some(_), .. }), "{moment}: {line:?}");
        let next = token(&reads);
        assert!(next != last);
        last = next;
    }
}

#[test]
fn a_role_that_is_told_to_end_while_it_renews_stores_what_the_server_gave_it_first() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let (place, plan) = logged_in(&provider, &mut person);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (role, reads) = renewing(place.path(), &plan);
        // A descriptor, since its number may soon mean another process.
        let pid = Pid::from_raw(i32::try_from(role.child.id()).expect("a pid")).expect("a pid");
        let role_itself = pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd");
        // From the moment on that it is more than a program being loaded, until it has ended by itself.
        wait_until("it is there", || blocks(role.child.id(), 15));
        let asking = std::thread::spawn(move || {
            for _ in 0..200 {
                std::thread::sleep(Duration::from_millis(5));
                for signal in [Signal::TERM, Signal::INT] {
                    // Gone by itself in the end.
                    let _ = pidfd_send_signal(&role_itself, signal);
                }
            }
        });
        // Nobody hears it any more: its supervisor is gone.
        let Role { mut child, control } = role;
        drop(control);
        assert!(child.wait().is_ok());
        asking.join().expect("asked");
        seen.push(token(&reads));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "each renewal began with what the last one stored");
}
