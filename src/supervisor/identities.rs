//! Who the tenants' processes run as, in system mode: the table of uids, kept with each reading of the
//! configuration, and what of it a mux and a server are given.
//!
//! [`given`] reads and writes a file and may wait for a name service: it runs off the loop.

use super::house::House;
use crate::auth::uids::{self, Care, Identities, Place, Uids};
use crate::auth::{Directory, Ids, Survey};
use crate::config::{Loaded, Problem};
use crate::names::TenantId;
use crate::paths::{Layout, Mode};
use crate::wire::Identity;

/// The uids of all tenants that have a file; `range` holds where `tenantd.toml` is broken. What is wrong
/// with the table is a problem of the configuration like any other.
pub fn given(layout: &Layout, loaded: &mut Loaded, range: (u32, u32), care: Care) -> Uids {
    if layout.mode == Mode::User {
        return Uids::default();
    }
    let range = loaded.settings.as_ref().map_or(range, |settings| settings.uid_range);
    let (table, tenants) = (layout.uids(), layout.tenant_states());
    let place = Place { table: &table, tenants: &tenants };
    let uids = uids::settle(place, range, loaded.tenants.keys(), &Survey::here(), care);
    loaded.problems.extend(problem(&uids));
    uids
}

/// What is wrong with the uids, as a problem of the main file.
fn problem(uids: &Uids) -> Option<Problem> {
    let (error, cure) = uids.trouble()?;
    let (file, what, cure) = ("tenantd.toml".to_owned(), error.to_string(), cure.to_owned());
    Some(Problem { file, line: 0, column: 0, what, cure, tenant: None })
}

impl House {
    /// What a tenant's servers run as; none in user mode.
    pub(super) fn standing(&self, tenant: &TenantId) -> Result<Option<Standing>, String> {
        let (directory, range) = (self.directory.clone(), self.settings().uid_range);
        let standing = |uids| Standing { uids, range, directory };
        Ok(self.identities(tenant)?.map(standing))
    }

    /// The uids of a tenant; none in user mode.
    pub(super) fn identities(&self, tenant: &TenantId) -> Result<Option<Identities>, String> {
        match self.options.layout.mode {
            Mode::User => Ok(None),
            Mode::System => self.uids.of(tenant).map(Some),
        }
    }
}

/// What a server is to run as, before its groups are known.
#[derive(Debug)]
pub(super) struct Standing {
    uids: Identities,
    /// First and last uid of all tenants.
    pub(super) range: (u32, u32),
    directory: Directory,
}

impl Standing {
    /// Who keeps it.
    pub(super) fn keeper(&self) -> Identity {
        alone(self.uids.mux)
    }

    /// The identity, with these groups by name. May wait for a name service.
    pub(super) fn identity(&self, groups: &[String]) -> Result<Identity, GroupError> {
        if groups.is_empty() {
            return Ok(alone(self.uids.server));
        }
        shared(self.uids.server, groups, self.range, &self.directory.ids())
    }
}

/// Why a server cannot be in a group.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// There is none.
    #[error("sandbox.groups names {0:?}, which is no group here (create it, or remove it there)")]
    Unknown(String),
    /// It is root's or a tenant's.
    #[error("sandbox.groups names {0:?}, gid {1}, which is root's or a tenant's (remove it there)")]
    Forbidden(String, u32),
}

/// A user of a tenant's own in groups that people share.
///
/// # Errors
/// [`GroupError`].
pub fn shared(
    uid: u32,
    groups: &[String],
    (first, last): (u32, u32),
    ids: &Ids,
) -> Result<Identity, GroupError> {
    let mut gids = Vec::with_capacity(groups.len());
    for name in groups {
        let gid = ids.gid(name).ok_or_else(|| GroupError::Unknown(name.clone()))?;
        if gid == 0 || (first..=last).contains(&gid) {
            return Err(GroupError::Forbidden(name.clone(), gid));
        }
        gids.push(gid);
    }
    gids.sort_unstable();
    gids.dedup();
    Ok(Identity { groups: gids, ..alone(uid) })
}

/// A user of a tenant's own, in no group but its own.
pub(super) fn alone(uid: u32) -> Identity {
    Identity { uid, gid: uid, groups: Vec::new() }
}
