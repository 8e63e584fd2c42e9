//! What is open to clients: both doors with those who attend them, made anew where their files vanish.
//!
//! A runtime directory goes with a logout or a cleaner of `/tmp`. What runs needs no door, but no client
//! finds this supervisor any more, and its lock keeps every other from serving. Owned by the loop.

use std::io;
use std::time::{Duration, Instant};

use super::api::Counter;
use super::door::Attendant;
use super::doors::{Doors, Presence, SocketFiles};
use super::house::House;
use super::listen::Porter;
use super::parting::Parting;
use super::{SupervisorError, cannot, ground};
use crate::paths::Layout;

/// How often the socket files are looked for. A client that finds none starts a supervisor, which leaves
/// again because this one has the lock, and waits some seconds for either.
const LOOK: Duration = Duration::from_secs(2);
/// As often as those are looked for that systemd holds.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Both doors, or none at the end.
pub(super) struct Doorway {
    open: Option<Open>,
    every: Duration,
    next: Instant,
    /// What was said last about doors that cannot be made anew: it is said once.
    problem: String,
}

/// What is open; its drop closes it.
struct Open {
    _porter: Porter,
    counter: tokio::task::JoinHandle<()>,
    files: SocketFiles,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counter.abort();
    }
}

impl Doorway {
    /// Opens both doors to clients.
    pub(super) fn open(doors: Doors, house: &House) -> io::Result<Self> {
        let every = if doors.files.are_systemds() { NEVER } else { LOOK };
        let open = Some(Open::new(doors, house)?);
        Ok(Self { open, every, next: Instant::now() + every, problem: String::new() })
    }

    /// When [`Doorway::look`] has something to do.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Closes the doors of a house that stops; looks for their files. What others have put in their place
    /// is left alone, and then this supervisor lives no longer than its last session.
    pub(super) fn look(&mut self, house: &mut House, now: Instant) {
        if house.stopping.is_some() {
            self.open = None;
        }
        if now < self.next {
            return;
        }
        self.next = now + self.every;
        let layout = house.options.layout.now();
        match self.open.as_ref().map(|open| open.files.presence(&layout)) {
            None | Some(Presence::There) => {}
            Some(Presence::Taken) if house.cells.values().all(|cell| cell.sessions.is_empty()) => {
                house.stop("others listen in its place", None);
                self.open = None;
            }
            Some(Presence::Taken) => self.say("others listen in the place of this supervisor"),
            Some(Presence::Gone) => self.renew(house, layout),
        }
    }

    fn renew(&mut self, house: &mut House, layout: Layout) {
        match Open::again(house, &layout) {
            Ok(open) => {
                let runtime = layout.runtime.display();
                tracing::warn!("the sockets had vanished: now listening in {runtime}");
                self.problem.clear();
                self.open = Some(open);
                house.options.layout = layout;
            }
            Err(error) => {
                self.say(&format!("no client gets in, the sockets have vanished: {error}"))
            }
        }
    }

    fn say(&mut self, problem: &str) {
        if self.problem != problem {
            tracing::warn!("{problem}");
            self.problem = problem.to_owned();
        }
    }
}

impl Open {
    fn new(doors: Doors, house: &House) -> io::Result<Self> {
        let parting = Parting::new();
        let attendant = Attendant {
            house: house.handle.clone(),
            directory: house.directory.clone(),
            nobodies: house.nobodies.clone(),
            parting: parting.clone(),
        };
        let porter = Porter::start(doors.session, attendant)?;
        let counter = Counter {
            house: house.handle.clone(),
            directory: house.directory.clone(),
            nobodies: house.nobodies.clone(),
            parting,
        };
        let counter = tokio::task::spawn_local(async move {
            if let Err(error) = counter.run(doors.control).await {
                tracing::error!("the control door is closed: {error}");
            }
        });
        Ok(Self { _porter: porter, counter, files: doors.files })
    }

    fn again(house: &House, layout: &Layout) -> Result<Self, SupervisorError> {
        ground::prepare_runtime(layout)?;
        Self::new(Doors::bind(layout)?, house).map_err(cannot("open the session door"))
    }
}
