//! The escape probes: everything that a server could try to leave its sandbox, tried.
//!
//! `tenantd --role=probe` reads a [`Brief`] from its stdin, tries every probe of the table, each in a process
//! of its own, and writes one [`Account`] to its stdout. It is run where a server runs, and once more without
//! a sandbox, as the same user: only what is open there and blocked here is the sandbox's merit.
//!
//! A probe harms nothing where it succeeds: it signals with signal 0, opens and does not write, makes what
//! it takes away again. It prints no byte of what it could read.

mod attempt;
mod brief;
mod devices;
mod files;
mod groups;
mod ipc;
mod kernel;
mod limits;
mod namespaces;
mod network;
mod objects;
mod privileges;
mod processes;
mod programs;
mod run;

pub use attempt::Outcome;
pub use brief::{Brief, Groups, House, Known, Neighbour, Objects, identify};
pub use objects::Planted;
pub use run::{Account, Finding, main};

use attempt::Attempt;
use run::Scene;

/// One thing that is tried.
pub struct Probe {
    /// `group.name`: the same for ever, so that two reports can be compared.
    pub id: &'static str,
    /// What holds if it is open.
    pub title: &'static str,
    /// The call by which it is tried.
    pub attempt: &'static str,
    run: fn(&Scene<'_>) -> Attempt,
}

impl Probe {
    /// What it is about: the id up to the dot.
    pub fn group(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }
}

/// A row of a table of probes.
const fn probe(
    id: &'static str,
    title: &'static str,
    attempt: &'static str,
    run: fn(&Scene<'_>) -> Attempt,
) -> Probe {
    Probe { id, title, attempt, run }
}

/// Every probe.
pub fn all() -> impl Iterator<Item = &'static Probe> {
    [
        files::PROBES,
        programs::PROBES,
        devices::PROBES,
        processes::PROBES,
        network::PROBES,
        ipc::PROBES,
        namespaces::PROBES,
        kernel::PROBES,
        privileges::PROBES,
        limits::PROBES,
        groups::PROBES,
    ]
    .into_iter()
    .flatten()
}

/// Why what a probe can do inside every sandbox of ours is no way out; nothing for what must be blocked.
pub fn accepted(id: &str) -> Option<&'static str> {
    ACCEPTED.iter().find(|(accepted, _)| *accepted == id).map(|(_, reason)| *reason)
}

const ACCEPTED: &[(&str, &str)] = &[
    (
        "programs.memfd",
        "code that a server brings itself runs with the same confinement as the server's own: \
         only what it may do is bounded, not by which instructions",
    ),
    (
        "network.netlink",
        "it configures and shows the server's own network namespace, in which there is nothing else, \
         and changes need a capability that no server has",
    ),
    (
        "files.symlink-planted",
        "a link is text; tenantd follows none that a tenant could have made, and the sandbox shows a server \
         nothing at its other end",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_probe_has_a_name_of_its_own_and_a_group() {
        let ids: BTreeSet<_> = all().map(|probe| probe.id).collect();
        assert_eq!(ids.len(), all().count());
        for probe in all() {
            assert!(probe.id.contains('.') && probe.group() != probe.id, "{}", probe.id);
        }
    }

    #[test]
    fn what_is_accepted_is_tried() {
        for (id, reason) in ACCEPTED {
            assert!(all().any(|probe| probe.id == *id), "{id}");
            assert_eq!(accepted(id), Some(*reason));
        }
    }
}
