//! Whose ground a path is on: no tenant reaches another's files, nor the supervisor's own.
//!
//! Paths are compared after their symbolic links were followed, as far as they exist at load. That is
//! a check of what was written, not a lock: the sandbox opens what it binds without following links
//! that a tenant could have made. Pure but for [`Grounds::of`].

use std::path::{Path, PathBuf};

use super::host::real;
use crate::names::TenantId;
use crate::paths::Layout;

/// What a tenant does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Its data directory.
    Data,
    /// It may write there.
    Write,
    /// It may read there.
    Read,
    /// Its command needs it to run.
    Need,
}

impl Use {
    /// Whether the tenant can change what is there.
    pub(super) fn changes(self) -> bool {
        matches!(self, Self::Data | Self::Write)
    }
}

/// The supervisor's own directories, links followed.
#[derive(Debug)]
pub(super) struct Grounds {
    /// With how each is called in a message; nothing of these is any tenant's.
    closed: [(PathBuf, &'static str); 3],
    /// The directory of the tenants' own directories.
    state: PathBuf,
}

impl Grounds {
    /// Those of `layout`.
    pub(super) fn of(layout: &Layout) -> Self {
        Self {
            closed: [
                (real(&layout.runtime), "the sockets of the supervisor"),
                (real(&layout.config), "the configuration"),
                (real(&layout.log), "the logs"),
            ],
            state: real(&layout.state),
        }
    }

    /// What `tenant` can write before its file says anything: its own directories in the state.
    pub(super) fn own(&self, tenant: &TenantId) -> PathBuf {
        self.tenants().join(tenant.as_str())
    }

    /// The directory of all tenants' directories, links followed.
    pub(super) fn tenants(&self) -> PathBuf {
        self.state.join("tenants")
    }

    /// Why `path` (links followed) is not `tenant`'s to use; `None` if it may be.
    pub(super) fn trespass(&self, tenant: &TenantId, path: &Path) -> Option<String> {
        for (ground, what) in &self.closed {
            if path.starts_with(ground) || ground.starts_with(path) {
                return Some(format!("reaches {what} ({})", ground.display()));
            }
        }
        let own = self.own(tenant);
        let elsewhere = path.starts_with(&self.state) && !path.starts_with(&own);
        (elsewhere || self.state.starts_with(path))
            .then(|| format!("reaches the state of other tenants ({})", self.state.display()))
    }
}

/// A path that a tenant's servers will reach.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub(super) tenant: &'a TenantId,
    /// Links followed.
    pub(super) path: &'a Path,
    pub(super) how: Use,
}

/// Claims of two tenants on one ground: `(who is told, whose ground it is)`, as indices.
///
/// What both only read is fine. Who reads another's data is told; two who both write are both told, and so
/// are both where one writes what the other's command needs.
pub(super) fn conflicts(claims: &[Claim<'_>]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    // By components: what lies below a path follows it without a gap.
    order.sort_by(|a, b| claims[*a].path.cmp(claims[*b].path));
    let mut found = Vec::new();
    // Those above, apart by what they do: thousands of tenants may read one place.
    let (mut changing, mut reading): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for below in order {
        let claim = &claims[below];
        for above in [&mut changing, &mut reading] {
            while above.last().is_some_and(|top| !claim.path.starts_with(claims[*top].path)) {
                above.pop();
            }
        }
        let readers = if claim.how.changes() { reading.as_slice() } else { &[] };
        for &other in changing.iter().chain(readers) {
            if claims[other].tenant != claim.tenant {
                found.extend(told(claims, other, below));
            }
        }
        if claim.how.changes() { changing.push(below) } else { reading.push(below) }
    }
    found
}

fn told(claims: &[Claim<'_>], a: usize, b: usize) -> Vec<(usize, usize)> {
    match (claims[a].how, claims[b].how) {
        (Use::Read | Use::Need, Use::Read | Use::Need) => Vec::new(),
        (Use::Read, _) => vec![(a, b)],
        (_, Use::Read) => vec![(b, a)],
        _ => vec![(a, b), (b, a)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TenantId {
        TenantId::parse(text).expect("a tenant id")
    }

    fn found(claims: &[(&str, &str, Use)]) -> Vec<(usize, usize)> {
        let ids: Vec<_> = claims.iter().map(|(tenant, ..)| id(tenant)).collect();
        let claims: Vec<_> = std::iter::zip(claims, &ids)
            .map(|((_, path, how), tenant)| Claim { tenant, path: Path::new(path), how: *how })
            .collect();
        let mut found = conflicts(&claims);
        found.sort_unstable();
        found
    }

    #[test]
    fn two_tenants_that_write_one_ground_are_both_told() {
        let (data, write) = (Use::Data, Use::Write);
        assert_eq!(found(&[("a", "/x", data), ("b", "/x/y", write)]), [(0, 1), (1, 0)]);
        assert_eq!(found(&[("a", "/x", data), ("b", "/x", data)]), [(0, 1), (1, 0)]);
        assert_eq!(found(&[("a", "/x", data), ("a", "/x/y", write)]), []);
        assert_eq!(found(&[("a", "/x", data), ("b", "/xy", data)]), []);
    }

    #[test]
    fn who_reads_anothers_data_is_told() {
        assert_eq!(found(&[("a", "/x/y", Use::Data), ("b", "/x", Use::Read)]), [(1, 0)]);
        assert_eq!(found(&[("a", "/x", Use::Data), ("b", "/x/y", Use::Read)]), [(1, 0)]);
        assert_eq!(found(&[("a", "/opt", Use::Read), ("b", "/opt/x", Use::Read)]), []);
    }

    #[test]
    fn who_writes_what_anothers_command_needs_is_told_as_well() {
        let both = [(0, 1), (1, 0)];
        assert_eq!(found(&[("a", "/x", Use::Need), ("b", "/x/y", Use::Data)]), both);
        assert_eq!(found(&[("a", "/x/y", Use::Need), ("b", "/x", Use::Write)]), both);
        assert_eq!(found(&[("a", "/x", Use::Need), ("b", "/x", Use::Read)]), []);
    }

    #[test]
    fn ten_thousand_tenants_that_read_one_place_are_compared_at_once() {
        let ids: Vec<_> = (0..10_000).map(|n| id(&format!("t{n}"))).collect();
        let path = Path::new("/opt/node");
        // Pair by pair, this would take seconds.
        let claims: Vec<_> =
            ids.iter().map(|tenant| Claim { tenant, path, how: Use::Need }).collect();
        assert_eq!(conflicts(&claims), []);
    }

    #[test]
    fn a_sibling_between_does_not_hide_a_conflict() {
        let claims =
            [("a", "/x", Use::Data), ("a", "/x/a", Use::Write), ("b", "/x/b/c", Use::Write)];
        assert_eq!(found(&claims), [(0, 2), (2, 0)]);
    }

    #[test]
    fn nobody_reaches_what_is_the_supervisors() {
        let layout = Layout::rooted(crate::paths::Mode::User, Path::new("/nonexistent/t"));
        let grounds = Grounds::of(&layout);
        let acme = id("acme");
        let trespass = |path: &str| grounds.trespass(&acme, Path::new(path)).is_some();
        for path in [
            "/",
            "/nonexistent",
            "/nonexistent/t",
            "/nonexistent/t/run",
            "/nonexistent/t/run/session.sock",
            "/nonexistent/t/config/tenants.d",
            "/nonexistent/t/log/tenants/acme",
            "/nonexistent/t/state",
            "/nonexistent/t/state/tenants",
            "/nonexistent/t/state/tenants/globex/data",
            "/nonexistent/t/state/tenants/acme-2",
        ] {
            assert!(trespass(path), "{path}");
        }
        for path in ["/srv/acme", "/nonexistent/t2", "/nonexistent/t/state/tenants/acme/data"] {
            assert!(!trespass(path), "{path}");
        }
    }
}
