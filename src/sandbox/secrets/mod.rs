//! A server's secrets in its sandbox: taken from the hand-over socket by the process that forks the server,
//! given to it in its environment and as files ([`vault`]), and kept up to date ([`keeping`]).
//!
//! The values are in no plan, no argument and no file on disk: in the memory of that process, which nobody of
//! its uid can read, and in the server's own.

pub(super) mod keeping;
mod stderr;
pub(super) mod vault;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::RecvFlags;
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::post::{self, PostError};
use crate::wire::credential::Handed;
use crate::wire::stage::{Backend, Place, StagePlan};

/// The longest [`Handed`], bytes: a name of at most 64, and a number.
const HANDED: usize = 512;

/// One secret's bytes; zeroed when they are dropped.
pub(super) type Value = Zeroizing<Vec<u8>>;

/// The values of what a plan names.
#[derive(Default)]
pub(super) struct Secrets(BTreeMap<String, Value>);

impl Secrets {
    /// Those that wait in the hand-over socket: exactly the ones that the plan names.
    ///
    /// # Errors
    /// Where one is missing, unknown or cannot be read: a server without its secrets is not started.
    pub(super) fn take(plan: &StagePlan, waiting: Option<&OwnedFd>) -> Result<Self, Failure> {
        let mut values = BTreeMap::new();
        while let Some((name, value)) = waiting.map_or(Ok(None), next)? {
            if !plan.secrets.contains_key(&name) {
                let why = io::Error::other(format!("{name} is not for it"));
                return Err(Failure::during("take its credentials")(why));
            }
            values.insert(name, value);
        }
        match plan.secrets.keys().find(|name| !values.contains_key(*name)) {
            None => Ok(Self(values)),
            Some(name) => {
                let why = io::Error::other(format!("{name} was not handed over"));
                Err(Failure::during("take its credentials")(why))
            }
        }
    }

    /// What its environment gets of them.
    pub(super) fn variables<'a>(
        &'a self,
        plan: &'a StagePlan,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.placed(plan).filter_map(|(place, value)| match place {
            Place::Env(variable) => Some((variable.as_str(), value)),
            Place::File(_) => None,
        })
    }

    /// The files that it gets.
    pub(super) fn files<'a>(
        &'a self,
        plan: &'a StagePlan,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.placed(plan).filter_map(|(place, value)| match place {
            Place::File(file) => Some((file.as_str(), value)),
            Place::Env(_) => None,
        })
    }

    /// Every one, by name.
    fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    fn placed<'a>(&'a self, plan: &'a StagePlan) -> impl Iterator<Item = (&'a Place, &'a Value)> {
        self.0.iter().flat_map(|(name, value)| {
            let places = plan.secrets.get(name).into_iter().flatten();
            places.map(move |place| (place, value))
        })
    }
}

/// The next one that waits; nothing where none does, or none will come any more.
///
/// # Errors
/// Where what waits is none, or it could not be read.
pub(super) fn next(socket: &OwnedFd) -> Result<Option<(String, Value)>, Failure> {
    let failed = Failure::during("take its credentials");
    match post::receive::<Handed>(socket, &mut [0; HANDED], RecvFlags::DONTWAIT) {
        Ok((handed, descriptors)) => {
            let value = post::exactly(descriptors).and_then(|[memfd]| post::unseal_secret(memfd));
            Ok(Some((handed.name, value.map_err(io::Error::other).map_err(failed)?)))
        }
        Err(PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(PostError::Closed) => Ok(None),
        Err(PostError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

/// The files that a plan asks for.
pub(super) fn files(plan: &StagePlan) -> impl Iterator<Item = &str> {
    plan.secrets.values().flatten().filter_map(|place| match place {
        Place::File(file) => Some(file.as_str()),
        Place::Env(_) => None,
    })
}

/// Files are private in a mount namespace of the server's own, and nowhere else.
///
/// # Errors
/// Where there is none and a file is asked for.
pub(super) fn can_be_had(plan: &StagePlan) -> Result<(), Failure> {
    match files(plan).next() {
        Some(file) if plan.backend == Backend::None => Err(Failure::final_one(format!(
            "the credential in the file {file} needs namespaces, and this machine lets no process make them \
             (see tenantd doctor, or give it as env = \"...\")"
        ))),
        _ => Ok(()),
    }
}
