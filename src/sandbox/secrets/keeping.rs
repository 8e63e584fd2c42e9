//! What pid 1 of a server's namespaces does for its secrets while the server runs: a later value takes the
//! place of one in a file. One in the environment stays what it was: its supervisor starts such a server anew.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::next;
use super::vault::Vault;
use crate::wire::stage::{Place, StagePlan};

/// Where later values come from, and where they go.
#[derive(Default)]
pub(in crate::sandbox) struct Keeping {
    way: Option<OwnedFd>,
    vault: Option<Vault>,
    places: BTreeMap<String, Vec<Place>>,
}

impl Keeping {
    /// Of what a plan names.
    pub(in crate::sandbox) fn new(
        plan: &StagePlan,
        way: Option<OwnedFd>,
        vault: Option<Vault>,
    ) -> Self {
        Self { way, vault, places: plan.secrets.clone() }
    }

    /// What is to be read from, as soon as there is something.
    pub(in crate::sandbox) fn way(&self) -> Option<BorrowedFd<'_>> {
        self.way.as_ref().map(AsFd::as_fd)
    }

    /// Takes what has come. The end of the way is the end of the supervisor that held it: what is there stays.
    pub(in crate::sandbox) fn hear(&mut self) {
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

    fn replace(&self, name: &str, value: &[u8]) {
        let places = self.places.get(name).into_iter().flatten();
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
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled = [PollFd::new(way.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
