//! Where the processes of a browser are: in one sandbox, with nothing left of what they could be outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::{DEADLINE, Held, Supervisor, left_after, wait_until};

/// What Debian's Chromium is called, its helpers included: `chromium`, `chrome_crashpad`.
const NAME: &str = "chrom";
/// Browser, zygote, GPU, network and a page at least.
const FEWEST: usize = 5;
/// Filtered system calls (proc_pid_status(5)).
const SECCOMP_FILTER: &str = "2";

/// The processes of browsers below this supervisor.
pub(crate) fn browsers(supervisor: &Supervisor<'_>) -> Vec<Held> {
    supervisor.descendants().into_iter().filter(|held| held.name.starts_with(NAME)).collect()
}

/// /proc/PID/status, by key.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn namespace(pid: &str, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it lives");
    link.to_str().expect("UTF-8").to_owned()
}

/// Asserts that a browser runs, that all of it is in the sandbox of this one server, as this user, and nothing of
/// it where the supervisor is.
#[track_caller]
pub(crate) fn assert_confined(
    browser: &[Held],
    server: &Held,
    supervisor: &Supervisor<'_>,
    uid: u32,
) {
    let names: Vec<_> = browser.iter().map(|held| &held.name).collect();
    assert!(browser.len() >= FEWEST, "{names:?}");
    for held in browser {
        let (pid, status) = (held.pid.to_string(), status(held.pid));
        let what = format!("{} {pid}", held.name);
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            let inside = namespace(&pid, kind);
            assert_eq!(inside, namespace(&server.pid.to_string(), kind), "{what}: {kind}");
            assert_ne!(inside, namespace(&supervisor.pid().to_string(), kind), "{what}: {kind}");
        }
        assert_eq!(status["NSpid"].split_whitespace().count(), 2, "{what}");
        let uids: BTreeSet<&str> = status["Uid"].split_whitespace().collect();
        assert_eq!(uids, BTreeSet::from([&*uid.to_string()]), "{what}");
        assert_eq!(status["NoNewPrivs"], "1", "{what}");
        assert_eq!(status["Seccomp"], SECCOMP_FILTER, "{what}");
        for key in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status[key], 16), Ok(0), "{what}: {key}");
        }
    }
}

/// Asserts that these processes of a browser end, though the supervisor goes on.
#[track_caller]
pub(crate) fn assert_gone(browser: Vec<Held>) {
    assert_eq!(left_after(browser, DEADLINE), Vec::<String>::new());
}

/// Waits until there is no browser at all: what has ended is there until it is buried, and what was born
/// meanwhile was not held.
pub(crate) fn until_none(supervisor: &Supervisor<'_>) {
    wait_until("no browser is left", || browsers(supervisor).is_empty());
}
