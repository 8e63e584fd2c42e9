//! What the probes look for: made by whoever runs `doctor`, removed when it is dropped; and the brief that
//! names it, beside what is known of the other tenant.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use nix::unistd::Pid;

use super::groups;
use crate::control::{StatusReply, TenantStatus};
use crate::names::TenantId;
use crate::paths::{Layout, Mode};
use crate::probes::{Brief, Groups, House, Neighbour, Objects, Planted, identify};
use crate::sandbox::running_below;

/// Namespaces, as /proc/PID/ns names them.
const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// Everything that was made.
pub(super) struct Victims {
    directory: tempfile::TempDir,
    /// Random: in all names, and itself the secret.
    mark: String,
    number: i32,
    tcp: TcpListener,
    udp: UdpSocket,
    _sockets: [UnixListener; 3],
    _objects: Planted,
    shm: PathBuf,
    bystander: Child,
}

impl Victims {
    /// Makes them. Where `everybody` may reach them, only the sandbox is in the way of another user.
    pub(super) fn new(everybody: bool) -> anyhow::Result<Self> {
        let mut random = [0_u8; 12];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let mark = format!("tenantd-doctor-{}", blake3::hash(&random).to_hex().split_at(24).0);
        // Positive, and not one of the small numbers that programs choose.
        let number = i32::from_ne_bytes([random[0], random[1], random[2], random[3] & 0x3f | 0x40]);
        let directory = tempfile::Builder::new().prefix("tenantd-doctor-").tempdir_in("/tmp");
        let directory = directory.context("cannot make a directory in /tmp")?;
        let mode = |mode| Permissions::from_mode(mode);
        std::fs::set_permissions(directory.path(), mode(if everybody { 0o711 } else { 0o700 }))?;
        let listen = |name: &str, bits| -> anyhow::Result<UnixListener> {
            let path = directory.path().join(name);
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, mode(bits))?;
            Ok(listener)
        };
        let outside = directory.path().join("outside");
        std::fs::write(&outside, &mark)?;
        let open = mode(if everybody { 0o666 } else { 0o600 });
        std::fs::set_permissions(&outside, open.clone())?;
        let shm = Path::new("/dev/shm").join(&mark);
        File::create_new(&shm)?.set_permissions(open)?;
        let named = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&mark)?)?;
        Ok(Self {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            _sockets: [listen("private", 0o600)?, listen("public", 0o666)?, named],
            _objects: Planted::new(number, &mark),
            bystander: bystander(&mark)?,
            directory,
            mark,
            number,
            shm,
        })
    }

    /// What the probes are told.
    pub(super) fn brief(
        &self,
        layout: &Layout,
        status: &StatusReply,
        a: &TenantStatus,
        b: &TenantStatus,
    ) -> Brief {
        let file = |name: &str| text(self.directory.path().join(name));
        let mut sockets = BTreeMap::from([
            ("session", text(layout.session_socket())),
            ("control", text(layout.control_socket())),
            ("private", file("private")),
            ("public", file("public")),
        ]);
        sockets.extend(cell(layout).map(|cell| ("cell", text(cell))));
        let user = (layout.mode == Mode::User).then(nix::unistd::getuid);
        sockets.extend(user.map(|uid| ("bus", format!("/run/user/{uid}/bus"))));
        let person = user.and_then(|uid| nix::unistd::User::from_uid(uid).ok().flatten());
        let home = TenantId::parse(&b.id).ok().map(|id| text(layout.tenant_home(&id)));
        Brief {
            data: Some(a.data.clone()),
            other: Neighbour {
                id: Some(b.id.clone()),
                data: Some(b.data.clone()),
                home,
                file: a_file(Path::new(&b.data)),
            },
            house: House {
                runtime: Some(text(&layout.runtime)),
                config: Some(text(&layout.config)),
                state: Some(text(layout.state.join("tenants"))),
                log: Some(text(&layout.log)),
            },
            processes: processes(status, b),
            groups: groups(a),
            sockets: sockets.into_iter().map(|(name, path)| (name.to_owned(), path)).collect(),
            objects: self.objects(),
            outside: Some(file("outside")),
            person: person.map(|person| text(person.dir)),
            secret: Some(self.mark.clone()),
            namespaces: NAMESPACES.into_iter().filter_map(namespace).collect(),
            ..Brief::default()
        }
    }

    fn objects(&self) -> Objects {
        let port = |address: std::io::Result<std::net::SocketAddr>| Some(address.ok()?.port());
        Objects {
            tcp: port(self.tcp.local_addr()),
            udp: port(self.udp.local_addr()),
            abstract_socket: Some(self.mark.clone()),
            sysv: Some(self.number),
            mqueue: Some(self.mark.clone()),
            shm: Some(self.mark.clone()),
            key: Some(self.mark.clone()),
        }
    }

    /// A descriptor of ours to leave open on purpose.
    pub(super) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.shm);
        let _ = self.bystander.kill();
        let _ = self.bystander.wait();
    }
}

/// A process with a secret in its arguments and its environment: it waits for a brief that never comes.
fn bystander(secret: &str) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--role=probe", secret]).env_clear().env("SECRET", secret).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

fn namespace(name: &str) -> Option<(String, String)> {
    let link = std::fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
    Some((name.to_owned(), text(link)))
}

fn cell(layout: &Layout) -> Option<PathBuf> {
    let entries = std::fs::read_dir(layout.cells()).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|is| is == "sock"))
}

fn a_file(directory: &Path) -> Option<String> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let mut files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.next().map(|entry| text(entry.path()))
}

/// The supervisor, and of the other tenant its mux, a keeper and what runs below that.
fn processes(status: &StatusReply, other: &TenantStatus) -> BTreeMap<String, crate::probes::Known> {
    let keeper =
        other.servers.iter().flat_map(|server| &server.children).find_map(|child| child.pid);
    let server = keeper.and_then(|keeper| server_below(i32::try_from(keeper).ok()?));
    let all = [
        ("supervisor", Some(status.supervisor.pid)),
        ("mux", other.mux_pid),
        ("keeper", keeper),
        ("server", server.map(i64::from)),
    ];
    let known = |(name, pid): (&str, Option<i64>)| {
        Some((name.to_owned(), identify(i32::try_from(pid?).ok()?)?))
    };
    all.into_iter().filter_map(known).collect()
}

/// Where those of the tenant are in whose sandbox the probes run.
fn groups(tenant: &TenantStatus) -> Groups {
    let mux = tenant.mux_pid.and_then(|pid| i32::try_from(pid).ok());
    let places = mux.map(groups::of).unwrap_or_default();
    let above = places.iter().filter_map(|place| place.parent());
    let places = places.iter().map(PathBuf::as_path).chain(above).map(text).collect();
    Groups { processes: None, places }
}

/// A process of the server itself: what stands between it and its keeper is ours.
fn server_below(keeper: i32) -> Option<i32> {
    let below = running_below(Pid::from_raw(keeper));
    let foreign = |pid: &&Pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        !name.starts_with("tenantd")
    };
    below.iter().find(foreign).or(below.last()).map(|pid| pid.as_raw())
}
