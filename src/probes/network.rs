//! Sockets: the host's loopback interface, its routes, its pathname and abstract names, and families that
//! reach past a network namespace.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketFlags, SocketType};

use super::attempt::{Attempt, deed, with};
use super::run::Scene;
use super::{Probe, probe};

/// How long a connection on the same machine may take.
const SOON: Duration = Duration::from_secs(1);
/// An address that is routed like any of the internet and never used (RFC 5737).
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

pub(super) const PROBES: &[Probe] = &[
    probe(
        "network.loopback-tcp",
        "a TCP port of the host's loopback interface is reached",
        "connect",
        |s| {
            with(s.brief.objects.tcp, "a TCP port", |port| {
                deed(TcpStream::connect_timeout(
                    &SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    SOON,
                ))
            })
        },
    ),
    probe(
        "network.loopback-udp",
        "a UDP port of the host's loopback interface is reached",
        "sendto",
        |s| with(s.brief.objects.udp, "a UDP port", |port| deed(udp(port))),
    ),
    probe("network.route", "there is a way to the internet", "connect", |s| {
        if s.brief.host_network {
            return Attempt::failed("the tenant's file allows it (sandbox.network = \"host\")");
        }
        // Of UDP this sends nothing: it asks the kernel for the route.
        deed(bound().and_then(|socket| socket.connect((OUTSIDE, 53))))
    }),
    probe("network.abstract", "an abstract socket is reached", "connect", |s| {
        with(s.brief.objects.abstract_socket.as_deref(), "an abstract socket", |name| {
            let address = UnixAddr::from_abstract_name(name);
            deed(address.and_then(|address| UnixStream::connect_addr(&address)))
        })
    }),
    probe("network.socket-session", "the supervisor's session door is reached", "connect", |s| {
        seqpacket(s, "session")
    }),
    probe("network.socket-control", "the supervisor's control door is reached", "connect", |s| {
        stream(s, "control")
    }),
    probe("network.socket-cell", "another mux's cell socket is reached", "connect", |s| {
        seqpacket(s, "cell")
    }),
    probe("network.socket-private", "a socket of the same user is reached", "connect", |s| {
        stream(s, "private")
    }),
    probe(
        "network.socket-public",
        "a socket that is open to everybody is reached",
        "connect",
        |s| stream(s, "public"),
    ),
    probe(
        "network.session-bus",
        "the person's D-Bus, and so the keyring, is reached",
        "connect",
        |s| stream(s, "bus"),
    ),
    probe("network.system-bus", "the system's D-Bus is reached", "connect", |_| {
        deed(UnixStream::connect("/run/dbus/system_bus_socket"))
    }),
    probe("network.docker", "the container engine is reached", "connect", |_| {
        deed(UnixStream::connect("/run/docker.sock"))
    }),
    probe("network.journal", "the system's log is reached", "connect", |_| {
        deed(
            std::os::unix::net::UnixDatagram::unbound()
                .and_then(|socket| socket.connect("/dev/log")),
        )
    }),
    probe("network.netlink", "network interfaces are asked for", "socket AF_NETLINK", |_| {
        family(nix::libc::AF_NETLINK, SocketType::RAW)
    }),
    probe("network.vsock", "the hypervisor is reached", "socket AF_VSOCK", |_| {
        family(nix::libc::AF_VSOCK, SocketType::STREAM)
    }),
    probe("network.packet", "packets are captured", "socket AF_PACKET", |_| {
        family(nix::libc::AF_PACKET, SocketType::RAW)
    }),
    probe("network.alg", "the kernel's cryptography is reached", "socket AF_ALG", |_| {
        family(nix::libc::AF_ALG, SocketType::SEQPACKET)
    }),
    probe("network.key", "the kernel's IPsec keys are reached", "socket AF_KEY", |_| {
        family(nix::libc::AF_KEY, SocketType::RAW)
    }),
    probe("network.bluetooth", "Bluetooth is reached", "socket AF_BLUETOOTH", |_| {
        family(nix::libc::AF_BLUETOOTH, SocketType::RAW)
    }),
    probe("network.xdp", "packets bypass the kernel", "socket AF_XDP", |_| {
        family(nix::libc::AF_XDP, SocketType::RAW)
    }),
    probe("network.raw", "packets are forged", "socket SOCK_RAW", |_| {
        let icmp = RawProtocol::new(1).map(Protocol::from_raw);
        socket(AddressFamily::INET, SocketType::RAW, icmp)
    }),
    probe("network.low-port", "a port of a system service is taken", "bind", |s| {
        if !s.brief.host_network && own_network(s) {
            return Attempt::blocked("its loopback interface is its own");
        }
        deed(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 1)))
    }),
];

/// Whether the network namespace is not the host's.
fn own_network(s: &Scene<'_>) -> bool {
    let mine = std::fs::read_link("/proc/self/ns/net").ok();
    let host = s.brief.namespaces.get("net");
    mine.zip(host).is_some_and(|(mine, host)| mine.as_os_str() != host.as_str())
}

fn bound() -> std::io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
}

/// Where nobody is bound, the second call hears of the first (udp(7)).
fn udp(port: u16) -> std::io::Result<()> {
    let socket = bound()?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    socket.send(b"probe")?;
    socket.send(b"probe").map(drop)
}

fn stream(s: &Scene<'_>, name: &str) -> Attempt {
    with(s.brief.sockets.get(name), &format!("the socket `{name}`"), |path| {
        deed(UnixStream::connect(path))
    })
}

/// Connects and says nothing.
fn seqpacket(s: &Scene<'_>, name: &str) -> Attempt {
    with(s.brief.sockets.get(name), &format!("the socket `{name}`"), |path| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        deed(socket.and_then(|socket| {
            rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(path.as_str())?)
        }))
    })
}

fn family(family: i32, kind: SocketType) -> Attempt {
    let family = u16::try_from(family).map(AddressFamily::from_raw);
    family.map_or_else(|_| Attempt::failed("no such family"), |family| socket(family, kind, None))
}

fn socket(family: AddressFamily, kind: SocketType, protocol: Option<Protocol>) -> Attempt {
    deed(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol))
}
