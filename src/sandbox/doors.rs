//! The network that a sandbox finds in its own namespace: its loopback interface and, where its network is
//! an allowlist, a listening socket for every destination of it.
//!
//! A program dials what it always dialled: /etc/hosts gives each exact host an address of 127.64.0.0/16,
//! and an address that is listed by itself is given to the loopback interface. What listens there is handed
//! to the tenant's egress, outside, and nothing here can dial further. Called once by the namespace's init,
//! while it still has capabilities there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, listen, recv, send,
    socket_with, sockopt,
};

use crate::post;
use crate::sys;
use crate::wire::egress::{Listener, Opened};
use crate::wire::stage::{Doorway, Network};

/// Where the CONNECT proxy listens inside.
pub const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3128);
/// Connections that wait for egress to take them: what a program may open at once.
const BACKLOG: i32 = 256;
/// The loopback interface is the first of every namespace.
const LOOPBACK: i32 = 1;

// rtnetlink(7): linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/if.h.
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
const NLM_F_CREATE_EXCL: u16 = 0x400 | 0x200;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RTN_LOCAL: u8 = 2;
const RT_SCOPE_HOST: u8 = 254;
const IFF_UP: u32 = 1;

/// The sandbox's /etc/hosts.
pub fn hosts_file(network: &Network) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let Network::Allow { hosts, .. } = network else { return text };
    for Doorway { host, address, .. } in hosts {
        let known = host == "localhost" || host.parse::<IpAddr>().is_ok();
        if !known {
            text.push_str(&format!("{address} {host}\n"));
        }
    }
    text
}

/// Brings the loopback interface of this namespace up and opens what the plan names, for egress at the
/// other end of `egress`.
///
/// # Errors
/// What could not be had, with the reason; nothing may start then.
pub fn open(network: &Network, egress: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let (hosts, proxy) = match network {
        // Not a namespace of its own.
        Network::Host => return Ok(()),
        Network::None => {
            return loopback(&[]).or_else(|error| match error.kind() {
                // Root that made the namespace without CAP_NET_ADMIN: it stays down, and holds all the same.
                io::ErrorKind::PermissionDenied => Ok(()),
                _ => Err(error),
            });
        }
        Network::Allow { hosts, proxy } => (hosts, *proxy),
    };
    let egress = egress.ok_or_else(|| io::Error::other("there is no way to egress"))?;
    loopback(hosts)?;
    let mut batch = Batch { egress, listeners: Vec::new(), sockets: Vec::new() };
    if proxy {
        batch.add(Listener::Proxy, listening(PROXY)?)?;
    }
    for Doorway { host, address, ports } in hosts {
        for port in ports {
            let at = SocketAddr::new(*address, *port);
            match listening(at) {
                Ok(socket) => {
                    batch.add(Listener::Door { host: host.clone(), port: *port }, socket)?;
                }
                // A machine without IPv6 has no ::1, and its programs do not look for it.
                Err(error)
                    if *address == Ipv6Addr::LOCALHOST
                        && error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("cannot listen on {at} for {host}: {error}"),
                    ));
                }
            }
        }
    }
    batch.send()
}

/// Listeners on their way to egress, as many as fit into one datagram.
struct Batch<'a> {
    egress: BorrowedFd<'a>,
    listeners: Vec<Listener>,
    sockets: Vec<OwnedFd>,
}

impl Batch<'_> {
    fn add(&mut self, listener: Listener, socket: OwnedFd) -> io::Result<()> {
        self.listeners.push(listener);
        self.sockets.push(socket);
        if self.sockets.len() == sys::DESCRIPTORS { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let opened = Opened { listeners: std::mem::take(&mut self.listeners) };
        let sockets = std::mem::take(&mut self.sockets);
        if sockets.is_empty() {
            return Ok(());
        }
        let with: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        post::send(self.egress, &opened, &with, SendFlags::empty()).map_err(|error| {
            io::Error::other(format!("the tenant's egress does not take its listeners: {error}"))
        })
    }
}

fn listening(at: SocketAddr) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
        // Such an address has a way to it, and no interface.
        sockopt::set_ipv6_freebind(&socket, at.ip() != Ipv6Addr::LOCALHOST)?;
    }
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Brings the loopback interface up, with the addresses that are listed by themselves.
fn loopback(hosts: &[Doorway]) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // No protocol is NETLINK_ROUTE.
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    ask(&kernel, &up()).map_err(named("bring up the loopback interface"))?;
    for Doorway { address, .. } in hosts.iter().filter(|doorway| !doorway.address.is_loopback()) {
        let request = match address {
            IpAddr::V4(v4) => address_message(*v4),
            IpAddr::V6(v6) => route_message(*v6),
        };
        match ask(&kernel, &request) {
            // Twice in the list.
            Err(Errno::EXIST) => {}
            given => given.map_err(named(&format!("give {address} to the loopback interface")))?,
        }
    }
    Ok(())
}

fn named(deed: &str) -> impl FnOnce(Errno) -> io::Error {
    move |error| io::Error::new(io::Error::from(error).kind(), format!("cannot {deed}: {error}"))
}

/// Sends one request and waits for its acknowledgement.
fn ask(kernel: &OwnedFd, request: &[u8]) -> Result<(), Errno> {
    send(kernel, request, SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let (_, length) = recv(kernel, &mut answer[..], RecvFlags::empty())?;
    let read = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match (kind, read(16).map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) if length >= 20 => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) if length >= 20 => Err(Errno::from_raw_os_error(-error)),
        _ => Err(Errno::PROTO),
    }
}

/// A request with its header (struct nlmsghdr).
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST_ACK | flags).to_ne_bytes());
    // Sequence and port: there is one question at a time.
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// struct ifinfomsg: family, padding, type, index, flags, which flags change.
fn up() -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    message(RTM_NEWLINK, 0, &body)
}

/// struct ifaddrmsg: family, prefix length, flags, scope, index; then the address, as both of what it is.
fn address_message(address: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![family(AddressFamily::INET), 32, 0, RT_SCOPE_HOST];
    body.extend(LOOPBACK.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        attribute(&mut body, kind, &address.octets());
    }
    message(RTM_NEWADDR, NLM_F_CREATE_EXCL, &body)
}

/// struct rtmsg: family, length of the destination, length of the source, TOS, table, protocol, scope, type,
/// flags; then the destination and the interface. A way that ends here needs no address of the interface's,
/// which a worker of the kernel's would only finish when it finds the time.
fn route_message(address: Ipv6Addr) -> Vec<u8> {
    let family = family(AddressFamily::INET6);
    let mut body = vec![family, 128, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL];
    body.extend([0; 4]);
    attribute(&mut body, RTA_DST, &address.octets());
    attribute(&mut body, RTA_OIF, &LOOPBACK.to_ne_bytes());
    message(RTM_NEWROUTE, NLM_F_CREATE_EXCL, &body)
}

fn family(of: AddressFamily) -> u8 {
    u8::try_from(of.as_raw()).unwrap_or_default()
}

/// struct rtattr. All that are used here have a length that needs no padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const INSIDE: &str = "TENANTD_TEST_INSIDE";

    fn doorway(host: &str, address: &str, ports: &[u16]) -> Doorway {
        let address = address.parse().expect("an address");
        Doorway { host: host.to_owned(), address, ports: ports.to_vec() }
    }

    #[test]
    fn names_have_their_lines_and_addresses_need_none() {
        let hosts = vec![
            doorway("db.acme.lan", "127.64.0.1", &[5432]),
            doorway("localhost", "127.0.0.1", &[80]),
            doorway("10.1.2.3", "10.1.2.3", &[443]),
        ];
        let text = hosts_file(&Network::Allow { hosts, proxy: false });
        assert!(text.ends_with("ip6-loopback\n127.64.0.1 db.acme.lan\n"), "{text}");
        assert_eq!(hosts_file(&Network::None).lines().count(), 2);
    }

    /// Run by the test below, in namespaces of its own.
    #[test]
    fn inside() {
        if std::env::var_os(INSIDE).is_none() {
            return;
        }
        let hosts = vec![
            doorway("db.acme.lan", "127.64.0.1", &[5432, 443]),
            doorway("10.1.2.3", "10.1.2.3", &[22]),
            doorway("10.1.2.3", "10.1.2.3", &[23]),
            doorway("fd00::5", "fd00::5", &[80]),
            doorway("localhost", "::1", &[81]),
        ];
        let many = (1..=30).map(|n| doorway("many.lan", "127.64.0.9", &[n]));
        let network =
            Network::Allow { hosts: hosts.into_iter().chain(many).collect(), proxy: true };
        let (near, far) = sys::seqpacket_pair().expect("a pair");
        open(&network, Some(far.as_fd())).expect("opened");
        let mut got = Vec::new();
        while got.len() < 37 {
            let mut buffer = [0; 8192];
            let (opened, sockets): (Opened, Vec<OwnedFd>) =
                post::receive(&near, &mut buffer, RecvFlags::DONTWAIT).expect("listeners");
            assert_eq!(opened.listeners.len(), sockets.len());
            got.extend(opened.listeners.into_iter().zip(sockets));
        }
        for (listener, at) in [
            (Listener::Proxy, "127.0.0.1:3128"),
            (Listener::Door { host: "db.acme.lan".into(), port: 443 }, "127.64.0.1:443"),
            (Listener::Door { host: "10.1.2.3".into(), port: 23 }, "10.1.2.3:23"),
            (Listener::Door { host: "fd00::5".into(), port: 80 }, "[fd00::5]:80"),
            (Listener::Door { host: "localhost".into(), port: 81 }, "[::1]:81"),
        ] {
            let (_, socket) = got.iter().find(|(of, _)| *of == listener).expect("handed over");
            let connected = std::net::TcpStream::connect(at).expect("connected");
            let taken = std::net::TcpListener::from(socket.try_clone().expect("a copy"));
            let (_, peer) = taken.accept().expect("taken");
            assert_eq!(connected.local_addr().expect("an address"), peer, "{at}");
        }
        // What is not listed is nowhere.
        for at in ["10.1.2.4:22", "127.64.0.1:80", "[fd00::6]:80", "192.0.2.1:443"] {
            assert!(std::net::TcpStream::connect(at).is_err(), "{at}");
        }
        drop(near);
        assert!(
            open(&Network::Allow { hosts: Vec::new(), proxy: true }, Some(far.as_fd())).is_err()
        );
    }

    #[test]
    fn every_listed_host_listens_inside_and_nothing_else_is_there() {
        let program = std::env::current_exe().expect("this test");
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "--"]).arg(program);
        unshare.args(["--exact", "sandbox::doors::tests::inside", "--nocapture"]).env(INSIDE, "1");
        let done = unshare.output().expect("unshare");
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stdout));
    }
}
