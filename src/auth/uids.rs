//! Which uids are whose: three of its own for each tenant (server, mux, egress), in system mode, for good.
//!
//! The table is a file of the supervisor's (`uids.json` in the state directory, 0600). It is read anew with
//! each reading of the configuration, off the loop, by the one supervisor that holds the lock; what is new
//! is written whole beside it, synced and moved over it. A line never goes: a tenant that comes back finds its
//! uids, and no other tenant is ever given files that were somebody's. Whatever is wrong with the table or
//! with the range gives uids to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::survey::{Claim, Survey};
use crate::names::TenantId;

/// What the file says of its shape.
const VERSION: u32 = 1;
/// The most that is read of the table, bytes: every uid of a range of 65536 in use is 3 MiB.
const SIZE_MAX: u64 = 64 * 1024 * 1024;
/// uids of one tenant.
const EACH: u32 = 3;

/// The uids of one tenant; each is also the gid of who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identities {
    /// Its servers.
    pub server: u32,
    /// Its mux.
    pub mux: u32,
    /// Its egress.
    pub egress: u32,
}

impl Identities {
    fn from(first: u32) -> Self {
        Self { server: first, mux: first + 1, egress: first + 2 }
    }

    fn all(self) -> [u32; 3] {
        [self.server, self.mux, self.egress]
    }
}

/// Why tenants have no uids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UidsError {
    /// The file is no table, or cannot be read.
    #[error(
        "the table of tenants' uids {path} {what} (restore it from a backup; a new one could give one tenant's files to another)"
    )]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be written.
    #[error("the table of tenants' uids {0} cannot be written: {1}")]
    Unwritable(PathBuf, String),
    /// No uid of the range is left.
    #[error("uid_range = [{0}, {1}] has no three uids left for another tenant")]
    Exhausted(u32, u32),
    /// Uids that were given once are outside.
    #[error(
        "uid_range = [{range_first}, {range_last}] leaves out uid {uid}, which tenant {tenant} has"
    )]
    LeftOut {
        /// The range.
        range_first: u32,
        /// Its end.
        range_last: u32,
        /// Whose.
        tenant: TenantId,
        /// Which.
        uid: u32,
    },
    /// Somebody else has uids of the range.
    #[error("uid_range = [{0}, {1}] meets {2}")]
    Taken(u32, u32, Claim),
    /// Nobody says whether somebody else has them.
    #[error("the name service does not say whether somebody has uids of uid_range")]
    NoAnswer,
}

impl UidsError {
    /// Whether also who was given uids before cannot be started with them; else it is about new ones alone.
    fn concerns_all(&self) -> bool {
        match self {
            Self::Table { .. } | Self::LeftOut { .. } | Self::Taken(..) => true,
            Self::Unwritable(..) | Self::Exhausted(..) | Self::NoAnswer => false,
        }
    }
}

/// What the tenants have, or why they have none.
#[derive(Debug, Clone, Default)]
pub struct Uids {
    given: BTreeMap<TenantId, Identities>,
    /// With what to write instead.
    trouble: Option<(UidsError, String)>,
    /// The last of the range, which is no tenant's.
    probe: Option<u32>,
}

impl Uids {
    /// The uids of a tenant.
    ///
    /// # Errors
    /// What keeps it from having any, for people.
    pub fn of(&self, tenant: &TenantId) -> Result<Identities, String> {
        let known = self.known(tenant);
        let trouble = self.trouble.as_ref();
        match (trouble.filter(|(error, _)| known.is_none() || error.concerns_all()), known) {
            (Some((error, cure)), _) => Err(format!("it has no uids to run as: {error}; {cure}")),
            (None, Some(identities)) => Ok(identities),
            (None, None) => Err("it has no uids to run as yet (run tenantd reload)".to_owned()),
        }
    }

    /// The uids of a tenant as the table has them, whether or not anything may be started with them: for
    /// knowing again who was started.
    pub fn known(&self, tenant: &TenantId) -> Option<Identities> {
        self.given.get(tenant).copied()
    }

    /// A uid like the tenants', which none of them is given: for trying out what this machine can do.
    pub fn probe(&self) -> Option<u32> {
        self.probe.filter(|_| !self.trouble().is_some_and(|(error, _)| error.concerns_all()))
    }

    /// What is wrong, and what to write or do.
    pub fn trouble(&self) -> Option<(&UidsError, &str)> {
        self.trouble.as_ref().map(|(error, cure)| (error, cure.as_str()))
    }
}

/// Where the table and what belongs to its uids are.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a Path,
    /// The directory of the tenants' own directories.
    pub tenants: &'a Path,
}

/// How much is done and asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// The supervisor starts: the name service is asked for all uids, also for those given long ago.
    Start,
    /// The configuration was read again: it is asked for those that are new.
    Reload,
    /// Somebody only looks: what is new is not written.
    Look,
}

/// Gives uids of `range` to those of `tenants` that have none, and says what everyone has. Looks at the
/// machine's users and may wait for a name service: not for the loop.
pub fn settle<'a>(
    place: Place<'_>,
    range: (u32, u32),
    tenants: impl IntoIterator<Item = &'a TenantId>,
    survey: &Survey,
    care: Care,
) -> Uids {
    let mut table = match Table::read(place, range) {
        Ok(table) => table,
        Err(error) => return Uids::without(BTreeMap::new(), error, range, survey),
    };
    match table.give(range, tenants, survey, care) {
        Ok(()) => Uids { given: table.tenants, trouble: None, probe: Some(range.1) },
        Err(error) => Uids::without(table.tenants, error, range, survey),
    }
}

impl Uids {
    fn without(
        given: BTreeMap<TenantId, Identities>,
        error: UidsError,
        range: (u32, u32),
        survey: &Survey,
    ) -> Self {
        let cure = cure(&error, range, survey);
        Self { given, trouble: Some((error, cure)), probe: Some(range.1) }
    }
}

/// What to write in tenantd.toml, or do.
fn cure(error: &UidsError, range: (u32, u32), survey: &Survey) -> String {
    let write = |(first, last)| format!("write uid_range = [{first}, {last}]");
    match error {
        UidsError::Table { .. } => "restore it".to_owned(),
        UidsError::Unwritable(..) => "make room, or mend the file system".to_owned(),
        UidsError::NoAnswer => "mend it; it is asked again with the next reload".to_owned(),
        UidsError::Exhausted(first, last) => {
            write((*first, last.saturating_add(last - first).min(u32::MAX - 2)))
        }
        UidsError::LeftOut { uid, .. } => {
            let last = (*uid).saturating_add(EACH).max(range.1).min(u32::MAX - 2);
            write(((*uid).min(range.0), last))
        }
        UidsError::Taken(..) => match survey.free_range(range.1 - range.0) {
            Some(free) => format!(
                "{} before the first tenant is started, or give those ids back",
                write(free)
            ),
            None => "give those ids back".to_owned(),
        },
    }
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    version: u32,
    tenants: BTreeMap<TenantId, Identities>,
    #[serde(skip)]
    path: PathBuf,
}

impl Table {
    fn read(place: Place<'_>, range: (u32, u32)) -> Result<Self, UidsError> {
        let path = place.table.to_owned();
        let wrong = |what: String| UidsError::Table { path: path.clone(), what };
        let mut options = File::options();
        let file = match options.read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match whose_files_are_there(place.tenants, range) {
                    None => Ok(Self { version: VERSION, tenants: BTreeMap::new(), path }),
                    Some(there) => Err(wrong(format!("is gone, and {} is not", there.display()))),
                };
            }
            Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
        };
        let text = io::read_to_string(io::Read::take(file, SIZE_MAX));
        let text = text.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let table: Self =
            serde_json::from_str(&text).map_err(|error| wrong(format!("is damaged: {error}")))?;
        let table = Self { path: path.clone(), ..table };
        if table.version != VERSION {
            return Err(wrong(format!("is of version {}, not {VERSION}", table.version)));
        }
        match table.twice() {
            Some(uid) => Err(wrong(format!("is damaged: uid {uid} is in it twice"))),
            None => Ok(table),
        }
    }

    /// A uid that two have, or one whose number means nobody or root.
    fn twice(&self) -> Option<u32> {
        let mut seen = BTreeSet::from([0, u32::MAX]);
        self.tenants.values().flat_map(|one| one.all()).find(|uid| !seen.insert(*uid))
    }

    fn give<'a>(
        &mut self,
        range: (u32, u32),
        tenants: impl IntoIterator<Item = &'a TenantId>,
        survey: &Survey,
        care: Care,
    ) -> Result<(), UidsError> {
        self.check(range, survey)?;
        let mut next = self.next(range);
        let mut new = BTreeMap::new();
        let mut all = Ok(());
        for tenant in tenants.into_iter().filter(|tenant| !self.tenants.contains_key(tenant)) {
            // The last one is for trying out.
            match next.checked_add(EACH).filter(|behind| *behind <= range.1) {
                Some(behind) if !new.contains_key(tenant) => {
                    new.insert(tenant.clone(), Identities::from(next));
                    next = behind;
                }
                Some(_) => {}
                None => all = Err(UidsError::Exhausted(range.0, range.1)),
            }
        }
        let given = self.tenants.values().filter(|_| care == Care::Start);
        let uids: Vec<u32> = new.values().chain(given).flat_map(|one| one.all()).collect();
        match survey.ask(&uids) {
            // Those that were given were nobody else's then.
            None if new.is_empty() => return all,
            None => return Err(UidsError::NoAnswer),
            Some(Some(claim)) => return Err(UidsError::Taken(range.0, range.1, claim)),
            Some(None) if new.is_empty() => return all,
            Some(None) if care == Care::Look => self.tenants.extend(new),
            Some(None) => self.write(new)?,
        }
        all
    }

    fn check(&self, range: (u32, u32), survey: &Survey) -> Result<(), UidsError> {
        let (range_first, range_last) = range;
        if let Some(claim) = survey.meets(range) {
            return Err(UidsError::Taken(range_first, range_last, claim.clone()));
        }
        let within = range_first..=range_last;
        for (tenant, identities) in &self.tenants {
            // Who has a uid outside would not be known at the doors for what it is.
            if let Some(uid) = identities.all().into_iter().find(|uid| !within.contains(uid)) {
                let tenant = tenant.clone();
                return Err(UidsError::LeftOut { range_first, range_last, tenant, uid });
            }
        }
        Ok(())
    }

    /// Above whatever was given: also what somebody took out of the table by hand is seldom met again.
    fn next(&self, range: (u32, u32)) -> u32 {
        let given = self.tenants.values().flat_map(|identities| identities.all()).max();
        given.map_or(range.0, |most| most.saturating_add(1))
    }

    /// Whole, beside the old one, on disk before it takes its place: whatever ends us between leaves the
    /// one or the other.
    fn write(&mut self, new: BTreeMap<TenantId, Identities>) -> Result<(), UidsError> {
        let failed = |error: &dyn std::fmt::Display| {
            UidsError::Unwritable(self.path.clone(), error.to_string())
        };
        let mut tenants = self.tenants.clone();
        tenants.extend(new);
        let whole = Self { version: VERSION, tenants, path: self.path.clone() };
        let text = serde_json::to_vec_pretty(&whole).map_err(|error| failed(&error))?;
        self.put(&text).map_err(|error| failed(&error))?;
        *self = whole;
        Ok(())
    }

    fn put(&self, text: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("json.new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        File::open(directory)?.sync_all()
    }
}

/// A tenant's directory that belongs to a uid of the range: the table was here.
fn whose_files_are_there(tenants: &Path, range: (u32, u32)) -> Option<PathBuf> {
    let entries = fs::read_dir(tenants).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| ["data", "home"].map(|name| entry.path().join(name)));
    let mut below = below.filter(|path| {
        let owner = path.symlink_metadata().map(|meta| meta.uid());
        owner.is_ok_and(|uid| (range.0..=range.1).contains(&uid))
    });
    below.next()
}

#[cfg(test)]
mod tests;
