//! The role as its supervisor starts it, and what it says; what others can see of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{RecvFlags, sockopt};
use tenantd::names::TenantId;
use tenantd::post;
use tenantd::wire::credential::{
    Account, CredentialPlan, Deed, FromCredential, Handed, StorePlan, Trouble, Wanted,
};
use tenantd::wire::{self, Birth, Identity};
use tenantd::{post::PostError, sys};

use crate::encrypted_file::Place;
use crate::support::{DEADLINE, tenantd, test_user, wait_until};

/// What a deed of one account comes to.
pub(crate) type Done<T> = Result<T, (Trouble, String)>;

/// The time that a test gives a role where it is not about time: KDFs are slow without optimisation.
pub(crate) const PLENTY: Duration = Duration::from_secs(60);

/// How a role is started.
pub(crate) struct Stage {
    pub(crate) store: StorePlan,
    pub(crate) identity: Option<Identity>,
    pub(crate) within: Duration,
    /// What it is run by, with its arguments; nothing where it is run directly.
    pub(crate) through: Vec<String>,
    /// Who starts it, where it is not root.
    pub(crate) uid: Option<u32>,
}

/// A role at work.
pub(crate) struct Role {
    pub(crate) child: Child,
    control: OwnedFd,
}

impl Stage {
    pub(crate) fn new(store: StorePlan) -> Self {
        Self { store, identity: None, within: PLENTY, through: Vec::new(), uid: None }
    }

    pub(crate) fn start(&self, tenant: &str, deed: Deed, given: &[BorrowedFd<'_>]) -> Role {
        let plan = CredentialPlan {
            wire: wire::VERSION,
            tenant: TenantId::parse(tenant).expect("an id"),
            store: self.store.clone(),
            identity: self.identity.clone(),
            deed,
            lock: "/nonexistent/lock".into(),
            within_ms: u64::try_from(self.within.as_millis()).expect("short"),
        };
        let (near, far) = sys::seqpacket_pair().expect("a pair");
        let (control, theirs) = sys::seqpacket_pair().expect("a pair");
        let mut line = self.through.iter().map(String::as_str).collect::<Vec<_>>();
        line.push(tenantd().to_str().expect("a path"));
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).arg("--role=credential").env_clear();
        if let Some(uid) = self.uid {
            command.uid(uid);
        }
        let child = command
            .stdin(Stdio::from(far))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let plan = post::seal(&plan).expect("sealed");
        let mut with = vec![plan.as_fd(), theirs.as_fd()];
        with.extend(given);
        post::send(&near, &Birth::Credential, &with, rustix::net::SendFlags::empty())
            .expect("born");
        Role { child, control }
    }

    pub(crate) fn keep(&self, tenant: &str, account: &Account, value: &[u8]) -> Done<()> {
        let value = post::seal_secret(value).expect("sealed");
        let deed = Deed::Keep { account: account.clone() };
        self.start(tenant, deed, &[value.as_fd()]).one(account)
    }

    pub(crate) fn forget(&self, tenant: &str, account: &Account) -> Done<()> {
        let deed = Deed::Forget { accounts: vec![account.clone()] };
        self.start(tenant, deed, &[]).one(account)
    }

    /// The value as it comes out of the hand-over socket.
    pub(crate) fn read(&self, tenant: &str, account: &Account) -> Done<Vec<u8>> {
        let (reads, writes) = sys::seqpacket_pair().expect("a pair");
        let wanted = Wanted { account: account.clone(), login: None, renew: false };
        let deed = Deed::HandOver { accounts: vec![wanted] };
        self.start(tenant, deed, &[writes.as_fd()]).one(account)?;
        let mut buffer = [0; 4096];
        let (handed, with): (Handed, _) =
            post::receive(&reads, &mut buffer, RecvFlags::DONTWAIT).expect("handed over");
        assert_eq!(handed, Handed { name: account.name.clone(), expires: None });
        let [value] = post::exactly(with).expect("a secret");
        Ok(post::unseal_secret(value).expect("sealed").to_vec())
    }
}

impl Role {
    /// All that it says; it has ended by itself.
    pub(crate) fn lines(mut self) -> Vec<FromCredential> {
        sockopt::set_socket_timeout(&self.control, sockopt::Timeout::Recv, Some(PLENTY + DEADLINE))
            .expect("set");
        let mut lines = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match post::receive(&self.control, &mut buffer, RecvFlags::empty()) {
                Ok((FromCredential::Done, _)) => break,
                Ok((line, _)) => lines.push(line),
                Err(error) => panic!("it ended after {lines:?}: {error}"),
            }
        }
        let end = post::receive::<FromCredential>(&self.control, &mut buffer, RecvFlags::empty());
        assert!(matches!(end, Err(PostError::Closed)), "it says more after it is done: {end:?}");
        let status = self.child.wait().expect("waited");
        assert!(status.success(), "{status}");
        lines
    }

    fn one(self, account: &Account) -> Done<()> {
        let lines = self.lines();
        match <[FromCredential; 1]>::try_from(lines).expect("one line") {
            [FromCredential::Did { account: did, expires: None }] if did == *account => Ok(()),
            [FromCredential::Failed { trouble, reason, .. }] => Err((trouble, reason)),
            [line] => panic!("{line:?}"),
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn account(name: &str) -> Account {
    Account { name: name.to_owned(), user: None }
}

pub(crate) fn of_user(name: &str, user: &str) -> Account {
    Account { name: name.to_owned(), user: Some(user.to_owned()) }
}

/// Of which kind the trouble is; the words name what to do and never the value.
pub(crate) fn trouble<T: std::fmt::Debug>(done: Done<T>) -> Trouble {
    let (trouble, reason) = done.expect_err("it went well");
    assert!(reason.contains('('), "no way out: {reason}");
    trouble
}

#[test]
fn nobody_can_look_into_the_role_and_it_can_become_nothing_more() {
    let place = Place::new();
    // It waits for the lock while it is looked at.
    place.stage().keep("acme", &account("token"), b"before").expect("kept");
    let _held = place.hold("acme");
    let value = post::seal_secret(b"planted-value").expect("sealed");
    let deed = Deed::Keep { account: account("token") };
    let mut stage = place.stage();
    if let Some(user) = test_user() {
        place.give(user.uid.as_raw(), user.gid.as_raw());
        stage.identity = Some(Identity {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: vec![user.gid.as_raw()],
        });
    }
    let role = stage.start("acme", deed, &[value.as_fd()]);
    let own = format!("/proc/{}", role.child.id());
    let read = |name: &str| std::fs::read_to_string(format!("{own}/{name}")).unwrap_or_default();
    // Its worker is there once it is who it is to be.
    wait_until("it works", || {
        std::fs::read_dir(format!("{own}/task")).is_ok_and(|all| all.count() > 1)
    });
    let status = read("status");
    for line in ["NoNewPrivs:\t1", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let cores = read("limits");
    let cores = cores.lines().find(|line| line.starts_with("Max core file size")).expect("there");
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!(read("cmdline"), format!("{}\0--role=credential\0", tenantd().display()));
    if let Some(user) = test_user() {
        assert!(status.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", user.uid)), "{status}");
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        for secret in ["environ", "mem", "maps"] {
            let path = format!("{own}/{secret}");
            let opened = crate::support::as_user(uid, gid, || std::fs::File::open(&path));
            assert!(opened.is_err(), "its user can read {path}");
        }
    }
}
