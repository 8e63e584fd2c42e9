//! What pid 1 of a server's namespaces does for its secrets while the server runs: a later value takes the
//! place of one in a file, and none is let through to the log. One in the environment stays what it was: its
//! supervisor starts such a server anew.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stderr::Stderr;
use super::vault::Vault;
use super::{Secrets, Value, next};
use crate::wire::stage::{Place, StagePlan};

/// Where later values come from, where they go, and what the server says meanwhile.
pub(in crate::sandbox) struct Keeping {
    way: Option<OwnedFd>,
    vault: Option<Vault>,
    stderr: Option<Stderr>,
    places: BTreeMap<String, Vec<Place>>,
}

impl Keeping {
    /// Of what a plan names. A server with secrets gets a pipe of its own instead of `stderr`.
    ///
    /// # Errors
    /// As pipe(2).
    pub(in crate::sandbox) fn new(
        plan: &StagePlan,
        secrets: &Secrets,
        way: Option<OwnedFd>,
        vault: Option<Vault>,
        stderr: &mut OwnedFd,
    ) -> io::Result<Self> {
        let mut keeping = Self { way, vault, stderr: None, places: plan.secrets.clone() };
        if !plan.secrets.is_empty() {
            let (from, servers) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let mut pipe = Stderr::new(from, std::mem::replace(stderr, servers))?;
            secrets.all().for_each(|(name, value)| pipe.know(name, value));
            keeping.stderr = Some(pipe);
        }
        Ok(keeping)
    }

    /// What there may be to do something about.
    pub(in crate::sandbox) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        let way = self.way.as_ref().map(|way| PollFd::new(way.as_fd(), PollFlags::POLLIN));
        way.into_iter().chain(self.stderr.as_ref().map(Stderr::polled))
    }

    /// Does what there is to do, without waiting for anything.
    pub(in crate::sandbox) fn serve(&mut self) {
        self.hear();
        if self.stderr.as_mut().is_some_and(|stderr| !stderr.pass()) {
            // As if there were nobody between the two: the other end is told.
            self.stderr = None;
        }
    }

    /// The server has ended.
    pub(in crate::sandbox) fn finish(&mut self) {
        if let Some(stderr) = self.stderr.take() {
            stderr.finish();
        }
    }

    /// Takes what has come. The end of the way is the end of the supervisor that held it: what is there stays.
    fn hear(&mut self) {
        let Some(way) = self.way.take() else { return };
        loop {
            match next(&way) {
                Ok(Some((name, value))) => self.replace(&name, &value),
                Ok(None) => break,
                // Not what the role writes: nobody is believed here any more.
                Err(_) => return,
            }
        }
        self.way = Some(way).filter(|way| !is_over(way));
    }

    fn replace(&mut self, name: &str, value: &Value) {
        let Some(places) = self.places.get(name) else { return };
        if let Some(stderr) = &mut self.stderr {
            stderr.know(name, value);
        }
        for place in places {
            if let (Place::File(file), Some(vault)) = (place, &self.vault) {
                // What is there is whole, and as old as before.
                let _ = vault.put(file, value);
            }
        }
    }
}

/// Whether nobody holds the other end any more. The poll that says so asks for nothing and does not wait.
fn is_over(way: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(way.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
