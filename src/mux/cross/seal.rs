//! What binds a `requestState` of ours to whom it was given.

use std::fmt;

/// A key that lives as long as this process.
pub(in crate::mux) struct Seal {
    key: [u8; 32],
}

impl Seal {
    /// `entropy`: random bytes that nobody else knows.
    pub(in crate::mux) fn new(entropy: [u8; 32]) -> Self {
        Self { key: blake3::derive_key("tenantd 2026-11 mux requestState", &entropy) }
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = &self.key;
        formatter.write_str("Seal(..)")
    }
}
