//! Seats: how many connections one uid, and all of them together, may have attended at a time.
//!
//! A seat is a receipt. A thread that is stuck in closing a stranger's descriptor keeps its own uid's
//! seat and nobody else's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many seats there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// For one uid.
    pub(super) each: u32,
    /// For all uids.
    pub(super) all: u32,
}

#[derive(Debug, Default)]
struct Taken {
    by: BTreeMap<u32, u32>,
    all: u32,
}

/// The seats of one door; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    room: Room,
    taken: Arc<Mutex<Taken>>,
}

/// A taken seat; its drop frees it.
#[derive(Debug)]
pub(super) struct Seat {
    uid: u32,
    taken: Arc<Mutex<Taken>>,
}

impl Ledger {
    pub(super) fn new(room: Room) -> Self {
        Self { room, taken: Arc::default() }
    }

    /// How many seats are taken.
    pub(super) fn taken(&self) -> u32 {
        lock(&self.taken).all
    }

    /// A seat for `uid`, if there is one.
    pub(super) fn take(&self, uid: u32) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        let mine = taken.by.get(&uid).copied().unwrap_or(0);
        if mine >= self.room.each || taken.all >= self.room.all {
            return None;
        }
        taken.by.insert(uid, mine + 1);
        taken.all += 1;
        Some(Seat { uid, taken: self.taken.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        let left = taken.by.get(&self.uid).map_or(0, |mine| mine.saturating_sub(1));
        if left == 0 {
            taken.by.remove(&self.uid);
        } else {
            taken.by.insert(self.uid, left);
        }
    }
}

/// No code panics between two changes, so the counts are whole even in a poisoned lock.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_cannot_take_the_seats_of_another() {
        let ledger = Ledger::new(Room { each: 2, all: 3 });
        let first = ledger.take(1).expect("a seat");
        let _second = ledger.take(1).expect("a seat");
        assert!(ledger.take(1).is_none());
        let _other = ledger.take(2).expect("a seat for another");
        assert!(ledger.take(3).is_none(), "all seats are taken");
        drop(first);
        assert!(ledger.take(1).is_some());
    }

    #[test]
    fn a_freed_uid_leaves_nothing_behind() {
        let ledger = Ledger::new(Room { each: 1, all: 1 });
        drop(ledger.take(7));
        assert!(lock(&ledger.taken).by.is_empty());
    }
}
