//! Who the tenants' processes run as, in system mode: the table of uids, kept with each reading of the
//! configuration, and what of it a mux and a server are given.
//!
//! [`given`] reads and writes a file and may wait for a name service: it runs off the loop.

use super::house::House;
use crate::auth::Survey;
use crate::auth::uids::{self, Identities, Place, Uids};
use crate::config::{Loaded, Problem};
use crate::names::TenantId;
use crate::paths::{Layout, Mode};
use crate::wire::Identity;

/// The uids of all tenants that have a file; `range` holds where `tenantd.toml` is broken. What is wrong
/// with the table is a problem of the configuration like any other.
pub(super) fn given(layout: &Layout, loaded: &mut Loaded, range: (u32, u32)) -> Uids {
    if layout.mode == Mode::User {
        return Uids::default();
    }
    let range = loaded.settings.as_ref().map_or(range, |settings| settings.uid_range);
    let (table, tenants) = (layout.uids(), layout.tenant_states());
    let place = Place { table: &table, tenants: &tenants };
    let uids = uids::settle(place, range, loaded.tenants.keys(), &Survey::here());
    loaded.problems.extend(problem(&uids));
    uids
}

/// What is wrong with the uids, as a problem of the main file.
pub fn problem(uids: &Uids) -> Option<Problem> {
    let (error, cure) = uids.trouble()?;
    let (file, what, cure) = ("tenantd.toml".to_owned(), error.to_string(), cure.to_owned());
    Some(Problem { file, line: 0, column: 0, what, cure, tenant: None })
}

impl House {
    /// The uids of a tenant; none in user mode.
    pub(super) fn identities(&self, tenant: &TenantId) -> Result<Option<Identities>, String> {
        match self.options.layout.mode {
            Mode::User => Ok(None),
            Mode::System => self.uids.of(tenant).map(Some),
        }
    }
}

/// A user of a tenant's own, in no group but its own.
pub(super) fn alone(uid: u32) -> Identity {
    Identity { uid, gid: uid, groups: Vec::new() }
}
