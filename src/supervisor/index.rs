//! What is known of a tenant's secrets without opening a store: names, whose, since when, until when. Never a
//! value, and nothing that a value could be guessed from.
//!
//! One file a tenant, `credentials/<id>.json` in the state directory (0600), written whole beside the old one.
//! Only the supervisor writes it. A damaged one is laid aside and begun anew; what the store holds comes back
//! into it as soon as the credential role has met it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::names::TenantId;
use crate::paths::Layout;
use crate::wire::credential::{Account, Source};

/// The version of the file.
const VERSION: u32 = 1;
/// The largest file that is read, bytes: some ten thousand secrets.
const SIZE_MAX: u64 = 2 * 1024 * 1024;
/// The most secrets of one tenant: each user may have each of them.
pub(super) const FACTS_MAX: usize = 8192;

/// What is known of one secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fact {
    pub(super) name: String,
    /// Whose it is, where each user has one of their own.
    pub(super) user: Option<String>,
    pub(super) source: Source,
    /// Seconds since the epoch; nothing where it was only found in the store.
    pub(super) stored_at: Option<i64>,
    /// Seconds since the epoch, where that is known.
    pub(super) expires: Option<i64>,
}

impl Fact {
    fn account(&self) -> Account {
        Account { name: self.name.clone(), user: self.user.clone() }
    }

    fn is_of(&self, account: &Account) -> bool {
        self.name == account.name && self.user == account.user
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    credentials: Vec<Fact>,
}

/// The index of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    path: PathBuf,
    facts: Vec<Fact>,
    /// What was wrong with the file, while that can still make this list too short.
    pub(super) damage: Option<String>,
}

/// Where the indexes are.
pub(super) fn directory(layout: &Layout) -> PathBuf {
    layout.state.join("credentials")
}

impl Index {
    /// What the file says. One that cannot be understood is laid aside, and said.
    pub(super) fn open(layout: &Layout, tenant: &TenantId) -> Self {
        let path = directory(layout).join(format!("{tenant}.json"));
        match read(&path) {
            Ok(facts) => Self { path, facts, damage: None },
            Err(what) => {
                let aside = path.with_extension("json.damaged");
                let kept = match fs::rename(&path, &aside) {
                    Ok(()) => format!("it is kept as {}", aside.display()),
                    Err(error) => format!("it cannot be laid aside: {error}"),
                };
                let damage = format!(
                    "the list of the credentials that are set was damaged and begun anew ({}: {what}; {kept}); \
                     the credentials themselves are where they were",
                    path.display()
                );
                tracing::error!(%tenant, "{damage}");
                Self { path, facts: Vec::new(), damage: Some(damage) }
            }
        }
    }

    /// Every fact.
    pub(super) fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// What is known of this one; nothing where it is not set.
    pub(super) fn get(&self, account: &Account) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.is_of(account))
    }

    /// Whose there are under this name.
    pub(super) fn accounts(&self, name: &str) -> impl Iterator<Item = Account> {
        self.facts.iter().filter(move |fact| fact.name == name).map(Fact::account)
    }

    /// One was met in the store. Says whether that is news.
    pub(super) fn met(&mut self, account: &Account, expires: Option<i64>) -> bool {
        let is_full = self.facts.len() >= FACTS_MAX;
        match self.facts.iter_mut().find(|fact| fact.is_of(account)) {
            Some(fact) if fact.expires == expires => return false,
            Some(fact) => fact.expires = expires,
            None if is_full => return false,
            None => {
                let Account { name, user } = account.clone();
                let source = Source::Found;
                self.facts.push(Fact { name, user, source, stored_at: None, expires });
            }
        }
        true
    }

    /// One was stored. Says whether one was there before.
    pub(super) fn put(&mut self, fact: Fact) -> bool {
        let account = fact.account();
        match self.facts.iter_mut().find(|old| old.is_of(&account)) {
            Some(old) => {
                *old = fact;
                true
            }
            None => {
                self.facts.push(fact);
                false
            }
        }
    }

    /// One is no longer there. Says whether it was.
    pub(super) fn remove(&mut self, account: &Account) -> bool {
        let before = self.facts.len();
        self.facts.retain(|fact| !fact.is_of(account));
        self.facts.len() < before
    }

    /// Writes the file: on disk before it takes the old one's place, so that whatever ends us between leaves
    /// the one or the other. Blocks.
    pub(super) fn write(&self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let written = Written { version: VERSION, credentials: self.facts.clone() };
        let beside = self.path.with_extension("json.new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(&written)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(directory)?.sync_all()
    }
}

fn read(path: &Path) -> Result<Vec<Fact>, String> {
    let mut options = File::options();
    let file = match options.read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > SIZE_MAX {
        return Err("it is too large".to_owned());
    }
    let written: Written = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if written.version != VERSION {
        return Err(format!("it is of version {}, not {VERSION}", written.version));
    }
    Ok(written.credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Mode;
    use std::os::unix::fs::PermissionsExt;

    fn tenant() -> TenantId {
        TenantId::parse("acme").expect("an id")
    }

    fn fact(name: &str, user: Option<&str>, stored_at: i64) -> Fact {
        let (name, user) = (name.to_owned(), user.map(str::to_owned));
        Fact { name, user, source: Source::Set, stored_at: Some(stored_at), expires: None }
    }

    fn rooted() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, root.path());
        (root, layout)
    }

    #[test]
    fn what_was_put_is_there_after_a_restart_and_only_for_us() {
        let (_root, layout) = rooted();
        let mut index = Index::open(&layout, &tenant());
        assert!(!index.put(fact("a", None, 1)) && !index.put(fact("a", Some("bob"), 2)));
        assert!(index.put(fact("a", None, 3)), "it was there");
        index.write().expect("written");
        let mut again = Index::open(&layout, &tenant());
        assert_eq!(again, index);
        let account = Account { name: "a".into(), user: None };
        assert_eq!(again.get(&account).and_then(|fact| fact.stored_at), Some(3));
        assert!(again.remove(&account) && !again.remove(&account));
        assert_eq!(again.facts().len(), 1);
        let path = layout.state.join("credentials/acme.json");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("one"))), (0o600, 0o700));
    }

    #[test]
    fn a_damaged_file_is_said_and_laid_aside() {
        let (_root, layout) = rooted();
        let path = layout.state.join("credentials/acme.json");
        fs::create_dir_all(path.parent().expect("one")).expect("made");
        for bad in ["{", "[]", r#"{"version":9,"credentials":[]}"#] {
            fs::write(&path, bad).expect("written");
            let index = Index::open(&layout, &tenant());
            let damage = index.damage.clone().expect("said");
            assert!(
                damage.contains("begun anew") && damage.contains("acme.json.damaged"),
                "{damage}"
            );
            assert_eq!(fs::read_to_string(path.with_extension("json.damaged")).expect("kept"), bad);
            assert!(index.facts().is_empty() && !path.exists());
        }
        fs::create_dir(&path).expect("made");
        assert!(Index::open(&layout, &tenant()).damage.is_some(), "a directory in its place");
    }
}
