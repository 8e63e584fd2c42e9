//! What is open to clients: both doors, and who attends them. Closed and opened again as a whole.
//!
//! The listening sockets stay while the doors are closed: clients queue at them.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::api::{self, Counter};
use super::door::Attendant;
use super::doors::{Doors, Presence, SocketFiles, Spare};
use super::listen::{Closed, Porter};
use super::message::Handle;
use super::parting::Parting;
use super::replace::AtTheDoors;
use super::seats::Ledger;
use crate::auth::{Directory, Nobodies};
use crate::paths::Layout;

/// What whoever attends a door needs.
#[derive(Debug, Clone)]
pub(super) struct Entrance {
    pub(super) house: Handle,
    pub(super) directory: Directory,
    pub(super) nobodies: Arc<Mutex<Nobodies>>,
    pub(super) parting: Parting,
}

/// The doors; their drop closes them.
#[derive(Debug)]
pub(super) struct Open {
    entrance: Entrance,
    attended: Attended,
    /// The seats of the control door.
    talks: Ledger,
    spare: Option<Spare>,
    files: Option<SocketFiles>,
}

#[derive(Debug)]
enum Attended {
    Yes { porter: Porter, counter: JoinHandle<()> },
    NoMore(Closed),
    Never,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close_for_good();
    }
}

impl Open {
    /// Opens both.
    pub(super) fn doors(doors: Doors, entrance: Entrance) -> io::Result<Self> {
        let spare = Some(doors.spare()?);
        let talks = Ledger::new(api::SEATS);
        let Doors { session, control, files } = doors;
        let attended = attend(&entrance, &talks, Spare { session, control })?;
        Ok(Self { entrance, attended, talks, spare, files: Some(files) })
    }

    /// Lets nobody in any more; who is in stays.
    pub(super) fn close(&mut self) {
        self.attended = match std::mem::replace(&mut self.attended, Attended::Never) {
            Attended::Yes { porter, counter } => {
                counter.abort();
                Attended::NoMore(porter.close())
            }
            closed => closed,
        };
    }

    /// Also takes the sockets away.
    pub(super) fn close_for_good(&mut self) {
        self.close();
        self.spare = None;
        self.files = None;
    }

    /// Lets clients in again after [`Self::close`].
    pub(super) fn open_again(&mut self) -> io::Result<()> {
        if let (Attended::NoMore(_), Some(spare)) = (&self.attended, &self.spare) {
            self.attended = attend(&self.entrance, &self.talks, spare.again()?)?;
        }
        Ok(())
    }

    /// What has become of the socket files.
    pub(super) fn presence(&self, layout: &Layout) -> Presence {
        self.files.as_ref().map_or(Presence::There, |files| files.presence(layout))
    }

    /// Who is in.
    pub(super) fn visitors(&self) -> AtTheDoors {
        let quiet = matches!(&self.attended, Attended::NoMore(closed) if closed.is_empty());
        AtTheDoors { quiet, talks: self.talks.taken() }
    }

    /// Both sockets, with their names, for the next program.
    pub(super) fn to_pass_on(&self) -> Option<(&Spare, [&'static str; 2])> {
        Some((self.spare.as_ref()?, self.files.as_ref()?.names()))
    }
}

fn attend(entrance: &Entrance, talks: &Ledger, sockets: Spare) -> io::Result<Attended> {
    let Entrance { house, directory, nobodies, parting } = entrance.clone();
    let attendant = Attendant {
        house: house.clone(),
        directory: directory.clone(),
        nobodies: nobodies.clone(),
        parting: parting.clone(),
    };
    let porter = Porter::start(sockets.session, attendant)?;
    let counter = Counter { house, directory, nobodies, parting, seats: talks.clone() };
    let counter = tokio::task::spawn_local(async move {
        if let Err(error) = counter.run(sockets.control).await {
            tracing::error!("the control door is closed: {error}");
        }
    });
    Ok(Attended::Yes { porter, counter })
}
