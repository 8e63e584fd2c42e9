//! Who else has ids on this machine: people and services, and whole ranges for containers.
//!
//! The local files say who is there and which ranges were given away; a directory service is asked only for
//! the ids that are about to be used, because it cannot be asked for all of them. It is asked on a thread of
//! its own and may hang there.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};

/// How long the name service may take to say whether it knows ids: many at the first start.
const WITHIN: Duration = Duration::from_secs(10);
/// NSS modules are other people's code and want some stack.
const STACK: usize = 512 * 1024;
/// Where a range for tenants may begin, in the order of preference: beyond containers and subordinate ids
/// (to 1879048191), then also beyond what directory services derive (to 2000200000), then beyond that.
const BEGINNINGS: [u32; 4] = [1_900_000_000, 2_000_300_000, 2_100_000_000, 3_000_000_000];

/// Ids that are somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    first: u32,
    last: u32,
    /// Whose, for people.
    whose: String,
    /// Where it is written.
    at: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, whose, at } = self;
        if first == last {
            return write!(f, "{whose}, which is {first} ({at})");
        }
        write!(f, "{whose}, which is {first} to {last} ({at})")
    }
}

/// What the local files say, and how a name service is asked.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    claims: Vec<Claim>,
    asks: bool,
}

impl Survey {
    /// Of this machine.
    pub fn here() -> Self {
        Self { asks: true, ..Self::of(Path::new("/etc")) }
    }

    /// Of the files in a directory, without a name service.
    fn of(directory: &Path) -> Self {
        let mut claims = Vec::new();
        for (file, kind) in [("passwd", "user"), ("group", "group")] {
            read(directory, file, |fields| {
                let id = fields.get(2)?.parse().ok()?;
                Some((id, id, format!("{kind} {:?}", fields.first()?)))
            })
            .for_each(|claim| claims.push(claim));
        }
        for (file, kind) in [("subuid", "uids"), ("subgid", "gids")] {
            read(directory, file, |fields| {
                let first: u32 = fields.get(1)?.parse().ok()?;
                let count: u32 = fields.get(2)?.parse().ok()?;
                let last = first.saturating_add(count.checked_sub(1)?);
                Some((first, last, format!("the subordinate {kind} of {:?}", fields.first()?)))
            })
            .for_each(|claim| claims.push(claim));
        }
        Self { claims, asks: false }
    }

    /// Somebody with an id of the range.
    pub(super) fn meets(&self, (first, last): (u32, u32)) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.first <= last && first <= claim.last)
    }

    /// A range as long as this that nobody is known to have anything of.
    pub(super) fn free_range(&self, length: u32) -> Option<(u32, u32)> {
        let whole = BEGINNINGS.map(|first| (first, first.checked_add(length)));
        let mut whole = whole.into_iter().filter_map(|(first, last)| Some((first, last?)));
        whole.find(|range| range.1 < u32::MAX - 1 && self.meets(*range).is_none())
    }

    /// Asks the name service who has one of these ids: nobody (`Some(None)`), somebody, or no answer.
    pub(super) fn ask(&self, ids: &[u32]) -> Option<Option<Claim>> {
        if !self.asks || ids.is_empty() {
            return Some(None);
        }
        let (reply, answer) = sync_channel(1);
        let ids: BTreeSet<u32> = ids.iter().copied().collect();
        let thread = std::thread::Builder::new().name("ids".into()).stack_size(STACK);
        // Who asked may have given up.
        thread.spawn(move || drop(reply.try_send(ids.into_iter().try_for_each(nobody)))).ok()?;
        answer.recv_timeout(WITHIN).ok()?.map_or_else(Unsure::claim, |()| Some(None))
    }
}

/// Why an id is not known to be nobody's.
enum Unsure {
    Somebody(Claim),
    Silence,
}

impl Unsure {
    fn claim(self) -> Option<Option<Claim>> {
        match self {
            Self::Somebody(claim) => Some(Some(claim)),
            Self::Silence => None,
        }
    }
}

fn nobody(id: u32) -> Result<(), Unsure> {
    let user = User::from_uid(Uid::from_raw(id)).map_err(|_| Unsure::Silence)?;
    let group = Group::from_gid(Gid::from_raw(id)).map_err(|_| Unsure::Silence)?;
    let user = user.map(|user| format!("user {:?}", user.name));
    match user.or_else(|| group.map(|group| format!("group {:?}", group.name))) {
        None => Ok(()),
        Some(whose) => {
            let at = "as the name service says".to_owned();
            Err(Unsure::Somebody(Claim { first: id, last: id, whose, at }))
        }
    }
}

/// The claims of one file: what `parse` makes of the fields of its lines. A line that is none is none of the
/// C library's either.
fn read(
    directory: &Path,
    file: &str,
    parse: impl Fn(&[&str]) -> Option<(u32, u32, String)>,
) -> impl Iterator<Item = Claim> {
    let path = directory.join(file);
    let text = fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().enumerate().filter_map(|(number, line)| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let (first, last, whose) = parse(&fields)?;
        Some(Claim { first, last, whose, at: format!("{}:{}", path.display(), number + 1) })
    });
    lines.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, Survey) {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        let survey = Survey::of(dir.path());
        (dir, survey)
    }

    #[test]
    fn people_groups_and_subordinate_ids_are_met_at_both_ends() {
        let (_dir, survey) = files(&[
            ("passwd", "root:x:0:0::/:\n# no\nerna:x:2000:2000::/:\n"),
            ("group", "staff:x:3000:\n"),
            ("subuid", "erna:10000:100\n"),
            ("subgid", "emil:20000:100\nbroken:1\nnone:5:0\n"),
        ]);
        for (range, whose) in [
            ((1990, 2000), "\"erna\""),
            ((2000, 2010), "\"erna\""),
            ((3000, 3000), "\"staff\""),
            ((10_099, 10_200), "subordinate uids of \"erna\""),
            ((9000, 10_000), "subordinate uids of \"erna\""),
            ((20_050, 20_060), "subordinate gids of \"emil\""),
        ] {
            let met = survey.meets(range).unwrap_or_else(|| panic!("{range:?}")).to_string();
            assert!(met.contains(whose), "{range:?}: {met}");
        }
        for free in [(5, 5), (2001, 2999), (10_100, 19_999), (20_100, 30_000)] {
            assert_eq!(survey.meets(free), None, "{free:?}");
        }
        let met = survey.meets((3000, 3001)).expect("met").to_string();
        assert!(met.contains("group:1)"), "the line is named: {met}");
    }

    #[test]
    fn a_range_that_is_proposed_is_free() {
        let (_dir, survey) = files(&[("subuid", "a:1900000000:65536\nb:2000300001:1\n")]);
        assert_eq!(survey.free_range(65_535), Some((2_100_000_000, 2_100_065_535)));
        assert_eq!(survey.free_range(u32::MAX), None);
    }

    #[test]
    fn the_name_service_knows_root_and_no_id_that_nobody_has() {
        let survey = Survey { claims: Vec::new(), asks: true };
        assert_eq!(survey.ask(&[1_900_000_000, 1_900_000_001]), Some(None));
        let root = survey.ask(&[1_900_000_000, 0]).expect("an answer").expect("somebody");
        assert!(root.to_string().contains("\"root\""), "{root}");
    }
}
