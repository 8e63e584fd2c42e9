//! The growing pause before a tenant whose mux keeps dying is given another one. One death is an accident
//! and costs nobody a pause. Pure: time is an argument.

use std::time::{Duration, Instant};

/// A mux that lived this long was sound; its death starts the count anew.
const SOUND: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// The pause of one tenant.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// Lives in a row that were not sound.
    short: u32,
    until: Option<Instant>,
}

impl Pause {
    /// A mux that was born at `born` has died.
    pub(super) fn died(&mut self, born: Instant, now: Instant) {
        let sound = now.saturating_duration_since(born) >= SOUND;
        self.short = if sound { 0 } else { self.short.saturating_add(1) };
        // The shift is bounded well below the bits that there are; LONGEST is reached before.
        let doubled = |again: u32| FIRST.saturating_mul(1 << again.min(16)).min(LONGEST);
        self.until = self.short.checked_sub(2).map(|again| now + doubled(again));
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
        assert_eq!(pause.left(start), None, "once is an accident");
        pause.died(start, start);
        assert_eq!(pause.left(start), Some(FIRST));
        pause.died(start, start);
        assert_eq!(pause.left(start), Some(FIRST * 2));
        (0..20).for_each(|_| pause.died(start, start));
        assert_eq!(pause.left(start), Some(LONGEST));
        assert_eq!(pause.left(start + LONGEST), None);
        pause.died(start, start + SOUND);
        assert_eq!(pause.left(start + SOUND), None);
    }
}
