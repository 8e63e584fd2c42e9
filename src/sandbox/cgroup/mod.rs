//! A tenant's processes as a whole: what they may use together, held by the kernel's control groups.
//!
//! ```text
//! ours ── supervisor        the supervisor alone (v2: a group with controllers below it holds no process)
//!      └─ tenants/acme      quota.memory, cpus, processes, io
//!         ├─ mux            the mux and the keepers
//!         ├─ egress         its way to the network
//!         └─ servers        memory and processes, less a reserve
//!            └─ 3-1         one server: killed whole for want of memory
//! ```
//!
//! So a server's bomb ends the server: the reserve is the mux's, and its sessions live on. The drivers are
//! [`v2`], the product, [`v1`] for older and hybrid hosts, and none; which one it is is found by trying.
//!
//! Owned by the supervisor. Every path here is made of our own directory, a checked tenant id and numbers.

mod bounds;
mod disk;
mod layout;
mod oom;
mod place;
mod v1;
mod v2;
mod watch;

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use bounds::Bounds;
pub use disk::Disk;
pub use layout::Place;
pub use oom::{Rank, stand_back};
pub use watch::Watch;

use layout::{EGRESS, MUX, SERVERS, again, bound, make_group, remove};

use crate::names::TenantId;
use crate::wire::stage::Seat;

/// What the kernel refuses.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A directory.
    #[error("the control group {path} cannot be made: {source}")]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of one.
    #[error("{path} takes no {value:?}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// `quota.io` without a disk to bound.
    #[error("quota.io cannot be enforced: {0} (set quota.io = \"unlimited\")")]
    Io(String),
}

/// Writes one value, as cgroup files want it: whole, in one call.
fn write(path: PathBuf, value: impl Into<String>) -> Result<(), CgroupError> {
    let value = value.into();
    fs::write(&path, &value).map_err(|source| CgroupError::Write { path, value, source })
}

/// Makes a group. One that is there stays as it is. Says whether it is new.
fn make(path: &Path) -> Result<bool, CgroupError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(CgroupError::Make { path: path.to_owned(), source }),
    }
}

/// What a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of one tenant.
    Tenant,
    /// The processes of a role.
    Role,
    /// All servers of one tenant.
    Servers,
    /// One server.
    Server,
}

/// What differs between the two kinds of control groups. Groups are named relative to each of the roots.
trait Driver: Debug + Send + Sync {
    fn name(&self) -> &'static str;
    /// Where the tenants' groups are, in each hierarchy.
    fn roots(&self) -> &[PathBuf];
    /// Makes a new group what it is to be.
    fn prepare(&self, group: &Path, part: Part) -> Result<(), CgroupError>;
    /// Sets memory and processes, for a tenant processors as well.
    fn bound(&self, group: &Path, bounds: &Bounds, part: Part) -> Result<(), CgroupError>;
    /// Sets input and output of a disk.
    fn bound_io(&self, group: &Path, disk: Disk, rate: Option<u64>) -> Result<(), CgroupError>;
    /// SIGKILL to everything in the group and below it.
    fn kill(&self, group: &Path) -> io::Result<()>;
    /// The files that count kills for want of memory and refused forks.
    fn counters(&self, group: &Path) -> (PathBuf, PathBuf);
}

/// The control groups of every tenant.
#[derive(Debug)]
pub struct Cgroups {
    driver: Result<Box<dyn Driver>, String>,
}

impl Cgroups {
    /// Tries the drivers; `state` is the supervisor's state directory, which tells it from others that
    /// share its cgroup. With v2 this process moves to the leaf of its own.
    pub fn find(state: &Path) -> Self {
        Self { driver: find(state) }
    }

    /// No control groups, and why.
    pub fn none(why: &str) -> Self {
        Self { driver: Err(why.to_owned()) }
    }

    /// The driver that holds, or why there is none and what to do about it.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn strength(&self) -> Result<&'static str, String> {
        match &self.driver {
            Ok(driver) => Ok(driver.name()),
            Err(why) => Err(why.clone()),
        }
    }

    /// Whether a driver holds.
    pub fn hold(&self) -> bool {
        self.driver.is_ok()
    }

    /// Makes the groups of a tenant, those that are not there. A new one is bounded before anything is in
    /// it. Says whether it is new.
    ///
    /// # Errors
    /// What the kernel refuses: then nothing of the tenant may run.
    pub fn open(&self, tenant: &TenantId, bounds: &Bounds) -> Result<bool, CgroupError> {
        let Ok(driver) = &self.driver else { return Ok(false) };
        let own = PathBuf::from(tenant.as_str());
        let fresh = make_group(driver.as_ref(), &own, Part::Tenant)?;
        make_group(driver.as_ref(), &own.join(MUX), Part::Role)?;
        make_group(driver.as_ref(), &own.join(EGRESS), Part::Role)?;
        let fresh_servers = make_group(driver.as_ref(), &own.join(SERVERS), Part::Servers)?;
        if fresh || fresh_servers {
            bound(driver.as_ref(), tenant, bounds)?;
        }
        Ok(fresh)
    }

    /// Sets what a tenant may use. May wait until the kernel has reclaimed what is above a lower limit:
    /// not for the loop. `data` is on the disk that `io` bounds.
    ///
    /// # Errors
    /// What the kernel refuses: the rest is set all the same.
    pub fn bound(
        &self,
        tenant: &TenantId,
        bounds: &Bounds,
        data: &Path,
    ) -> Result<(), CgroupError> {
        let Ok(driver) = &self.driver else { return Ok(()) };
        let held = again(driver.as_ref(), tenant).and(bound(driver.as_ref(), tenant, bounds));
        let own = PathBuf::from(tenant.as_str());
        match (Disk::of(data), bounds.io) {
            (Ok(disk), rate) => {
                let io = driver.bound_io(&own, disk, rate);
                // A driver without that controller has nothing to take back.
                if rate.is_some() { held.and(io) } else { held }
            }
            (Err(why), Some(_)) => held.and(Err(CgroupError::Io(why))),
            (Err(_), None) => held,
        }
    }

    /// Where the tenant's mux and keepers are to be: a pid is written into each.
    pub fn mux(&self, tenant: &TenantId) -> Vec<PathBuf> {
        self.procs(&Path::new(tenant.as_str()).join(MUX))
    }

    /// Where the tenant's egress is to be.
    pub fn egress(&self, tenant: &TenantId) -> Vec<PathBuf> {
        self.procs(&Path::new(tenant.as_str()).join(EGRESS))
    }

    /// Makes the group of one server of a tenant, whose groups are open; none without a driver.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn server(
        &self,
        tenant: &TenantId,
        place: Place,
        bounds: &Bounds,
    ) -> Result<Option<Seat>, CgroupError> {
        let Ok(driver) = &self.driver else { return Ok(None) };
        let group = place.below(tenant);
        make_group(driver.as_ref(), &group, Part::Server)?;
        // The same as for all of them together: so the group whose fork is refused is the one that counts.
        driver.bound(&group, &bounds.of_servers(), Part::Server)?;
        let text = |path: PathBuf| path.to_str().map(str::to_owned);
        let (memory, pids) = driver.counters(&group);
        Ok(Some(Seat {
            procs: self.procs(&group).into_iter().filter_map(text).collect(),
            memory_events: text(memory),
            pids_events: text(pids),
        }))
    }

    /// Whether a process is where the tenant's mux and keepers are.
    pub fn holds(&self, tenant: &TenantId, pid: i32) -> bool {
        let pid = pid.to_string();
        let listed = |procs: PathBuf| {
            fs::read_to_string(procs).is_ok_and(|text| text.lines().any(|line| line == pid))
        };
        self.mux(tenant).into_iter().all(listed)
    }

    /// Every tenant that has a group.
    pub fn tenants(&self) -> Vec<TenantId> {
        let Ok(driver) = &self.driver else { return Vec::new() };
        let entries =
            driver.roots().iter().flat_map(|root| fs::read_dir(root).into_iter().flatten());
        let mut found: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| TenantId::parse(entry.file_name().to_str()?).ok())
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// The servers of a tenant that have a group.
    pub fn servers(&self, tenant: &TenantId) -> Vec<Place> {
        let Ok(driver) = &self.driver else { return Vec::new() };
        let servers = Path::new(tenant.as_str()).join(SERVERS);
        let roots = driver.roots().iter().map(|root| root.join(&servers));
        let entries = roots.flat_map(|path| fs::read_dir(path).into_iter().flatten()).flatten();
        let mut found: Vec<_> =
            entries.filter_map(|entry| Place::parse(entry.file_name().to_str()?)).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Kills whatever is left of one server and removes its group. Says whether it is gone.
    pub fn remove_server(&self, tenant: &TenantId, place: Place) -> bool {
        let Ok(driver) = &self.driver else { return true };
        let group = place.below(tenant);
        // A group that is gone has nothing to kill.
        let _ = driver.kill(&group);
        remove(driver.as_ref(), &group)
    }

    /// Removes what is empty of a tenant in which neither mux nor keeper is: whatever is left beside them
    /// is killed first. Says whether nothing is left.
    pub fn remove(&self, tenant: &TenantId) -> bool {
        let Ok(driver) = &self.driver else { return true };
        let own = PathBuf::from(tenant.as_str());
        if !remove(driver.as_ref(), &own.join(MUX)) {
            return false;
        }
        let _ = driver.kill(&own);
        remove(driver.as_ref(), &own)
    }

    /// Kills everything of a tenant and removes its groups. Says whether nothing is left.
    pub fn clear(&self, tenant: &TenantId) -> bool {
        let Ok(driver) = &self.driver else { return true };
        let own = PathBuf::from(tenant.as_str());
        let _ = driver.kill(&own);
        remove(driver.as_ref(), &own)
    }

    /// Removes the roots, if no tenant has a group.
    pub fn leave(&self) {
        if let Ok(driver) = &self.driver {
            // What is not empty is still needed.
            driver.roots().iter().for_each(|root| drop(fs::remove_dir(root)));
        }
    }

    fn procs(&self, group: &Path) -> Vec<PathBuf> {
        let Ok(driver) = &self.driver else { return Vec::new() };
        driver.roots().iter().map(|root| root.join(group).join("cgroup.procs")).collect()
    }
}

/// The role that systemd runs after a supervisor that died, where it cannot start one in a leaf (before 254).
pub fn release() -> ExitCode {
    let own = place::Places::read().ok().and_then(|places| places.unified());
    match own.map(|own| v2::release(&own)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn find(state: &Path) -> Result<Box<dyn Driver>, String> {
    let places = place::Places::read().map_err(|error| format!("/proc cannot be read: {error}"))?;
    let unified = match places.unified() {
        Some(own) => v2::Tree::open(&own),
        None => Err("there is no cgroup v2 here".to_owned()),
    };
    let why = match unified {
        Ok(tree) => return Ok(Box::new(tree)),
        Err(why) => why,
    };
    match v1::Trees::open(&places, state) {
        Ok(trees) => Ok(Box::new(trees)),
        Err(None) => Err(why),
        Err(Some(older)) => Err(format!("{why}; {older}")),
    }
}

#[cfg(test)]
mod tests;
