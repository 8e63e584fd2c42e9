//! What the system's tenants would run as. Only root can tell: the table of uids is the supervisor's.

use super::machine::Fact;
use crate::auth::uids::{Care, Uids};
use crate::config::{self, Loaded};
use crate::paths::{Layout, Mode};
use crate::supervisor::identities;
use crate::wire::Identity;

const NAME: &str = "uids";

/// The configuration, and who its tenants are to the kernel.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) loaded: Loaded,
    range: Option<(u32, u32)>,
    uids: Uids,
}

impl Standing {
    /// Nothing in user mode, and nothing that anybody but root could find out.
    pub(super) fn of(layout: &Layout) -> Option<Self> {
        if layout.mode == Mode::User || !nix::unistd::geteuid().is_root() {
            return None;
        }
        let mut loaded = config::load(layout);
        let range = loaded.settings.as_ref().map(|settings| settings.uid_range);
        let given = |range| identities::given(layout, &mut loaded, range, Care::Look);
        let uids = range.map(given).unwrap_or_default();
        Some(Self { loaded, range, uids })
    }

    /// A uid like the tenants', which no tenant has.
    pub(super) fn number(&self) -> Option<u32> {
        self.uids.probe()
    }

    /// Who a server would become.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.number().map(|uid| Identity { uid, gid: uid, groups: Vec::new() })
    }

    /// Whether tenants have uids: without them none of them starts.
    pub(super) fn fact(&self) -> Fact {
        let Some((first, last)) = self.range else {
            let cure = "tenantd check --system";
            return Fact::poor(NAME, "none: tenantd.toml cannot be read as it stands", cure);
        };
        match self.uids.trouble() {
            Some((error, cure)) => Fact::poor(NAME, error.to_string(), cure),
            None => Fact::good(NAME, format!("{first} to {last} are nobody's but the tenants'")),
        }
    }
}
