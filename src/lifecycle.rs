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
//!   PAUSED is for a crash, for a crash loop (LOOP deaths in a row: sessions are told, and the server is
//!   tried again on its own), or for a permanent cause (tried again on a change, or when somebody asks).
//! ```
//!
//! Pauses double with each death in a row, up to five minutes, give or take a quarter, so that
//! servers that fell together do not rise together.

use std::time::{Duration, Instant};

/// The first pause after a death that was not the first of a running child.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, before its jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The pause after a failure that trying again does not cure.
const PERMANENT: Duration = Duration::from_secs(60);
/// A child that ran this long has proven itself: its death is the first of a new row.
const PROVEN: Duration = Duration::from_secs(30);
/// So many deaths in a row are a crash loop.
const LOOP: u32 = 5;

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
        /// What it pauses for.
        cause: Cause,
    },
}

/// What a slot pauses for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its child died, or could not be started; the next one may live.
    Crash,
    /// Its children keep dying.
    CrashLoop,
    /// Trying again without a change is pointless.
    Permanent,
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
    /// There was nobody who could have started the child: it is no fault of the server's.
    Unattended,
    /// The child shall end.
    Stop,
    /// The configuration changed, or a person asks for a new try: what was wrong may be cured, and deaths
    /// are counted anew.
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
        /// Why not now.
        cause: Cause,
    },
}

/// One slot's machine.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Phase,
    /// Deaths in a row.
    deaths: u32,
    /// What the jitter is drawn from.
    lots: u64,
}

impl Lifecycle {
    /// A machine whose pauses are drawn from `seed`: equal seeds pause alike.
    pub fn new(seed: u64) -> Self {
        // Zero draws nothing but zeroes.
        Self { phase: Phase::Idle, deaths: 0, lots: seed | 1 }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes an event; an event that does not fit the phase changes nothing.
    pub fn on(&mut self, event: Event, now: Instant) -> Effect {
        match (self.phase, event) {
            (Phase::Paused { until, cause }, Event::Wanted) if now < until => {
                return Effect::Refuse { until, cause };
            }
            (Phase::Idle | Phase::Paused { .. }, Event::Wanted) => {
                self.phase = Phase::Asked;
                return Effect::Ask;
            }
            (Phase::Asked, Event::Started) => self.phase = Phase::Shaking,
            (Phase::Shaking, Event::Ready) => self.phase = Phase::Running { since: now },
            (Phase::Asked | Phase::Shaking | Phase::Running { .. }, Event::Stop) => {
                self.phase = Phase::Stopping;
                return Effect::End;
            }
            (Phase::Asked, Event::Unattended)
            | (Phase::Stopping, Event::Died { .. } | Event::Unattended) => self.phase = Phase::Idle,
            (Phase::Asked | Phase::Shaking | Phase::Running { .. }, Event::Died { permanent }) => {
                self.pause(permanent, now);
            }
            (phase, Event::Changed) => {
                self.deaths = 0;
                if matches!(phase, Phase::Paused { .. }) {
                    self.phase = Phase::Idle;
                }
            }
            _ => {}
        }
        Effect::None
    }

    fn pause(&mut self, permanent: bool, now: Instant) {
        let proven = matches!(self.phase, Phase::Running { since } if now - since >= PROVEN);
        let was_running = matches!(self.phase, Phase::Running { .. });
        self.deaths = if proven { 1 } else { self.deaths.saturating_add(1) };
        let (cause, pause) = match self.deaths {
            _ if permanent => (Cause::Permanent, PERMANENT),
            // One crash of a child that had answered is cured by the next call at once.
            1 if was_running => (Cause::Crash, Duration::ZERO),
            deaths => {
                let cause = if deaths >= LOOP { Cause::CrashLoop } else { Cause::Crash };
                let doubled = FIRST_PAUSE.saturating_mul(1 << deaths.min(16)).min(LONGEST_PAUSE);
                (cause, self.jittered(doubled))
            }
        };
        self.phase = Phase::Paused { until: now + pause, cause };
    }

    /// The pause, give or take a quarter (xorshift64, Marsaglia 2003: any spread will do).
    fn jittered(&mut self, pause: Duration) -> Duration {
        self.lots ^= self.lots << 13;
        self.lots ^= self.lots >> 7;
        self.lots ^= self.lots << 17;
        let percent = u32::try_from(75 + self.lots % 51).unwrap_or(100);
        pause * percent / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(at: Instant) -> Lifecycle {
        let mut machine = Lifecycle::new(7);
        assert_eq!(machine.on(Event::Wanted, at), Effect::Ask);
        machine.on(Event::Started, at);
        machine.on(Event::Ready, at);
        machine
    }

    const DEATH: Event = Event::Died { permanent: false };

    fn refused(machine: &mut Lifecycle, now: Instant) -> (Instant, Cause) {
        match machine.on(Event::Wanted, now) {
            Effect::Refuse { until, cause } => (until, cause),
            other => panic!("no pause: {other:?}"),
        }
    }

    #[test]
    fn the_first_crash_is_cured_by_the_next_call_and_later_ones_pause_longer_and_longer() {
        let mut now = Instant::now();
        let mut machine = running(now);
        machine.on(DEATH, now);
        assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
        let mut doubled = FIRST_PAUSE * 2;
        for death in 2..=20 {
            machine.on(DEATH, now);
            let (until, cause) = refused(&mut machine, now);
            assert_eq!(cause == Cause::CrashLoop, death >= LOOP, "death {death}");
            doubled = (doubled * 2).min(LONGEST_PAUSE);
            let pause = until - now;
            assert!(pause >= doubled * 3 / 4 && pause <= doubled * 5 / 4, "{death}: {pause:?}");
            now = until;
            assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
        }
        assert_eq!(doubled, LONGEST_PAUSE);
    }

    #[test]
    fn slots_that_fell_together_do_not_rise_together() {
        let now = Instant::now();
        let pauses: std::collections::BTreeSet<_> = (0..20)
            .map(|seed| {
                let mut machine = Lifecycle::new(seed * 1_000_003);
                machine.on(Event::Wanted, now);
                machine.on(DEATH, now);
                refused(&mut machine, now).0
            })
            .collect();
        assert!(pauses.len() > 5, "{} different pauses", pauses.len());
    }

    #[test]
    fn a_child_that_ran_long_starts_a_new_row() {
        let mut now = Instant::now();
        let mut machine = running(now);
        for _ in 0..2 * LOOP {
            now += PROVEN;
            machine.on(DEATH, now);
            assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
            machine.on(Event::Started, now);
            machine.on(Event::Ready, now);
        }
    }

    #[test]
    fn a_permanent_failure_waits_for_a_change_or_for_a_minute() {
        let now = Instant::now();
        let mut machine = Lifecycle::new(7);
        machine.on(Event::Wanted, now);
        machine.on(Event::Died { permanent: true }, now);
        assert_eq!(refused(&mut machine, now), (now + PERMANENT, Cause::Permanent));
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

    #[test]
    fn a_start_that_nobody_could_make_costs_no_pause() {
        let now = Instant::now();
        let mut machine = Lifecycle::new(7);
        for _ in 0..3 * LOOP {
            assert_eq!(machine.on(Event::Wanted, now), Effect::Ask);
            machine.on(Event::Unattended, now);
        }
        assert_eq!(machine.phase(), Phase::Idle);
    }
}
