//! `requestState`: which round of which call this is, sealed so that a client cannot write its own.

use std::fs::File;
use std::io::Read;

/// The key of this process. A state does not outlive it.
pub(crate) struct Seal([u8; 32]);

impl Seal {
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        let mut random = File::open("/dev/urandom").expect("/dev/urandom");
        random.read_exact(&mut key).expect("a key");
        Self(key)
    }

    fn code(&self, call: &str, round: usize) -> String {
        blake3::keyed_hash(&self.0, format!("{round} {call}").as_bytes()).to_hex().to_string()
    }

    /// The state of a call that waits for the answers to this round.
    pub(crate) fn close(&self, call: &str, round: usize) -> String {
        format!("{round}.{}", self.code(call, round))
    }

    /// The round that a state names; `None` if we did not seal it, or not for this call.
    pub(crate) fn open(&self, call: &str, state: &str) -> Option<usize> {
        let (round, code) = state.split_once('.')?;
        let round = round.parse().ok()?;
        (code == self.code(call, round)).then_some(round)
    }
}
