//! The longer ways through the exchange: how often plays have gone each to its end, so that a corpus that
//! misses one is found out. Seen from outside, by what ends get.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Path {
    /// A subscription of a modern client was acknowledged in the place of a legacy server.
    Stream,
    /// A legacy server asked a modern client something, which called again, and had its answer.
    Held,
    /// A modern server asked a legacy client something, and got its request again with the answer.
    Round,
    /// A client got what another one had asked for.
    Cached,
    /// A request went to the server after the one that died of it.
    Again,
    /// A legacy client's upstream subscription was asked for once more.
    Feed,
    /// A line waited until its server took more.
    Turn,
}

impl Path {
    #[cfg(test)]
    pub(super) const ALL: [Self; 7] =
        [Self::Stream, Self::Held, Self::Round, Self::Cached, Self::Again, Self::Feed, Self::Turn];
}

/// How often each was gone.
#[derive(Debug, Default, Clone)]
pub(super) struct Paths(std::collections::BTreeMap<Path, usize>);

impl Paths {
    pub(super) fn went(&mut self, path: Path) {
        *self.0.entry(path).or_default() += 1;
    }

    #[cfg(test)]
    pub(super) fn count(&self, path: Path) -> usize {
        self.0.get(&path).copied().unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn add(&mut self, other: &Self) {
        for (path, count) in &other.0 {
            *self.0.entry(*path).or_default() += count;
        }
    }
}
