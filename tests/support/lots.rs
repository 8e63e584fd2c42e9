//! How often something is done, and what is drawn by lot, for the tests that do things by the thousand.

/// How often something is done, from the environment or as much as fits into a check.
pub(crate) fn amount(variable: &str, bounded: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(bounded)
}

/// Small numbers that look random and are the same in every run (SplitMix64).
pub(crate) struct Lots(pub(crate) u64);

impl Lots {
    pub(crate) fn draw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) as usize % below
    }
}
