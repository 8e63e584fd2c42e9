//! The doorway: both doors as the house needs them. Made anew where their files vanish, closed for a
//! replacement, closed for good at the end. Owned by the loop.
//!
//! A runtime directory goes with a logout or a cleaner of `/tmp`. What runs needs no door, but no client
//! finds this supervisor any more, and its lock keeps every other from serving.

use std::io;
use std::time::{Duration, Instant};

use super::doors::{Doors, Presence};
use super::entrance::{Entrance, Open};
use super::house::House;
use super::parting::Parting;
use super::{SupervisorError, cannot, ground};
use crate::paths::Layout;

/// How often the socket files are looked for. A client that finds none starts a supervisor, which leaves
/// again because this one has the lock, and waits some seconds for either.
const LOOK: Duration = Duration::from_secs(2);
/// As often as those are looked for that systemd holds.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Both doors.
pub(super) struct Doorway {
    open: Open,
    every: Duration,
    next: Instant,
    /// What was said last about doors that cannot be made anew: it is said once.
    problem: String,
}

impl Doorway {
    /// Opens both doors to clients.
    pub(super) fn open(doors: Doors, house: &House) -> io::Result<Self> {
        let every = if doors.files.are_systemds() { NEVER } else { LOOK };
        let open = Open::doors(doors, entrance(house))?;
        Ok(Self { open, every, next: Instant::now() + every, problem: String::new() })
    }

    /// When [`Doorway::look`] has something to do.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Keeps the doors as the house needs them.
    pub(super) fn look(&mut self, house: &mut House, now: Instant) {
        if house.stopping.is_some() {
            return self.open.close_for_good();
        }
        if house.is_quieting() {
            return self.part(house, now);
        }
        if let Err(error) = self.open.open_again() {
            tracing::error!("the doors cannot be opened again: {error}");
            return house.stop("its doors are closed", None);
        }
        if now >= self.next {
            self.next = now + self.every;
            self.look_for_files(house);
        }
    }

    /// Lets nobody in any more, and gives way to the next program when everybody has gone.
    fn part(&mut self, house: &mut House, now: Instant) {
        self.open.close();
        if house.may_go(self.open.visitors(), now)
            && let Some((spare, names)) = self.open.to_pass_on()
        {
            house.become_next(spare, names);
        }
    }

    /// What others have put in the place of our files is left alone, and then this supervisor lives no
    /// longer than its last session.
    fn look_for_files(&mut self, house: &mut House) {
        let layout = house.options.layout.now();
        match self.open.presence(&layout) {
            Presence::There => {}
            Presence::Taken if house.cells.values().all(|cell| cell.sessions.is_empty()) => {
                house.stop("others listen in its place", None);
                self.open.close_for_good();
            }
            Presence::Taken => self.say("others listen in the place of this supervisor"),
            Presence::Gone => self.renew(house, layout),
        }
    }

    fn renew(&mut self, house: &mut House, layout: Layout) {
        match again(house, &layout) {
            Ok(open) => {
                let runtime = layout.runtime.display();
                tracing::warn!("the sockets had vanished: now listening in {runtime}");
                self.problem.clear();
                self.open = open;
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

fn entrance(house: &House) -> Entrance {
    Entrance {
        house: house.handle.clone(),
        directory: house.directory.clone(),
        nobodies: house.nobodies.clone(),
        parting: Parting::new(),
    }
}

fn again(house: &House, layout: &Layout) -> Result<Open, SupervisorError> {
    ground::prepare_runtime(layout)?;
    Open::doors(Doors::bind(layout)?, entrance(house)).map_err(cannot("open the session door"))
}
