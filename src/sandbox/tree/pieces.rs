//! What there is in a server's root, by path: the order of paths is the order of making, so that what
//! lies within another piece is made after it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};

use super::Access;
use crate::sandbox::{doors, secrets};
use crate::sys::find::{Links, find};
use crate::wire::stage::{CREDENTIALS, Network, StagePlan};

/// One thing in a server's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// What has this path outside, with everything mounted below it.
    Bind {
        access: Access,
        /// The device and inode that it must be, where somebody opened it before.
        must_be: Option<(u64, u64)>,
    },
    /// A device node of outside.
    Device,
    /// An empty file system in memory, of at most so many bytes.
    Memory { bytes: u64, mode: u32, access: Access },
    /// A directory for what else has a place in it, read-only in the end.
    Directory {
        /// Whether all of that may be read.
        read: bool,
    },
    /// A symbolic link.
    Link(String),
    /// A file of ours.
    File(Vec<u8>),
    /// The processes of the new pid namespace (proc(5)).
    Processes,
    /// What of /proc would show more than this namespace: it cannot be opened.
    Hidden,
}

/// Files that are no programs.
pub(in crate::sandbox) const READ: Access = Access { write: false, execute: false };
const RUN: Access = Access { write: false, execute: true };
const WRITE: Access = Access { write: true, execute: false };

impl Piece {
    fn bind(access: Access) -> Self {
        Self::Bind { access, must_be: None }
    }

    /// What Landlock grants there; nothing for what lies in the root itself.
    pub(super) fn access(&self) -> Option<Access> {
        match self {
            Self::Bind { access, .. } | Self::Memory { access, .. } => Some(*access),
            Self::Device => Some(WRITE),
            Self::File(_) | Self::Processes | Self::Directory { read: true } => Some(READ),
            Self::Directory { read: false } | Self::Link(_) | Self::Hidden => None,
        }
    }
}

/// Where programs and libraries are. On most systems all but the first are links into it.
const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs read of /etc to run at all: where libraries are, whom to trust, which time it is. Nothing
/// here is a secret or says anything of other users. Debian's launcher of Chromium ends without its own
/// directory, and a browser that does not see the policies of the house would not keep to them.
const SETTINGS: [&str; 20] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/chromium",
    "/etc/chromium.d",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl",
    "/etc/timezone",
];

const DEVICES: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];

const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Names of the user's keys, of which no namespace of ours is a part (keyrings(7)).
const HIDDEN: [&str; 2] = ["/proc/keys", "/proc/key-users"];

/// The most bytes of a file of /etc that is copied.
const COPY_MAX: u64 = 1024 * 1024;
/// The size of file systems that hold names and links only, bytes.
pub(super) const NAMES: u64 = 1024 * 1024;

/// What `plan` asks for; `old` is the root of outside.
pub(super) fn of(
    plan: &StagePlan,
    data: &OwnedFd,
    old: BorrowedFd<'_>,
) -> io::Result<BTreeMap<PathBuf, Piece>> {
    let mut all = BTreeMap::new();
    system(&mut all, old);
    devices(&mut all, plan.view.tmp_bytes, old);
    identities(&mut all, plan);
    network(&mut all, plan, old)?;
    let scratch = Piece::Memory { bytes: plan.view.tmp_bytes, mode: 0o1777, access: WRITE };
    all.insert("/tmp".into(), scratch);
    all.insert("/var/tmp".into(), Piece::Link("../tmp".to_owned()));
    all.insert("/run".into(), Piece::Directory { read: false });
    all.insert("/etc".into(), Piece::Directory { read: true });
    if secrets::files(plan).next().is_some() {
        all.insert(CREDENTIALS.into(), Piece::Directory { read: false });
    }
    all.insert("/proc".into(), Piece::Processes);
    all.extend(HIDDEN.iter().map(|path| (path.into(), Piece::Hidden)));
    own(&mut all, plan, data)?;
    Ok(all)
}

/// What the tenant's file names, and what is the tenant's.
fn own(all: &mut BTreeMap<PathBuf, Piece>, plan: &StagePlan, data: &OwnedFd) -> io::Result<()> {
    let view = &plan.view;
    for (name, target) in &view.links {
        all.entry(name.into()).or_insert_with(|| Piece::Link(target.clone()));
    }
    all.extend(view.read.iter().map(|path| (path.into(), Piece::bind(RUN))));
    let writable = Access { write: true, execute: view.data_exec };
    all.extend(view.write.iter().map(|path| (path.into(), Piece::bind(writable))));
    all.insert((&plan.home).into(), Piece::bind(writable));
    let stat = rustix::fs::fstat(data)?;
    let must_be = Some((stat.st_dev, stat.st_ino));
    all.insert((&plan.data).into(), Piece::Bind { access: writable, must_be });
    Ok(())
}

fn system(all: &mut BTreeMap<PathBuf, Piece>, old: BorrowedFd<'_>) {
    let programs = PROGRAMS.iter().map(|path| (path, RUN));
    let settings = SETTINGS.iter().map(|path| (path, READ));
    for (path, access) in programs.chain(settings) {
        if let Some(piece) = as_outside(old, Path::new(path), access) {
            all.insert(path.into(), piece);
        }
    }
}

/// A link where outside there is one, else what is there; nothing where nothing is.
fn as_outside(old: BorrowedFd<'_>, path: &Path, access: Access) -> Option<Piece> {
    let below = path.strip_prefix("/").ok()?;
    let stat = rustix::fs::statat(old, below, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Some(Piece::bind(access));
    }
    let target = rustix::fs::readlinkat(old, below, Vec::new()).ok()?;
    Some(Piece::Link(target.into_string().ok()?))
}

fn devices(all: &mut BTreeMap<PathBuf, Piece>, bytes: u64, old: BorrowedFd<'_>) {
    all.insert("/dev".into(), Piece::Memory { bytes: NAMES, mode: 0o755, access: READ });
    for path in DEVICES {
        let below = path.trim_start_matches('/');
        // In a container one or the other may be missing.
        if rustix::fs::statat(old, below, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            all.insert(path.into(), Piece::Device);
        }
    }
    all.extend(DEVICE_LINKS.iter().map(|(path, to)| (path.into(), Piece::Link((*to).to_owned()))));
    all.insert("/dev/shm".into(), Piece::Memory { bytes, mode: 0o1777, access: WRITE });
}

/// Only the server's own user has a name: who else lives on the host is nobody's business.
fn identities(all: &mut BTreeMap<PathBuf, Piece>, plan: &StagePlan) {
    let (uid, gid) = plan.identity.as_ref().map_or_else(
        || (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()),
        |identity| (identity.uid, identity.gid),
    );
    let plain = |text: &&String| !text.contains([':', '\n', '\0']);
    let user = plan.env.get("USER").filter(plain).map_or("tenant", String::as_str);
    let home = Some(&plan.home).filter(plain).map_or("/", String::as_str);
    let own = |line: String, id: u32| if id == 0 { String::new() } else { line };
    let passwd = format!(
        "root:x:0:0:root:/:/usr/sbin/nologin\n{}nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        own(format!("{user}:x:{uid}:{gid}::{home}:/bin/sh\n"), uid)
    );
    let group = format!("root:x:0:\n{}nogroup:x:65534:\n", own(format!("{user}:x:{gid}:\n"), gid));
    let names = "passwd: files\ngroup: files\nhosts: files dns\n";
    for (path, text) in
        [("/etc/passwd", passwd), ("/etc/group", group), ("/etc/nsswitch.conf", names.to_owned())]
    {
        all.insert(path.into(), Piece::File(text.into_bytes()));
    }
}

fn network(
    all: &mut BTreeMap<PathBuf, Piece>,
    plan: &StagePlan,
    old: BorrowedFd<'_>,
) -> io::Result<()> {
    if plan.network == Network::Host {
        for path in ["/etc/hosts", "/etc/resolv.conf"] {
            if let Some(text) = copy(old, path)? {
                all.insert(path.into(), Piece::File(text));
            }
        }
        return Ok(());
    }
    let hosts = doors::hosts_file(&plan.network);
    all.insert("/etc/hosts".into(), Piece::File(hosts.into_bytes()));
    Ok(())
}

/// A file of outside as it is now; it may be a link to where the network's manager keeps it.
fn copy(old: BorrowedFd<'_>, path: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match find(old, Path::new(path), Links::Follow, OFlags::RDONLY) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut text = Vec::new();
    std::fs::File::from(file).take(COPY_MAX).read_to_end(&mut text)?;
    Ok(Some(text))
}
