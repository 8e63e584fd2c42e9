//! An egress process, driven as its supervisor and a sandbox do.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{RecvFlags, SendFlags};
use tenantd::config::tenant::Destination;
use tenantd::names::{ServerName, TenantId};
use tenantd::wire::credential::Handed;
use tenantd::wire::egress::{EgressPlan, FromEgress, Injection, Listener, Opened, ToEgress, Way};
use tenantd::wire::{self, Birth};
use tenantd::{post, sys};

use crate::inner::Inner;
use crate::support::{tenantd, wait_until};

/// The name inside that all of these tests use.
pub(crate) const NAME: &str = "acme.tenantd.internal";
/// A secret that nothing else looks like.
pub(crate) const TOKEN: &str = "tok_7hIs-1s/th3+s3cr3t=ofAcme";

/// An egress with one server, whose name inside leads to one host.
pub(crate) struct Egress {
    child: Child,
    control: OwnedFd,
    doors: Option<OwnedFd>,
    secrets: OwnedFd,
    log: tempfile::NamedTempFile,
    stderr: tempfile::NamedTempFile,
    address: SocketAddr,
}

/// What is known of the host.
pub(crate) struct Lead<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) bundle: &'a Path,
    pub(crate) upstream: Option<Destination>,
}

impl Egress {
    /// One whose name inside leads to that port of `localhost`.
    pub(crate) fn to(port: u16, bundle: &Path) -> Self {
        Self::start(Lead { host: "localhost", port, bundle, upstream: None })
    }

    /// Starts it, with the token handed over.
    pub(crate) fn start(lead: Lead<'_>) -> Self {
        let (near, born) = sys::seqpacket_pair().expect("a pair");
        let stderr = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new(tenantd());
        command.arg("--role=egress").env_clear().stdin(Stdio::from(born)).stdout(Stdio::null());
        command.stderr(stderr.reopen().expect("a file"));
        let child = command.spawn().expect("started");
        let log = tempfile::NamedTempFile::new().expect("a file");
        let append = File::options().append(true).open(log.path()).expect("a file");
        let plan = EgressPlan {
            wire: wire::VERSION,
            tenant: TenantId::parse("acme").expect("an id"),
            identity: None,
            upstream: lead.upstream,
        };
        let (control, far) = sys::seqpacket_pair().expect("a pair");
        let plan = post::seal(&plan).expect("sealed");
        let with = [plan.as_fd(), far.as_fd(), append.as_fd()];
        post::send(&near, &Birth::Egress, &with, SendFlags::empty()).expect("born");
        let (doors, serve) = sys::seqpacket_pair().expect("a pair");
        let (secrets, handed) = sys::seqpacket_pair().expect("a pair");
        let to = Destination { host: lead.host.to_owned(), port: lead.port };
        let injection = Injection {
            credential: "acme".to_owned(),
            doors: BTreeMap::from([(NAME.to_owned(), to.clone())]),
            header: "Authorization".to_owned(),
            format: "Bearer {}".to_owned(),
        };
        let way = Way { server: ServerName::main(), allowed: vec![to], inject: vec![injection] };
        let way = post::seal(&way).expect("sealed");
        let bundle = File::open(lead.bundle).expect("a bundle");
        let with = [way.as_fd(), serve.as_fd(), handed.as_fd(), bundle.as_fd()];
        post::send(&control, &ToEgress::Serve, &with, SendFlags::empty()).expect("told");
        let inside = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = inside.local_addr().expect("an address");
        let listeners = vec![Listener::Door { host: NAME.to_owned(), port: 80 }];
        let opened = Opened { listeners };
        post::send(&doors, &opened, &[inside.as_fd()], SendFlags::empty()).expect("handed over");
        let egress = Self { child, control, doors: Some(doors), secrets, log, stderr, address };
        egress.hand(TOKEN);
        egress
    }

    /// Hands another value over.
    pub(crate) fn hand(&self, secret: &str) {
        let memfd = post::seal_secret(secret.as_bytes()).expect("sealed");
        let handed = Handed { name: "acme".to_owned(), expires: None };
        post::send(&self.secrets, &handed, &[memfd.as_fd()], SendFlags::empty()).expect("handed");
    }

    /// A connection of a program's inside.
    pub(crate) fn connect(&self) -> Inner {
        Inner::connect(self.address)
    }

    /// Waits until it asks for another value.
    pub(crate) fn asks(&self) -> FromEgress {
        let mut buffer = [0; 1024];
        let (said, _) =
            post::receive(&self.control, &mut buffer, RecvFlags::empty()).expect("said");
        said
    }

    /// Whether it has asked for nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        let heard = post::receive::<FromEgress>(&self.control, &mut [0; 1024], RecvFlags::DONTWAIT);
        heard.is_err()
    }

    /// The lines of its log that say all of this, once there are so many.
    pub(crate) fn logged(&self, wanted: &[&str], count: usize) -> Vec<String> {
        let mut found = Vec::new();
        wait_until(&format!("{count} lines with {wanted:?}"), || {
            let text = std::fs::read_to_string(self.log.path()).expect("text");
            let fits = |line: &&str| wanted.iter().all(|part| line.contains(part));
            found = text.lines().filter(fits).map(str::to_owned).collect();
            found.len() >= count
        });
        found
    }

    /// The most memory that it ever had, bytes.
    pub(crate) fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("alive");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    /// Everything that it wrote for people.
    pub(crate) fn words(&self) -> String {
        let read = |file: &tempfile::NamedTempFile| std::fs::read_to_string(file.path());
        read(&self.log).expect("text") + &read(&self.stderr).expect("text")
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        // Its last server has gone, and so has its supervisor.
        drop(self.doors.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let words = self.words();
            assert!(!words.contains(TOKEN) && !words.contains("panicked"), "{words}");
        }
    }
}
