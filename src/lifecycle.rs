//! When a server's child starts, pauses and stops: pure, with time as an argument.
//!
//! One machine for each slot (a server, or a server for one user or session). The mux tells it what
//! happened and does what it answers; it holds no process and no clock.
//!
//! ```text
//!            wanted                  started                 ready
//!   IDLE -------------> ASKED ----------------> SHAKING -------------> RUNNING
//!    ^ ^                  |                        |                     |  |
//!    | |                  +--- failed, timed out --+---- died -----------+  | stop
//!    | |                                |                                   v
//!    | |                                v                                STOPPING
//!    | +---------- pause over ------ PAUSED                                 |
//!    +----------------------------------------------- died -----------------+
//!
//!   a permanent failure pauses as well, for PERMANENT, unless the configuration changes
//! ```

use std::time::{Duration, Instant};

/// The first pause after a death.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a failure that trying again does not cure.
const PERMANENT: Duration = Duration::from_secs(60);
/// A child that ran this long has proven itself: its death is the first of a new row.
const PROVEN: Duration = Duration::from_secs(30);

/// Where a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No child, none wanted.
    Idle,
    /// The supervisor was asked for a child.
    Asked,
    /// The child runs; the handshake is under way.
    Shaking,
    /// The child answers.
    Running {
        /// Since when.
        since: Instant,
    },
    /// The child was asked to end.
    Stopping,
    /// No child before this moment.
    Paused {
        /// When the next start may be.
        until: Instant,
    },
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A session needs the server.
    Wanted,
    /// The child runs.
    Started,
    /// The handshake is done.
    Ready,
    /// The child ended, or could not be started.
    Died {
        /// Whether trying again without a change is pointless.
        permanent: bool,
    },
    /// The child shall end.
    Stop,
    /// The configuration changed: what was permanent may be cured.
    Changed,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Ask the supervisor for a child.
    Ask,
    /// End the child.
    End,
    /// Tell who wants it to come back then.
    Refuse {
        /// When the next start may be.
        until: Instant,
    },
}

/// One slot's machine.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Phase,
    /// Deaths in a row.
    deaths: u32,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: Phase::Idle, deaths: 0 }
    }
}

impl Lifecycle {
    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes an event; an event that does not fit the phase changes nothing.
    pub fn on(&mut self, event: Event, now: Instant) -> Effect {
        match (self.phase, event) {
            (Phase::Paused { until }, Event::Wanted) if now < until => Effect::Refuse { until },
            (Phase::Idle | Phase::Paused { .. }, Event::Wanted) => {
                self.phase = Phase::Asked;
                Effect::Ask
            }
            (Phase::Asked, Event::Started) => {
                self.phase = Phase::Shaking;
                Effect::None
            }
            (Phase::Shaking, Event::Ready) => {
                self.phase = Phase::Running { since: now };
                Effect::None
            }
            (Phase::Asked | Phase::Shaking | Phase::Running { .. }, Event::Stop) => {
                self.phase = Phase::Stopping;
                Effect::End
            }
            (Phase::Stopping, Event::Died { .. }) => {
                self.phase = Phase::Idle;
                Effect::None
            }
            (Phase::Asked | Phase::Shaking | Phase::Running { .. }, Event::Died { permanent }) => {
                self.pause(permanent, now);
                Effect::None
            }
            (Phase::Paused { .. }, Event::Changed) => {
                *self = Self::default();
                Effect::None
            }
            _ => Effect::None,
        }
    }

    fn pause(&mut self, permanent: bool, now: Instant) {
        let proven = matches!(self.phase, Phase::Running { since } if now - since >= PROVEN);
        let was_running = matches!(self.phase, Phase::Running { .. });
        self.deaths = if proven { 1 } else { self.deaths.saturating_add(1) };
        let pause = match self.deaths {
            _ if permanent => PERMANENT,
            // One crash of a child that had answered is cured by the next call at once.
            1 if was_running => Duration::ZERO,
            deaths => FIRST_PAUSE.saturating_mul(1 << deaths.min(12)).min(LONGEST_PAUSE),
        };
        self.phase = Phase::Paused { until: now + pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(at: Instant) -> Lifecycle {
        let mut machine = Lifecycle::default();
        assert_eq!(machine.on(Event::Wanted, at), Effect::Ask);
        machine.on(Event::Started, at);
        machine.on(Event::Ready, at);
        machine
    }

    const DEATH: Event = Event::Died { permanent: false };

    #[test]
    fn the_first_crash_is_cured_by_the_next_call_and_later_ones_pause_longer_and_longer() {
        let mut now = Instant::now();
        let mut machine = running(now);
        machine.on(DEATH, now);
        assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            machine.on(DEATH, now);
            let Effect::Refuse { until } = machine.on(Event::Wanted, now) else {
                panic!("no pause")
            };
            let pause = until - now;
            assert!(pause >= last && pause <= LONGEST_PAUSE);
            last = pause;
            now = until;
            assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
        }
        assert_eq!(last, LONGEST_PAUSE);
    }

    #[test]
    fn a_child_that_ran_long_starts_a_new_row() {
        let mut now = Instant::now();
        let mut machine = running(now);
        for _ in 0..5 {
            now += PROVEN;
            machine.on(DEATH, now);
            assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
            machine.on(Event::Started, now);
            machine.on(Event::Ready, now);
        }
    }

    #[test]
    fn a_permanent_failure_waits_for_a_change() {
        let now = Instant::now();
        let mut machine = Lifecycle::default();
        machine.on(Event::Wanted, now);
        machine.on(Event::Died { permanent: true }, now);
        assert_eq!(machine.on(Event::Wanted, now), Effect::Refuse { until: now + PERMANENT });
        machine.on(Event::Changed, now);
        assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
    }

    #[test]
    fn a_stop_is_no_failure() {
        let now = Instant::now();
        let mut machine = running(now);
        assert_eq!(machine.on(Event::Stop, now), Effect::End);
        assert_eq!(machine.on(Event::Stop, now), Effect::None);
        machine.on(DEATH, now);
        assert_eq!(machine.phase(), Phase::Idle);
        assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
    }
}
