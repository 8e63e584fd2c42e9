//! Names to ids and back (NSS), on a thread of its own, with a time limit and a cache.
//!
//! A directory server that hangs costs the asker [`WAIT`] and nobody else anything. What cannot be
//! resolved matches nobody. Ids are numbers from the kernel; only the names that people wrote into
//! grants are looked up, so that a peer with many groups costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User};

/// How long an asker waits for a name.
const WAIT: Duration = Duration::from_secs(2);
/// How long an answer is good.
const FRESH: Duration = Duration::from_secs(60);
/// How long an old answer may stand in for one that does not come.
const STALE: Duration = Duration::from_secs(600);
/// Questions that may wait: one for each seat of a door would be 256; the rest do without.
const QUESTIONS: usize = 64;
/// User names kept; beyond that the cache starts anew.
const USERS_MAX: usize = 1024;
/// NSS modules are other people's code and want some stack.
const STACK: usize = 512 * 1024;

/// The names that grants and `admins` use, digits left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Users.
    pub users: BTreeSet<String>,
    /// Groups.
    pub groups: BTreeSet<String>,
}

impl Names {
    /// Adds a user, unless it is a uid in digits.
    pub fn user(&mut self, name: &str) {
        if name.parse::<u32>().is_err() {
            self.users.insert(name.to_owned());
        }
    }

    /// Adds a group, unless it is a gid in digits.
    pub fn group(&mut self, name: &str) {
        if name.parse::<u32>().is_err() {
            self.groups.insert(name.to_owned());
        }
    }
}

/// What the names mean at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// User name to uid.
    pub users: BTreeMap<String, u32>,
    /// Group name to gid.
    pub groups: BTreeMap<String, u32>,
    /// Names that mean nobody, as `user "x"` or `group "y"`.
    pub unknown: Vec<String>,
}

impl Ids {
    /// The uid that `name` means: digits are a uid.
    pub fn uid(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| self.users.get(name).copied())
    }

    /// The gid that `name` means: digits are a gid.
    pub fn gid(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| self.groups.get(name).copied())
    }
}

enum Question {
    User(u32, SyncSender<String>),
    All(SyncSender<Arc<Ids>>),
}

#[derive(Default)]
struct Cache {
    wanted: Names,
    /// Whether `ids` answer for `wanted`.
    current: bool,
    ids: Option<(Instant, Arc<Ids>)>,
    users: BTreeMap<u32, (Instant, String)>,
}

impl Cache {
    fn current_ids(&self) -> Option<Arc<Ids>> {
        if self.current { self.ids_within(FRESH) } else { None }
    }

    fn ids_within(&self, age: Duration) -> Option<Arc<Ids>> {
        self.ids.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, ids)| ids.clone())
    }

    fn user_within(&self, uid: u32, age: Duration) -> Option<String> {
        self.users.get(&uid).filter(|(at, _)| at.elapsed() < age).map(|(_, name)| name.clone())
    }
}

/// The handle to the thread; cheap to clone.
#[derive(Clone)]
pub struct Directory {
    ask: SyncSender<Question>,
    cache: Arc<Mutex<Cache>>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Directory")
    }
}

impl Directory {
    /// Starts the thread. It ends with the last handle.
    ///
    /// # Errors
    /// As pthread_create(3).
    pub fn start() -> io::Result<Self> {
        let (ask, questions) = mpsc::sync_channel(QUESTIONS);
        let cache = Arc::new(Mutex::new(Cache::default()));
        let own = cache.clone();
        let thread = std::thread::Builder::new().name("names".into()).stack_size(STACK);
        thread.spawn(move || answer(&questions, &own))?;
        Ok(Self { ask, cache })
    }

    /// Changes the names that [`Self::ids`] answers for.
    pub fn want(&self, names: Names) {
        let mut cache = lock(&self.cache);
        if cache.wanted != names {
            cache.wanted = names;
            cache.current = false;
        }
    }

    /// What the names mean. Waits at most [`WAIT`]; then an answer that is not too old serves, else
    /// nobody matches.
    pub fn ids(&self) -> Arc<Ids> {
        let fresh = lock(&self.cache).current_ids();
        fresh.or_else(|| self.question(Question::All)).unwrap_or_else(|| {
            tracing::warn!("names in grants could not be looked up in time");
            lock(&self.cache).ids_within(STALE).unwrap_or_default()
        })
    }

    /// What the names meant when somebody last asked.
    pub fn last_ids(&self) -> Arc<Ids> {
        lock(&self.cache).ids_within(Duration::MAX).unwrap_or_default()
    }

    /// The name of `uid`, or its digits. Waits at most [`WAIT`].
    pub fn user(&self, uid: u32) -> String {
        let fresh = lock(&self.cache).user_within(uid, FRESH);
        fresh.or_else(|| self.question(|reply| Question::User(uid, reply))).unwrap_or_else(|| {
            lock(&self.cache).user_within(uid, STALE).unwrap_or_else(|| uid.to_string())
        })
    }

    fn question<T>(&self, ask: impl FnOnce(SyncSender<T>) -> Question) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.ask.try_send(ask(reply)).ok()?;
        answer.recv_timeout(WAIT).ok()
    }
}

/// A panic elsewhere leaves the cache whole: every change to it is one assignment.
fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(questions: &Receiver<Question>, cache: &Mutex<Cache>) {
    while let Ok(question) = questions.recv() {
        // The asker may have given up; the answer is in the cache for the next one.
        match question {
            Question::User(uid, reply) => drop(reply.try_send(user(uid, cache))),
            Question::All(reply) => drop(reply.try_send(all(cache))),
        }
    }
}

fn user(uid: u32, cache: &Mutex<Cache>) -> String {
    if let Some(name) = lock(cache).user_within(uid, FRESH) {
        return name;
    }
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = found.map_or_else(|| uid.to_string(), |user| user.name);
    let mut cache = lock(cache);
    if cache.users.len() >= USERS_MAX {
        cache.users.clear();
    }
    cache.users.insert(uid, (Instant::now(), name.clone()));
    name
}

fn all(cache: &Mutex<Cache>) -> Arc<Ids> {
    let wanted = {
        let cache = lock(cache);
        if let Some(ids) = cache.current_ids() {
            return ids;
        }
        cache.wanted.clone()
    };
    let ids = Arc::new(resolve(&wanted));
    for unknown in &ids.unknown {
        tracing::warn!("a grant names {unknown}, which is not known here and matches nobody");
    }
    let mut cache = lock(cache);
    cache.current = cache.wanted == wanted;
    cache.ids = Some((Instant::now(), ids.clone()));
    ids
}

fn resolve(wanted: &Names) -> Ids {
    let mut ids = Ids::default();
    for name in &wanted.users {
        match User::from_name(name).ok().flatten() {
            Some(user) => drop(ids.users.insert(name.clone(), Uid::as_raw(user.uid))),
            None => ids.unknown.push(format!("user {name:?}")),
        }
    }
    for name in &wanted.groups {
        match Group::from_name(name).ok().flatten() {
            Some(group) => drop(ids.groups.insert(name.clone(), Gid::as_raw(group.gid))),
            None => ids.unknown.push(format!("group {name:?}")),
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_resolve_matches_nobody() {
        let directory = Directory::start().expect("a thread");
        let mut names = Names::default();
        names.user("root");
        names.user("no-such-user-here");
        names.group("root");
        names.group("4711");
        directory.want(names);
        let ids = directory.ids();
        assert_eq!(ids.uid("root"), Some(0));
        assert_eq!(ids.gid("root"), Some(0));
        assert_eq!(ids.uid("no-such-user-here"), None);
        assert_eq!(ids.unknown, ["user \"no-such-user-here\""]);
    }

    #[test]
    fn digits_are_an_id_and_need_no_lookup() {
        let ids = Ids::default();
        assert_eq!(ids.uid("1000"), Some(1000));
        assert_eq!(ids.gid("0"), Some(0));
        assert_eq!(ids.uid("-1"), None);
    }

    #[test]
    fn other_names_are_looked_up_anew() {
        let directory = Directory::start().expect("a thread");
        assert_eq!(directory.ids().uid("root"), None);
        let mut names = Names::default();
        names.user("root");
        directory.want(names);
        assert_eq!(directory.ids().uid("root"), Some(0));
    }
}
