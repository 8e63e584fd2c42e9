//! cgroup v2 (the kernel's cgroup-v2.rst): one tree, whose controllers each group hands on to those below.
//!
//! Our own group must be ours alone: a group whose controllers are handed on holds no process, so we move
//! to a leaf, and would have to move whoever else is there. Under systemd that is a unit with
//! `Delegate=yes`; with `DelegateSubgroup=supervisor` (254) we start in the leaf already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Bounds, CgroupError, Disk, Driver, Part, make, write};

/// Where the supervisor is.
const LEAF: &str = "supervisor";
/// Where the tenants are: none of them can be called as what is beside it.
const TENANTS: &str = "tenants";
/// Without these the driver does not hold.
const NEEDED: [&str; 3] = ["memory", "pids", "cpu"];
/// With this one `quota.io` holds.
const IO: &str = "io";
/// What the groups below a tenant need to have limits of their own.
const BELOW: [&str; 2] = ["memory", "pids"];
/// What no tenant can be called.
const TRIAL: &str = ".try";
/// What is done about it.
const CURE: &str = "start tenantd by its unit, which has Delegate=yes";
/// The time that processor limits are counted in, microseconds: the kernel's own default.
const PERIOD: u32 = 100_000;
/// The least that it takes of it.
const LEAST_QUOTA: f64 = 1000.0;

/// Where systemd starts what it runs for a unit beside its main process (systemd.service(5), ExecStopPost).
const CONTROL: &str = ".control";

/// Takes the controllers back from everything below the unit's group, deepest first, so that a process can be
/// started in it again: `own` is where systemd runs this role. Until the next supervisor hands them on anew
/// nothing is bounded, and what was charged before is not counted again.
///
/// # Errors
/// A file that cannot be written; the rest is tried all the same.
pub(super) fn release(own: &Path) -> Result<(), CgroupError> {
    match own.parent().filter(|_| own.file_name().is_some_and(|name| name == CONTROL)) {
        Some(base) => take_back(base),
        // Anywhere else it would be somebody else's group.
        None => Ok(()),
    }
}

fn take_back(group: &Path) -> Result<(), CgroupError> {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut done = Ok(());
    for entry in below {
        done = done.and(take_back(&entry.path()));
    }
    let file = group.join("cgroup.subtree_control");
    let handed = fs::read_to_string(&file).unwrap_or_default();
    for name in handed.split_whitespace() {
        done = done.and(write(file.clone(), format!("-{name}")));
    }
    done
}

/// The tree below our own group.
#[derive(Debug)]
pub(super) struct Tree {
    roots: [PathBuf; 1],
    io: bool,
}

impl Tree {
    /// Takes our own group, moves this process to its leaf and tries every limit.
    pub(super) fn open(own: &Path) -> Result<Self, String> {
        let base = match own.file_name() {
            Some(name) if name == LEAF => own.parent().unwrap_or(own),
            _ => own,
        };
        let controllers = given(base)?;
        move_in(base, own)?;
        let handed: Vec<&str> = NEEDED.into_iter().chain([IO]).collect();
        let handed: Vec<&str> =
            handed.into_iter().filter(|name| controllers.iter().any(|own| own == name)).collect();
        let root = base.join(TENANTS);
        let tree = Self { roots: [root.clone()], io: handed.contains(&IO) };
        let opened = hand_on(base, &handed)
            .and_then(|()| make(&root))
            .and_then(|_| hand_on(&root, &handed))
            .and_then(|()| tree.try_out());
        opened.map_err(|error| format!("{error} ({CURE})"))?;
        Ok(tree)
    }

    /// Sets every limit of a group that nobody is in.
    fn try_out(&self) -> Result<(), CgroupError> {
        let group = Path::new(TRIAL);
        make(&self.roots[0].join(group))?;
        let bounds =
            Bounds { memory: Some(64 << 20), cpus: Some(1.0), processes: Some(64), io: None };
        let tried = self
            .prepare(group, Part::Tenant)
            .and_then(|()| self.bound(group, &bounds, Part::Tenant));
        // It is empty; what stays is tried again by the next supervisor.
        let _ = fs::remove_dir(self.roots[0].join(group));
        tried
    }

    fn file(&self, group: &Path, name: &str) -> PathBuf {
        self.roots[0].join(group).join(name)
    }
}

/// The controllers that a group is given.
fn given(base: &Path) -> Result<Vec<String>, String> {
    let shown = base.display();
    let text = fs::read_to_string(base.join("cgroup.controllers"))
        .map_err(|error| format!("the control group {shown} cannot be read: {error}"))?;
    let controllers: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let lacks = |name: &&str| !controllers.iter().any(|own| own == name);
    let missing: Vec<&str> = NEEDED.into_iter().filter(lacks).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!(
            "the control group {shown} is not given the controllers {missing} ({CURE})"
        ));
    }
    // Only the root of all groups has no type; what is in it is everybody's.
    if !base.join("cgroup.type").exists() {
        return Err(format!("tenantd has no control group of its own below {shown} ({CURE})"));
    }
    Ok(controllers)
}

/// Moves this process to the leaf, if nobody else is beside it.
fn move_in(base: &Path, own: &Path) -> Result<(), String> {
    let me = std::process::id().to_string();
    let leaf = base.join(LEAF);
    make(&leaf).map_err(|error| format!("{error} ({CURE})"))?;
    if own != leaf {
        write(leaf.join("cgroup.procs"), &*me).map_err(|error| format!("{error} ({CURE})"))?;
    }
    let others = fs::read_to_string(base.join("cgroup.procs")).unwrap_or_default();
    if others.trim().is_empty() {
        return Ok(());
    }
    if own != leaf {
        // As it was: what is not ours stays untouched.
        let _ = write(base.join("cgroup.procs"), me);
        let _ = fs::remove_dir(&leaf);
    }
    Err(format!("other programs are in the control group {} ({CURE})", base.display()))
}

fn hand_on(group: &Path, controllers: &[&str]) -> Result<(), CgroupError> {
    // One by one: a file that refuses one name refuses all that are written with it.
    controllers
        .iter()
        .try_for_each(|name| write(group.join("cgroup.subtree_control"), format!("+{name}")))
}

impl Driver for Tree {
    fn name(&self) -> &'static str {
        if self.io { "cgroup v2" } else { "cgroup v2 without io" }
    }

    fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    fn prepare(&self, group: &Path, part: Part) -> Result<(), CgroupError> {
        match part {
            Part::Tenant | Part::Servers => hand_on(&self.roots[0].join(group), &BELOW),
            // The kernel ends all of it at once: half a server answers nobody.
            Part::Server => write(self.file(group, "memory.oom.group"), "1"),
            Part::Role => Ok(()),
        }
    }

    fn bound(&self, group: &Path, bounds: &Bounds, part: Part) -> Result<(), CgroupError> {
        let most = |limit: Option<u64>| limit.map_or_else(|| "max".to_owned(), |n| n.to_string());
        let pids = write(self.file(group, "pids.max"), most(bounds.processes));
        let cpu = if part == Part::Tenant {
            write(self.file(group, "cpu.max"), cpu_max(bounds.cpus))
                .and(write(self.file(group, "cpu.weight"), cpu_weight(bounds.cpus)))
        } else {
            Ok(())
        };
        let swap = self.file(group, "memory.swap.max");
        // There is none on a kernel without swap. What is swapped out would not count as memory.
        let swap = match write(swap, if bounds.memory.is_some() { "0" } else { "max" }) {
            Err(CgroupError::Write { source, .. }) if is_absent(&source) => Ok(()),
            swap => swap,
        };
        // The last: it may take a while.
        let memory = write(self.file(group, "memory.max"), most(bounds.memory));
        pids.and(cpu).and(swap).and(memory)
    }

    fn bound_io(&self, group: &Path, disk: Disk, rate: Option<u64>) -> Result<(), CgroupError> {
        if !self.io {
            let why = "the control group of tenantd is not given the controller io";
            return Err(CgroupError::Io(why.to_owned()));
        }
        let rate = rate.map_or_else(|| "max".to_owned(), |rate| rate.to_string());
        write(self.file(group, "io.max"), format!("{disk} rbps={rate} wbps={rate}"))
    }

    fn kill(&self, group: &Path) -> io::Result<()> {
        fs::write(self.file(group, "cgroup.kill"), "1")
    }

    fn counters(&self, group: &Path) -> (PathBuf, PathBuf) {
        (self.file(group, "memory.events"), self.file(group, "pids.events"))
    }
}

/// The kernel makes no file that is not there; it refuses instead.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, positive")]
fn cpu_max(cpus: Option<f64>) -> String {
    match cpus {
        None => format!("max {PERIOD}"),
        Some(cpus) => {
            let quota = (cpus * f64::from(PERIOD)).max(LEAST_QUOTA).round() as u64;
            format!("{quota} {PERIOD}")
        }
    }
}

/// Its share where processors are short: as its limit is to one core (1 to 10000, 100 by default).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn cpu_weight(cpus: Option<f64>) -> String {
    let weight = cpus.map_or(100.0, |cpus| (cpus * 100.0).round().clamp(1.0, 10_000.0));
    (weight as u32).to_string()
}
