//! What a server's control group tells its keeper: forks that were refused, processes that were killed for
//! want of memory.
//!
//! The files are opened before the keeper could lose the right to; the kernel wakes who polls them with
//! POLLPRI, at most every 10 ms. v1 wakes nobody (measured): there they are looked at every [`LOOK`].
//!
//! Since Linux 6.11 `pids.events` counts where the limit is, not where the fork was: where `pids.events.local`
//! exists, the group of all servers of the tenant is watched as well.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::wire::stage::{KeeperWord, Seat};

/// The least time between two words about the same: a fork bomb is told once, not ten thousand times.
const BETWEEN: Duration = Duration::from_secs(10);
/// How long before a server's end a kill for want of memory is taken for its cause: the main process may
/// take a moment to die, and what it served dies first.
const CAUSE: Duration = Duration::from_secs(2);
/// How often the counters of v1 are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// These files are a few lines.
const LONGEST: usize = 1024;

/// The counters of one server's group.
#[derive(Debug)]
pub struct Watch {
    memory: Option<Counter>,
    /// Whether the kernel kills the group whole (v2): then its end says it.
    whole: bool,
    forks: Vec<Forks>,
    /// When a kill for want of memory was seen last.
    killed: Option<Instant>,
    told_memory: Option<Instant>,
}

#[derive(Debug)]
struct Forks {
    counter: Counter,
    what: &'static str,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Counter {
    file: File,
    key: &'static str,
    seen: u64,
    /// The group is gone: then the kernel would wake its watcher for ever.
    gone: bool,
}

impl Counter {
    fn open(path: &Path, key: &'static str) -> io::Result<Self> {
        let file = File::open(path)?;
        let seen = read(&file, key)?;
        Ok(Self { file, key, seen, gone: false })
    }

    /// How much it has grown since it was asked last. Reading it is what the kernel wants before it wakes
    /// again.
    fn growth(&mut self) -> u64 {
        let now = read(&self.file, self.key);
        self.gone = now.is_err();
        let now = now.unwrap_or(self.seen);
        let growth = now.saturating_sub(self.seen);
        self.seen = now;
        growth
    }
}

fn read(file: &File, key: &str) -> io::Result<u64> {
    let mut buffer = [0; LONGEST];
    let count = file.read_at(&mut buffer, 0)?;
    let text = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default());
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    Ok(line.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
}

impl Watch {
    /// Opens what the seat names.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(seat: &Seat) -> io::Result<Self> {
        let memory = seat.memory_events.as_deref().map(Path::new);
        let pids = seat.pids_events.as_deref().map(Path::new);
        let mut forks = Vec::new();
        if let Some(path) = pids {
            let own = Counter::open(path, "max")?;
            forks.push(Forks {
                counter: own,
                what: "a new process was refused (quota.processes)",
                told: None,
            });
            forks.extend(shared(path));
        }
        Ok(Self {
            memory: memory.map(|path| Counter::open(path, "oom_kill")).transpose()?,
            whole: memory.is_some_and(|path| path.ends_with("memory.events")),
            forks,
            killed: None,
            told_memory: None,
        })
    }

    /// Nothing to watch.
    pub fn none() -> Self {
        Self { memory: None, whole: false, forks: Vec::new(), killed: None, told_memory: None }
    }

    /// After how long without a word to ask [`Watch::news`] all the same.
    pub fn patience(&self) -> Option<Duration> {
        (self.memory.is_some() && !self.whole).then_some(LOOK)
    }

    /// What to poll with POLLPRI; after it, ask [`Watch::news`].
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let memory = self.memory.iter().filter(|_| self.whole);
        let forks = self.forks.iter().map(|forks| &forks.counter);
        memory.chain(forks).filter(|counter| !counter.gone).map(|counter| counter.file.as_fd())
    }

    /// A limit that was met since the last question, while the server runs on. One at a time, and each not
    /// again for a while.
    pub fn news(&mut self, now: Instant) -> Option<KeeperWord> {
        if self.look_at_memory(now) && !self.whole && due(&mut self.told_memory, now) {
            let what = "a process of it was killed for want of memory (quota.memory)";
            return Some(KeeperWord::Limited { what: what.to_owned() });
        }
        let mut word = None;
        for forks in &mut self.forks {
            // Each is read in any case: else the kernel would wake us for ever.
            if forks.counter.growth() > 0 && due(&mut forks.told, now) {
                word = word.or(Some(KeeperWord::Limited { what: forks.what.to_owned() }));
            }
        }
        word
    }

    /// Whether the kernel killed something of the server for want of memory just now: asked when it was
    /// ended by SIGKILL.
    pub fn out_of_memory(&mut self, now: Instant) -> bool {
        self.look_at_memory(now)
            || self.killed.is_some_and(|killed| now.saturating_duration_since(killed) <= CAUSE)
    }

    fn look_at_memory(&mut self, now: Instant) -> bool {
        let grown = self.memory.as_mut().is_some_and(|memory| memory.growth() > 0);
        if grown {
            self.killed = Some(now);
        }
        grown
    }
}

/// Whether it is time to say it again; notes that it is said.
fn due(told: &mut Option<Instant>, now: Instant) -> bool {
    let due = told.is_none_or(|told| now.saturating_duration_since(told) >= BETWEEN);
    if due {
        *told = Some(now);
    }
    due
}

/// The count of all servers of the tenant, where the kernel counts at the limit.
fn shared(own: &Path) -> Option<Forks> {
    let group = own.parent()?;
    if !group.join("pids.events.local").exists() {
        return None;
    }
    let counter = Counter::open(&group.parent()?.join("pids.events"), "max").ok()?;
    let what = "a new process was refused to the tenant's servers together (quota.processes)";
    Some(Forks { counter, what, told: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Group(tempfile::TempDir);

    impl Group {
        fn new() -> Self {
            let group = Self(tempfile::tempdir().expect("a directory"));
            group.say(0, 0);
            group
        }

        fn say(&self, kills: u64, refused: u64) {
            let memory =
                format!("low 0\nhigh 0\nmax 7\noom 0\noom_kill {kills}\noom_group_kill 0\n");
            fs::write(self.0.path().join("memory.events"), memory).expect("written");
            let older = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n");
            fs::write(self.0.path().join("memory.oom_control"), older).expect("written");
            fs::write(self.0.path().join("pids.events"), format!("max {refused}\n"))
                .expect("written");
        }

        fn watch(&self, memory: &str) -> Watch {
            let path = |name| Some(self.0.path().join(name).to_str().expect("text").to_owned());
            let seat = Seat {
                procs: vec![],
                memory_events: path(memory),
                pids_events: path("pids.events"),
            };
            Watch::open(&seat).expect("opened")
        }
    }

    fn what(word: Option<KeeperWord>) -> Option<String> {
        word.map(|word| match word {
            KeeperWord::Limited { what } => what,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_fork_bomb_is_told_once_in_a_while() {
        let (group, now) = (Group::new(), Instant::now());
        let mut watch = group.watch("memory.events");
        assert_eq!(watch.news(now), None);
        group.say(0, 1);
        assert!(what(watch.news(now)).is_some_and(|what| what.contains("quota.processes")));
        group.say(0, 10_000);
        assert_eq!(watch.news(now + BETWEEN / 2), None);
        assert_eq!(watch.news(now + BETWEEN), None, "nothing new since");
        group.say(0, 10_001);
        assert!(what(watch.news(now + BETWEEN)).is_some());
    }

    #[test]
    fn a_kill_for_want_of_memory_is_the_cause_of_an_end_soon_after() {
        let (group, now) = (Group::new(), Instant::now());
        let mut watch = group.watch("memory.oom_control");
        assert!(!watch.out_of_memory(now));
        group.say(1, 0);
        assert!(what(watch.news(now)).is_some_and(|what| what.contains("quota.memory")));
        assert!(watch.out_of_memory(now + CAUSE));
        assert!(!watch.out_of_memory(now + CAUSE * 2), "it lived on and died of something else");
    }

    #[test]
    fn a_group_that_is_killed_whole_says_so_by_its_end_alone() {
        let (group, now) = (Group::new(), Instant::now());
        let mut watch = group.watch("memory.events");
        group.say(3, 0);
        assert_eq!(watch.news(now), None);
        assert!(watch.out_of_memory(now));
    }

    #[test]
    fn kills_of_a_server_before_are_not_this_ones() {
        let group = Group::new();
        group.say(5, 5);
        let mut watch = group.watch("memory.events");
        assert!(!watch.out_of_memory(Instant::now()));
        assert_eq!(watch.news(Instant::now()), None);
    }
}
