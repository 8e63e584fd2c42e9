//! What a tenant may use together, and how much of that its servers leave to its mux. Pure.

use crate::config::tenant::{Limit, Quota};

/// The share of a tenant's memory that its servers cannot have: one part of so many.
const RESERVE_PART: u64 = 8;
/// The least and the most of it, bytes: a mux without sessions takes about 8 MiB, and what its sessions
/// queue is bounded by `message_size`.
const RESERVED_MEMORY: (u64, u64) = (16 << 20, 128 << 20);
/// The least and the most tasks that servers cannot have: a mux is two, each keeper one.
const RESERVED_TASKS: (u64, u64) = (8, 64);

/// What a group may use; `None` is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// Bytes, of memory and swap together.
    pub memory: Option<u64>,
    /// Cores.
    pub cpus: Option<f64>,
    /// Tasks: threads count.
    pub processes: Option<u64>,
    /// Bytes in a second, read and written each.
    pub io: Option<u64>,
}

impl Bounds {
    /// What a tenant's quota says.
    pub fn of(quota: &Quota) -> Self {
        Self {
            memory: at(quota.memory),
            cpus: at(quota.cpus),
            processes: at(quota.processes).map(u64::from),
            io: at(quota.io),
        }
    }

    /// What the servers may have of it together. Processors and disks are shared with the mux.
    pub fn of_servers(self) -> Self {
        let less = |all: u64, (least, most): (u64, u64)| {
            all - (all / RESERVE_PART).clamp(least, most).min(all / 2)
        };
        Self {
            memory: self.memory.map(|all| less(all, RESERVED_MEMORY)),
            processes: self.processes.map(|all| less(all, RESERVED_TASKS).max(1)),
            cpus: None,
            io: None,
        }
    }
}

fn at<T>(limit: Limit<T>) -> Option<T> {
    match limit {
        Limit::At(most) => Some(most),
        Limit::Unlimited => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_never_takes_more_than_half() {
        for all in [1, 2, 16, 100, 512, 100_000] {
            let servers =
                Bounds { processes: Some(all), ..Bounds::default() }.of_servers().processes;
            let servers = servers.expect("a limit");
            assert!(servers >= all / 2 && servers >= 1 && servers <= all, "{all}: {servers}");
        }
        let small = Bounds { memory: Some(20 << 20), ..Bounds::default() }.of_servers();
        assert_eq!(small.memory, Some(10 << 20));
    }
}
