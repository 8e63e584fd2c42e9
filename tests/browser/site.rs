//! The web site of `site.mjs`, in a world of the test's own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{DEADLINE, Home, Lines, Packages};
use crate::world::World;

/// A running site; its drop ends it.
pub(crate) struct Site {
    process: Child,
    lines: Lines,
}

impl Site {
    /// Serves HTTP at this address and port of the world.
    pub(crate) fn open(world: &World, packages: &Packages, at: (&str, u16)) -> Self {
        Self::start(world, packages, at, &[])
    }

    /// Serves HTTPS, with a certificate of its own that nobody has signed.
    pub(crate) fn open_tls(
        world: &World,
        packages: &Packages,
        home: &Home,
        at: (&str, u16),
        name: &str,
    ) -> Self {
        let (key, certificate) = (home.path().join("key.pem"), home.path().join("cert.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={name}")]);
        openssl.args(["-addext", &format!("subjectAltName=DNS:{name}")]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        let made = openssl.output().expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self::start(world, packages, at, &[&key, &certificate])
    }

    fn start(world: &World, packages: &Packages, at: (&str, u16), files: &[&Path]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/site.mjs");
        let mut node = Command::new(packages.node());
        node.arg(script).arg(at.0).arg(at.1.to_string()).args(files);
        node.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = world.inside(|| node.spawn().expect("node"));
        let mut lines = Lines::new(process.stdout.take().expect("a pipe"));
        assert_eq!(lines.next(DEADLINE).as_deref(), Some("ready"));
        Self { process, lines }
    }

    /// What it was asked for so far, "HOST PATH", since it was last asked this.
    pub(crate) fn asked(&mut self) -> Vec<String> {
        let next = || self.lines.try_next(Duration::ZERO).ok().flatten();
        std::iter::from_fn(next).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
