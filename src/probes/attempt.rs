//! How a probe ended: the kernel's answer as one word, and what it means for who tried.

use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was refused.
    Blocked,
    /// It worked.
    Open,
    /// It could not be tried: the brief does not name what it needs, or its process died.
    FailedToRun,
}

impl Outcome {
    /// The word as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Open => "open",
            Self::FailedToRun => "failed-to-run",
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempt {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

impl Attempt {
    pub(super) fn open(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Open, detail: detail.into() }
    }

    pub(super) fn blocked(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Blocked, detail: detail.into() }
    }

    pub(super) fn failed(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::FailedToRun, detail: detail.into() }
    }

    /// Open where something is so.
    pub(super) fn open_if(open: bool, detail: impl Into<String>) -> Self {
        if open { Self::open(detail) } else { Self::blocked(detail) }
    }
}

/// Open where the deed was done.
pub(super) fn deed<T>(result: Result<T, impl Into<io::Error>>) -> Attempt {
    match result {
        Ok(_) => Attempt::open("done"),
        Err(error) => Attempt::blocked(word(&error.into())),
    }
}

/// For a deed that would do harm, and is asked for in a way that cannot work: open where the kernel got so
/// far as to look at what was asked, blocked where it says that one may not, or that there is no such thing.
pub(super) fn reached<T>(result: Result<T, impl Into<io::Error>>) -> Attempt {
    const NO: [i32; 5] = [
        nix::libc::EPERM,
        nix::libc::EACCES,
        nix::libc::ENOSYS,
        nix::libc::ESRCH,
        nix::libc::EAFNOSUPPORT,
    ];
    match result {
        Ok(_) => Attempt::open("done"),
        Err(error) => {
            let error = error.into();
            let no = error.raw_os_error().is_some_and(|number| NO.contains(&number));
            Attempt::open_if(!no, word(&error))
        }
    }
}

/// What a probe is about, if the brief names it.
pub(super) fn with<T>(fact: Option<T>, what: &str, attempt: impl FnOnce(T) -> Attempt) -> Attempt {
    fact.map_or_else(|| Attempt::failed(format!("nobody said where {what} is")), attempt)
}

/// `ENOENT`, or the text of an error that is not the kernel's.
pub(super) fn word(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", Errno::from_raw(number)),
        None => error.to_string(),
    }
}
