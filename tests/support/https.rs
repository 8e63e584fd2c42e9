//! Hosts for tests: a server of HTTPS on loopback that records what it saw, under an authority that
//! the test makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::{DEADLINE, Packages};

/// An authority, and the directory of its files.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    /// Makes one.
    pub(crate) fn make() -> Self {
        let authority = Self { dir: tempfile::tempdir().expect("a directory") };
        let text = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = made by a test\n\
                    [authority]\nbasicConstraints = critical, CA:TRUE\n\
                    [host]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = ${ENV::ALT}\n";
        std::fs::write(authority.path("openssl.cnf"), text).expect("written");
        authority.certificate("authority", "authority", "DNS:nobody");
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its own certificate.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("authority.pem")
    }

    fn certificate(&self, name: &str, kind: &str, alternative: &str) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-extensions", kind, "-config"]);
        command.arg(self.path("openssl.cnf")).env("ALT", alternative);
        command.arg("-keyout").arg(self.path(&format!("{name}.key")));
        command.arg("-out").arg(self.path(&format!("{name}.pem")));
        if kind == "host" {
            command.arg("-CA").arg(self.path("authority.pem"));
            command.arg("-CAkey").arg(self.path("authority.key"));
        }
        let made = command.output().expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// A host that is called like this, which speaks "h1", or "h2" as well.
    pub(crate) fn host(&self, name: &str, protocol: &str) -> Option<Upstream> {
        self.host_at(name, protocol, "127.0.0.1:0", Command::new("env"))
    }

    /// One at this place, started by a command that takes another.
    pub(crate) fn host_at(
        &self,
        name: &str,
        protocol: &str,
        at: &str,
        mut command: Command,
    ) -> Option<Upstream> {
        let packages = Packages::find()?;
        self.certificate(name, "host", &format!("DNS:{name}"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/upstream.mjs");
        command.arg(packages.node()).arg(script).arg(self.path(&format!("{name}.key")));
        command.arg(self.path(&format!("{name}.pem"))).args([protocol, at]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("JSON");
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let commands = child.stdin.take().expect("a pipe");
        let mut upstream = Upstream { child, commands, lines, port: 0 };
        let port = upstream.next("port")["port"].as_u64().expect("a port");
        upstream.port = port.try_into().expect("a port");
        Some(upstream)
    }
}

/// A host.
pub(crate) struct Upstream {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<Value>,
    pub(crate) port: u16,
}

impl Upstream {
    /// The next thing of this kind that it says.
    pub(crate) fn next(&self, kind: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("the host said no {kind}"));
            if line.get(kind).is_some() {
                return line;
            }
        }
    }

    /// What it has seen by now and nobody asked for.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.lines.try_iter().filter(|line| line.get("saw").is_some()).collect()
    }

    fn command(&mut self, command: &Value) {
        writeln!(self.commands, "{command}").expect("told");
    }

    /// From now on it takes this token only.
    pub(crate) fn accept(&mut self, token: &str) {
        self.command(&json!({"accept": token}));
    }

    /// Lets the next event leave.
    pub(crate) fn go(&mut self) {
        self.command(&json!({"go": true}));
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
