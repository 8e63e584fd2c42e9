//! Marks: words that nobody can guess, put into whatever an end says, with who may come to see each.
//!
//! They follow from the whole input, so that no input can hold the marks of its own play.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hasher;

use crate::mux::session::SlotKey;
use crate::names::SessionId;

/// How every mark begins.
const PREFIX: &[u8] = b"zq";
/// How many hexadecimal digits follow.
const DIGITS: usize = 16;

/// One mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark(u64);

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "zq{:0DIGITS$x}", self.0)
    }
}

/// How far an answer may go beyond who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// No further.
    Asker,
    /// To whoever of the same user has retried the call, which was held meanwhile.
    Retry,
    /// To sessions of the same user on the same server: its tasks, and what may be kept for it.
    User,
    /// To every session of the same server: what may be kept and is public.
    Slot,
}

/// Who may come to see a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    /// The session that wrote it, and its server.
    Author(SessionId),
    /// The session that asked for it.
    Asker { session: SessionId, reach: Reach },
    /// Every session of a server.
    Slot(SlotKey),
    /// One session of a server, whichever hears it first; `held`: it was heard as the result of a call,
    /// and that call's user may be asked again.
    One { slot: SlotKey, heard: Option<SessionId>, held: bool },
    /// Sessions of a server with the permission `admin`.
    Admins(SlotKey),
    /// Every session of the tenant.
    Tenant,
    /// No session.
    Nobody,
}

/// Every mark of a play.
#[derive(Debug)]
pub(super) struct Marks {
    seed: u64,
    made: u64,
    audiences: HashMap<Mark, Audience>,
    /// Answers that came.
    told: HashSet<Mark>,
}

impl Marks {
    pub(super) fn new(input: &[u8]) -> Self {
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write(input);
        Self { seed: hasher.finish() | 1, made: 0, audiences: HashMap::new(), told: HashSet::new() }
    }

    /// A new mark that is for nobody yet.
    pub(super) fn make(&mut self) -> Mark {
        self.made += 1;
        let mark = Mark(mixed(self.seed.wrapping_add(mixed(self.made))));
        self.audiences.insert(mark, Audience::Nobody);
        mark
    }

    pub(super) fn allow(&mut self, mark: Mark, audience: Audience) {
        self.audiences.insert(mark, audience);
    }

    pub(super) fn audience(&mut self, mark: Mark) -> Option<&mut Audience> {
        self.audiences.get_mut(&mark)
    }

    /// Who may see a mark.
    pub(super) fn who(&self, mark: Mark) -> &Audience {
        self.audiences.get(&mark).unwrap_or(&Audience::Nobody)
    }

    /// Notes that an answer came; false if it did before.
    pub(super) fn tell(&mut self, mark: Mark) -> bool {
        self.told.insert(mark)
    }

    /// The marks of this play in a line, each once, in their order.
    pub(super) fn find(&self, line: &[u8]) -> Vec<Mark> {
        let starts = memchr::memmem::find_iter(line, PREFIX);
        let digits = |at: usize| line.get(at + PREFIX.len()..at + PREFIX.len() + DIGITS);
        let mut seen = HashSet::new();
        starts
            .filter_map(|at| u64::from_str_radix(std::str::from_utf8(digits(at)?).ok()?, 16).ok())
            .map(Mark)
            .filter(|mark| self.audiences.contains_key(mark) && seen.insert(*mark))
            .collect()
    }
}

/// Numbers that follow one another become numbers that do not (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
