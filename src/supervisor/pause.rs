//! The growing pause before a tenant whose mux died is given another one. Pure: time is an argument.

use std::time::{Duration, Instant};

/// A mux that lived this long was sound; its death starts the count anew.
const SOUND: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// The pause of one tenant.
#[derive(Debug, Default)]
pub(super) struct Pause {
    step: Duration,
    until: Option<Instant>,
}

impl Pause {
    /// A mux that was born at `born` has died.
    pub(super) fn died(&mut self, born: Instant, now: Instant) {
        let sound = now.saturating_duration_since(born) >= SOUND;
        self.step = if sound { FIRST } else { (self.step * 2).clamp(FIRST, LONGEST) };
        self.until = Some(now + self.step);
    }

    /// How long it still lasts.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_while_it_dies_at_once_and_starts_anew_after_a_sound_life() {
        let (mut pause, start) = (Pause::default(), Instant::now());
        assert_eq!(pause.left(start), None);
        pause.died(start, start);
        assert_eq!(pause.left(start), Some(FIRST));
        pause.died(start, start);
        assert_eq!(pause.left(start), Some(FIRST * 2));
        (0..20).for_each(|_| pause.died(start, start));
        assert_eq!(pause.left(start), Some(LONGEST));
        assert_eq!(pause.left(start + LONGEST), None);
        pause.died(start, start + SOUND);
        assert_eq!(pause.left(start + SOUND), Some(FIRST));
    }
}
