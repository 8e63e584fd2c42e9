//! The web site of `site.mjs`, in a world of the test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::authority::Authority;
use crate::support::{DEADLINE, Lines, Packages};
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

    /// Serves HTTPS, with a certificate of this authority's.
    pub(crate) fn open_tls(
        world: &World,
        packages: &Packages,
        authority: &Authority,
        at: (&str, u16),
    ) -> Self {
        Self::start(world, packages, at, &authority.signed())
    }

    fn start(world: &World, packages: &Packages, at: (&str, u16), files: &[PathBuf]) -> Self {
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
