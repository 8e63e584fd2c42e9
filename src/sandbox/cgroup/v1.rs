//! cgroup v1 (the kernel's cgroup-v1/): a tree for each controller, for older hosts and for hybrid ones
//! whose controllers are there.
//!
//! Our own group may be shared with others: ours is a directory in it that no other supervisor has. It has
//! no kill at once and no out-of-memory kill of a whole group: processes are killed one by one until there
//! is none, and what the kernel leaves of a server dies with its namespace.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::place::Places;
use super::{Bounds, CgroupError, Disk, Driver, Part, make, write};

/// Rounds of looking and killing: with the fork limit at zero one is enough, but for who forks just then.
const ROUNDS: usize = 64;
/// The time that processor limits are counted in, microseconds: the kernel's own default.
const PERIOD: u32 = 100_000;
/// The least that it takes of it.
const LEAST_QUOTA: f64 = 1000.0;
/// Processor shares of one core.
const SHARES: f64 = 1024.0;

/// Our directory in the tree of each controller.
#[derive(Debug)]
pub(super) struct Trees {
    /// Each once: controllers may share a tree.
    roots: Vec<PathBuf>,
    memory: PathBuf,
    pids: PathBuf,
    cpu: PathBuf,
    io: Option<PathBuf>,
}

impl Trees {
    /// Makes our directories and tries every limit. Without a reason there are no such controllers at all.
    pub(super) fn open(places: &Places, state: &Path) -> Result<Self, Option<String>> {
        let digest = blake3::hash(state.as_os_str().as_encoded_bytes()).to_hex();
        let name = format!("tenantd-{}", digest.get(..12).unwrap_or_default());
        let own = |controller| places.of(controller).map(|group| group.join(&name));
        let (Some(memory), Some(pids), Some(cpu)) = (own("memory"), own("pids"), own("cpu")) else {
            return Err(None);
        };
        let io = own("blkio").filter(|path| make(path).is_ok());
        let trees = Self::at(memory, pids, cpu, io);
        trees.try_out().map_err(|error| {
            trees.roots.iter().for_each(|root| drop(fs::remove_dir(root)));
            Some(format!("cgroup v1: {error} (start tenantd as root)"))
        })?;
        Ok(trees)
    }

    fn at(memory: PathBuf, pids: PathBuf, cpu: PathBuf, io: Option<PathBuf>) -> Self {
        let all = [&memory, &pids, &cpu].into_iter().chain(&io).cloned();
        let roots: BTreeSet<PathBuf> = all.collect();
        Self { roots: roots.into_iter().collect(), memory, pids, cpu, io }
    }

    fn try_out(&self) -> Result<(), CgroupError> {
        self.roots.iter().try_for_each(|root| make(root).map(drop))?;
        let (group, none) = (Path::new(".try"), Bounds::default());
        let trial = || self.roots.iter().map(|root| root.join(group));
        let made = trial().try_for_each(|path| make(&path).map(drop));
        let bounds =
            Bounds { memory: Some(64 << 20), cpus: Some(1.0), processes: Some(64), ..none };
        let tried = made.and_then(|()| self.bound(group, &bounds, Part::Tenant));
        trial().for_each(|path| drop(fs::remove_dir(path)));
        tried
    }

    fn processes(&self, group: &Path) -> Vec<i32> {
        let mut found = Vec::new();
        // In one of the trees is enough: it would hold the group there.
        let mut next: Vec<_> = self.roots.iter().map(|root| root.join(group)).collect();
        while let Some(directory) = next.pop() {
            let procs = directory.join("cgroup.procs");
            let text = fs::read_to_string(procs).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            let below = fs::read_dir(&directory).into_iter().flatten().flatten();
            next.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        found
    }

    /// No new process in the group or below it.
    fn stop_forks(&self, group: &Path) -> io::Result<()> {
        fs::write(self.pids.join(group).join("pids.max"), "0")
    }
}

impl Driver for Trees {
    fn name(&self) -> &'static str {
        if self.io.is_some() { "cgroup v1" } else { "cgroup v1 without io" }
    }

    fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    fn prepare(&self, _: &Path, _: Part) -> Result<(), CgroupError> {
        Ok(())
    }

    fn bound(&self, group: &Path, bounds: &Bounds, part: Part) -> Result<(), CgroupError> {
        let most = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
        let pids = bounds.processes.map_or_else(|| "max".to_owned(), |n| n.to_string());
        let pids = write(self.pids.join(group).join("pids.max"), pids);
        let cpu = if part == Part::Tenant { self.bound_cpu(group, bounds.cpus) } else { Ok(()) };
        let memory = self.memory.join(group);
        let both = memory.join("memory.memsw.limit_in_bytes");
        let (alone, limit) = (memory.join("memory.limit_in_bytes"), most(bounds.memory));
        if !both.exists() {
            return pids.and(cpu).and(write(alone, limit));
        }
        // That of memory is never above that of memory and swap: which goes first depends on the way.
        let _ = write(both.clone(), limit.clone());
        let memory = write(alone, limit.clone()).and_then(|()| write(both, limit));
        pids.and(cpu).and(memory)
    }

    fn bound_io(&self, group: &Path, disk: Disk, rate: Option<u64>) -> Result<(), CgroupError> {
        let Some(io) = &self.io else {
            return Err(CgroupError::Io("there is no blkio controller".to_owned()));
        };
        let value = format!("{disk} {}", rate.unwrap_or(0));
        let set = |name| write(io.join(group).join(name), value.clone());
        set("blkio.throttle.read_bps_device").and(set("blkio.throttle.write_bps_device"))
    }

    fn kill(&self, group: &Path) -> io::Result<()> {
        self.stop_forks(group)?;
        for _ in 0..ROUNDS {
            let processes = self.processes(group);
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                end(pid, || self.processes(group).contains(&pid));
            }
        }
        Ok(())
    }

    fn counters(&self, group: &Path) -> (PathBuf, PathBuf) {
        let memory = self.memory.join(group).join("memory.oom_control");
        (memory, self.pids.join(group).join("pids.events"))
    }
}

impl Trees {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, clamped")]
    fn bound_cpu(&self, group: &Path, cpus: Option<f64>) -> Result<(), CgroupError> {
        let file = |name: &str| self.cpu.join(group).join(name);
        let quota = match cpus {
            None => "-1".to_owned(),
            Some(cpus) => {
                let quota = (cpus * f64::from(PERIOD)).max(LEAST_QUOTA).round();
                (quota as u64).to_string()
            }
        };
        let shares = cpus.map_or(SHARES, |cpus| (cpus * SHARES).round().clamp(2.0, 262_144.0));
        write(file("cpu.cfs_period_us"), PERIOD.to_string())
            .and(write(file("cpu.cfs_quota_us"), quota))
            .and(write(file("cpu.shares"), (shares as u64).to_string()))
    }
}

/// SIGKILL to a process that is still there after it is held: its number may have become another's.
fn end(pid: i32, still: impl Fn() -> bool) {
    let Some(number) = Pid::from_raw(pid) else { return };
    if let Ok(held) = pidfd_open(number, PidfdFlags::empty())
        && still()
    {
        // What has ended by itself is as good.
        let _ = pidfd_send_signal(&held, Signal::KILL);
    }
}
