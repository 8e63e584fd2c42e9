//! The groups of a tenant: their names, what is below what, and how they come and go in every hierarchy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Bounds, CgroupError, Driver, Part, make};
use crate::names::TenantId;

/// The groups below a tenant's.
pub(super) const MUX: &str = "mux";
pub(super) const EGRESS: &str = "egress";
pub(super) const SERVERS: &str = "servers";

/// One server of a tenant: the number of its mux, and that of the child there. Two muxes of one tenant
/// (one drains) never have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64, pub u64);

impl Place {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (mux, child) = name.split_once('-')?;
        Some(Self(mux.parse().ok()?, child.parse().ok()?))
    }

    pub(super) fn below(self, tenant: &TenantId) -> PathBuf {
        let Self(mux, child) = self;
        Path::new(tenant.as_str()).join(SERVERS).join(format!("{mux}-{child}"))
    }
}

pub(super) fn make_group(
    driver: &dyn Driver,
    group: &Path,
    part: Part,
) -> Result<bool, CgroupError> {
    let mut fresh = false;
    for root in driver.roots() {
        fresh |= make(&root.join(group))?;
    }
    if fresh {
        driver.prepare(group, part)?;
    }
    Ok(fresh)
}

/// Makes every group of a tenant once more what it is to be: an earlier supervisor's may have lost it.
pub(super) fn again(driver: &dyn Driver, tenant: &TenantId) -> Result<(), CgroupError> {
    let own = PathBuf::from(tenant.as_str());
    let servers = own.join(SERVERS);
    let done = driver.prepare(&own, Part::Tenant).and(driver.prepare(&servers, Part::Servers));
    let each = groups_below(driver, &servers);
    each.iter().fold(done, |done, server| done.and(driver.prepare(server, Part::Server)))
}

/// The groups in a group, by name.
fn groups_below(driver: &dyn Driver, group: &Path) -> Vec<PathBuf> {
    let first = driver.roots().first().map(|root| root.join(group));
    let entries = first.and_then(|path| fs::read_dir(path).ok()).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| group.join(entry.file_name())).collect()
}

pub(super) fn bound(
    driver: &dyn Driver,
    tenant: &TenantId,
    bounds: &Bounds,
) -> Result<(), CgroupError> {
    let own = PathBuf::from(tenant.as_str());
    let servers = own.join(SERVERS);
    let part = bounds.of_servers();
    let mut held = driver.bound(&own, bounds, Part::Tenant);
    held = held.and(driver.bound(&servers, &part, Part::Servers));
    for server in groups_below(driver, &servers) {
        held = held.and(driver.bound(&server, &part, Part::Server));
    }
    held
}

/// Removes a group with all below it, in each hierarchy. Says whether it is gone.
pub(super) fn remove(driver: &dyn Driver, group: &Path) -> bool {
    // Each is tried, whatever became of the others.
    let left = driver.roots().iter().filter(|root| !remove_below(&root.join(group))).count();
    left == 0
}

fn remove_below(directory: &Path) -> bool {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    match fs::remove_dir(directory) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
