//! The calls that leave the street: every other room that a command enters, in one place.
//!
//! It translates between the command line and the rooms' own types and errors, and does nothing else.

use std::os::fd::BorrowedFd;

use anyhow::Context as _;

use super::args::Which;
use super::connect::door::{self, Choice, Session};
use super::connect::keep::{self, Keeping, Kept};
use super::failure::Failure;
use crate::names::Target;
use crate::paths::{Layout, Mode};
use crate::{builtin, supervisor};

/// Runs the supervisor until it is told to stop.
pub(super) fn serve(options: supervisor::Options) -> anyhow::Result<()> {
    use supervisor::{GroundError, SupervisorError};
    supervisor::serve(options).map_err(|error| match error {
        SupervisorError::Ground(GroundError::Locked { .. }) => {
            Failure::unavailable(format!("cannot serve: {error}")).into()
        }
        error => anyhow::Error::new(error).context("cannot serve"),
    })
}

/// Opens a session through the door that `connect` uses. It fails at once where a session could wait.
pub(super) fn open(
    which: Which,
    target: &Target,
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
) -> Result<Session, Failure> {
    let strict = true;
    door::open(choice(which), Some(&written(target)), strict, stdin, stdout).map_err(Failure::from)
}

/// Has the supervisor that knows the tenant keep a secret.
pub(super) fn keep(
    which: Which,
    keeping: Keeping<'_>,
    secret: BorrowedFd<'_>,
) -> Result<Kept, Failure> {
    keep::keep(choice(which), keeping, secret).map_err(Failure::from)
}

/// Reads the configuration and reports every problem of it.
pub(super) fn check(layout: &Layout, json: bool) -> anyhow::Result<u8> {
    super::check::run(layout, json)
}

/// What this machine can do to confine a server, tried now.
pub(super) fn strength(layout: &Layout) -> anyhow::Result<supervisor::Strength> {
    supervisor::strength(layout).context("cannot try the sandbox")
}

/// Prints the schema of a tenant file.
pub(super) fn schema() -> anyhow::Result<u8> {
    super::schema::run().map(|()| super::failure::DONE)
}

/// Is the documents server on stdin and stdout.
pub(super) fn documents() -> anyhow::Result<()> {
    builtin::documents::run().context("the documents server ended")
}

/// The layout of one mode, for this process.
pub(super) fn layout(mode: Mode) -> Result<Layout, Failure> {
    Layout::of(mode).map_err(|error| Failure::new(super::failure::CONFIG, error.to_string()))
}

/// The target as it is written on a command line.
pub(super) fn written(target: &Target) -> String {
    match (&target.tenant, &target.server) {
        (Some(tenant), Some(server)) => format!("{tenant}/{server}"),
        (Some(tenant), None) => tenant.to_string(),
        (None, _) => String::new(),
    }
}

fn choice(which: Which) -> Choice {
    match which {
        Which { user: true, .. } => Choice::User,
        Which { system: true, .. } => Choice::System,
        Which { .. } => Choice::Any,
    }
}
