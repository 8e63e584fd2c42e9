//! The tools by which the puppet takes all that it can get: memory, processes, processors.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// Name, what it does, and whether it is annotated as read-only.
pub(crate) const TOOLS: [(&str, &str, bool); 3] = [
    ("burn", "computes for some time (ms), then returns how much of it was its own (ms)", false),
    (
        "forks",
        "starts processes (count), as many as it can; returns how many, and why no more",
        false,
    ),
    ("hog", "takes memory (bytes) and keeps it", false),
];

/// Takes memory, each page of it.
pub(crate) fn hog(bytes: u64) {
    let size = usize::try_from(bytes).expect("a size");
    std::mem::forget(vec![1_u8; size]);
}

/// Starts processes that only live.
pub(crate) fn forks(count: u64) -> Value {
    let mut started = Vec::new();
    let mut refused = None;
    for _ in 0..count {
        let mut command = Command::new("/proc/self/exe");
        match command.env("PUPPET_START", "linger").spawn() {
            Ok(child) => started.push(child),
            Err(error) => {
                refused = Some(error.to_string());
                break;
            }
        }
    }
    let count = started.len();
    for mut child in started {
        child.kill().and_then(|()| child.wait()).expect("ended");
    }
    json!({"started": count, "refused": refused})
}

/// Computes for so long by the clock on the wall.
pub(crate) fn burn(ms: u64) -> Value {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("usage");
        let (user, system) = (usage.user_time(), usage.system_time());
        (user.tv_sec() + system.tv_sec()) * 1000 + (user.tv_usec() + system.tv_usec()) / 1000
    };
    let (until, before) = (Instant::now() + Duration::from_millis(ms), used());
    while Instant::now() < until {
        std::hint::black_box((0..1000_u64).sum::<u64>());
    }
    json!({"used": used() - before})
}
