//! A world of a test's own: a network namespace with addresses that are public elsewhere, and its own
//! /etc/hosts and /etc/resolv.conf. Nothing leaves it, and the machine's own files stay as they are.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use nix::sched::{CloneFlags, setns};

use crate::support::{Home, Session, Supervisor, tenantd, test_user};

/// An address that is a stranger's to whoever judges it, and this world's own.
pub(crate) const PUBLIC: &str = "93.184.215.14";

/// What the world's own table of hosts says.
const HOSTS: &str = "127.0.0.1 localhost db.acme.lan api.acme.lan deep.wild.example\n\
                     93.184.215.14 public.wild.example\n\
                     10.66.0.1 house.wild.example\n";

/// A world, held open by a process in it.
pub(crate) struct World {
    holder: Child,
    _files: tempfile::TempDir,
}

impl World {
    /// Makes one; `None`, said loudly, where this is not root. In CI that is a failure.
    pub(crate) fn make() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("CI").is_none(),
                "only root can make a network of a test's own"
            );
            eprintln!("SKIPPED: only root can make a network of a test's own");
            return None;
        }
        let files = tempfile::tempdir().expect("a directory");
        fs::write(files.path().join("hosts"), HOSTS).expect("written");
        let servers = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        fs::write(files.path().join("resolv.conf"), servers).expect("written");
        let script =
            "set -e; ip link set lo up; ip addr add $1/32 dev lo; ip addr add 10.66.0.1/32 dev lo
            ip -6 addr add fd66::1/128 dev lo nodad
            mount --bind \"$2/hosts\" /etc/hosts; mount --bind \"$2/resolv.conf\" /etc/resolv.conf
            echo; exec cat";
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--net", "--mount", "--", "sh", "-c", script, "sh", PUBLIC])
            .arg(files.path());
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = unshare.spawn().expect("unshare");
        let told = holder.stdout.as_mut().expect("a pipe").read(&mut [0]);
        assert_eq!(told.expect("read"), 1, "the world was not made (is iproute2 installed?)");
        Some(Self { holder, _files: files })
    }

    /// Does something in its network; what it opens there stays there.
    pub(crate) fn inside<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        let network = self.network();
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                setns(network, CloneFlags::CLONE_NEWNET).expect("setns");
                deed()
            });
            done.join().expect("done")
        })
    }

    /// The command before one that is to run in it.
    pub(crate) fn entering(&self) -> [String; 6] {
        let pid = self.holder.id().to_string();
        ["nsenter", "--net", "--mount", "--target", &pid, "--"].map(str::to_owned)
    }

    /// Starts a supervisor in it.
    pub(crate) fn start<'a>(&self, home: &'a Home) -> Supervisor<'a> {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.holder.id().to_string(), "--"]);
        if let Some(user) = test_user() {
            command.args(["setpriv", "--clear-groups", "--reuid", &user.uid.to_string()]);
            command.args(["--regid", &user.gid.to_string(), "--"]);
        }
        command.arg(tenantd()).args(["serve", "--user"]);
        command.env("TENANTD_HOME", home.path()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        home.launch(command)
    }

    /// A server in it that answers each connection with what it heard, in capitals.
    pub(crate) fn shouts(&self, at: &str) -> Shouts {
        let listener = self.inside(|| TcpListener::bind(at).expect("bound"));
        let (address, taken) = (listener.local_addr().expect("an address"), Arc::default());
        let count: Arc<AtomicUsize> = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || shout(stream));
            }
        });
        Shouts { address, taken }
    }

    /// A server of HTTP in it that says "hello" to every request.
    pub(crate) fn greets(&self, at: &str) -> SocketAddr {
        let listener = self.inside(|| TcpListener::bind(at).expect("bound"));
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let answer =
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    /// A proxy of a house in it, which knows one name and leads it to `to`. Gives what it was asked for.
    pub(crate) fn house_proxy(
        &self,
        at: &str,
        name: &'static str,
        to: SocketAddr,
    ) -> Receiver<String> {
        let listener = self.inside(|| TcpListener::bind(at).expect("bound"));
        let network = self.network();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("setns");
            for mut stream in listener.incoming().flatten() {
                let mut head = [0; 4096];
                let length = stream.read(&mut head).expect("read");
                let line =
                    String::from_utf8_lossy(&head[..length]).lines().next().map(str::to_owned);
                let line = line.unwrap_or_default();
                if !line.contains(name) {
                    let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                    let _ = tell.send(line);
                    continue;
                }
                let _ = tell.send(line);
                let mut behind = TcpStream::connect(to).expect("connected");
                stream.write_all(b"HTTP/1.1 200 OK\r\nVia: house\r\n\r\nfirst ").expect("written");
                let (mut up, mut back) = (stream.try_clone().expect("a copy"), behind.try_clone());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up, &mut behind);
                    let _ = behind.shutdown(std::net::Shutdown::Write);
                });
                let _ = std::io::copy(back.as_mut().expect("a copy"), &mut stream);
            }
        });
        told
    }

    fn network(&self) -> fs::File {
        fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("a namespace")
    }

    /// A name server in it: each question for an address of IPv4 takes the next answer of `answers`, the last
    /// of them again and again; nothing else has an answer.
    pub(crate) fn name_server(&self, answers: &'static [[u8; 4]]) -> Arc<AtomicUsize> {
        let socket = self.inside(|| UdpSocket::bind("127.0.0.1:53").expect("bound"));
        let asked: Arc<AtomicUsize> = Arc::default();
        let count = asked.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let question = &buffer[..length];
                let answer = answer(question, |()| {
                    let at = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                    answers[at]
                });
                let _ = socket.send_to(&answer, peer);
            }
        });
        asked
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Echoes in capitals until the other side has ended; one byte alone comes back at once.
fn shout(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 || stream.write_all(&buffer[..read].to_ascii_uppercase()).is_err() {
            return;
        }
    }
}

/// An answer to one question (RFC 1035): its header, its question, at most one record.
fn answer(question: &[u8], mut next: impl FnMut(()) -> [u8; 4]) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).expect("a name") + 13;
    let is_a = question[name..name + 2] == [0, 1];
    let mut bytes = question[..2].to_vec();
    bytes.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    bytes.extend(&question[12..name + 4]);
    if is_a {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend(next(()));
    }
    bytes
}

/// A server that answers.
pub(crate) struct Shouts {
    pub(crate) address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Shouts {
    /// Connections so far.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// The directory of the servers of these tests.
pub(crate) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

/// A tenant on one of these servers, with this network.
pub(crate) fn tenant(command: &Path, script: &str, network: &str, more: &str) -> String {
    let script = scripts().join(script);
    let mut read = vec![scripts()];
    if !command.starts_with("/usr") {
        let real = command.canonicalize().expect("a program");
        read.extend(real.parent().map(Path::to_owned));
    }
    format!(
        "[server]\ncommand = {command:?}\nargs = [{script:?}]\n{more}\n[sandbox]\nnetwork = {network}\n\
         read = {read:?}\nrequire = [\"namespaces\", \"landlock\", \"seccomp\"]\n"
    )
}

/// A tenant on the Python server.
pub(crate) fn python(network: &str) -> String {
    tenant(Path::new("/usr/bin/python3"), "reach.py", network, "")
}

/// What a tool of these servers says.
pub(crate) fn tool(
    session: &mut Session,
    name: &str,
    arguments: serde_json::Value,
) -> serde_json::Value {
    let result = session.call(name, arguments);
    let text = crate::support::said(&result);
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{result}"))
}

/// The lines of a tenant's network log that say this, once there are so many.
pub(crate) fn logged(home: &Home, tenant: &str, wanted: &[&str], count: usize) -> Vec<String> {
    let path = home.path().join("log/tenants").join(tenant).join("network.log");
    let mut found = Vec::new();
    crate::support::wait_until(&format!("{count} lines with {wanted:?}"), || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let fits = |line: &&str| wanted.iter().all(|part| line.contains(part));
        found = text.lines().filter(fits).map(str::to_owned).collect();
        found.len() >= count
    });
    found
}
