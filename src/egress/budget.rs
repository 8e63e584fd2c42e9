//! How many connections a tenant may have at once, and how fast new ones are taken.
//!
//! Too many at once are refused, because a program that leaks them must hear of it; too fast ones wait
//! in the queue of their listening socket, because a burst is nobody's mistake.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Connections of one tenant at once: some dozens of a browser, a few pools of a database.
pub(super) const CONNECTIONS: usize = 256;
/// New connections in a second, on average: each may ask name servers and dial strangers.
const RATE: f64 = 100.0;
/// New connections at once.
const BURST: f64 = 256.0;

/// The budget of one tenant.
#[derive(Debug)]
pub(super) struct Budget {
    open: Cell<usize>,
    tokens: Cell<f64>,
    filled: Cell<Instant>,
}

/// One connection's place; its drop gives it back.
#[derive(Debug)]
pub(super) struct Place(Rc<Budget>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl Budget {
    pub(super) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self { open: Cell::new(0), tokens: Cell::new(BURST), filled: Cell::new(now) })
    }

    /// A place, if there is one.
    pub(super) fn place(self: &Rc<Self>) -> Option<Place> {
        (self.open.get() < CONNECTIONS).then(|| {
            self.open.set(self.open.get() + 1);
            Place(self.clone())
        })
    }

    /// Takes a token; says how long it is ahead of its time.
    fn take(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled.replace(now)).as_secs_f64();
        let tokens = (self.tokens.get() + passed * RATE).min(BURST) - 1.0;
        self.tokens.set(tokens);
        Duration::from_secs_f64((-tokens / RATE).max(0.0))
    }

    /// Waits for a new connection's turn.
    pub(super) async fn turn(&self) {
        let early = self.take(Instant::now());
        if !early.is_zero() {
            tokio::time::sleep(early).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_taken_at_its_rate() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let waits: Vec<_> = (0..456).map(|_| budget.take(now)).collect();
        assert!(waits[..256].iter().all(Duration::is_zero));
        assert_eq!(waits[455].as_secs_f64().round() as u64, 2);
        assert!(budget.take(now + Duration::from_secs(10)).is_zero());
    }

    #[test]
    fn places_come_back() {
        let budget = Budget::new(Instant::now());
        let mut places: Vec<_> = (0..CONNECTIONS).map(|_| budget.place().expect("one")).collect();
        assert!(budget.place().is_none());
        places.pop();
        assert!(budget.place().is_some());
    }
}
