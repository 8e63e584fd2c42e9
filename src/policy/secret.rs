//! Who may set, see and remove which secret of a tenant. Pure, as the rest of this room.
//!
//! A secret of `scope = "tenant"` is its admins'. One of `scope = "user"` is each user's own: nobody, root
//! included, sets another's. Who has no grant hears what they would hear of a tenant that is not there.

use std::fmt::Write as _;

use super::grant::ADMIN;
use super::{Asker, Reason};
use crate::config::tenant::{Credential, Scope, Tenant};
use crate::names::TenantId;
use crate::wire::Refusal;
use crate::wire::credential::Account;

use super::reason::{CONFIGURATION, NO_PERMISSION, refusal};

/// How many names a message lists.
const NAMES_MAX: usize = 8;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such tenant for this asker.
    #[error("{0}")]
    Unknown(Reason),
    /// The tenant's file names no such credential that the asker could have to do with.
    #[error("{}", unnamed(.tenant, .choices))]
    Unnamed {
        /// The tenant.
        tenant: TenantId,
        /// Those that it names.
        choices: Vec<String>,
    },
    /// It is everybody's, and the asker is no admin.
    #[error(
        "{name} of {tenant} is shared by all its users: an admin sets and removes it (a [[grant]] with permissions \
         = [\"admin\"], or admins in tenantd.toml)"
    )]
    Shared {
        /// The tenant.
        tenant: TenantId,
        /// The credential.
        name: String,
    },
    /// It is each user's own, and the asker is none.
    #[error(
        "each user of {tenant} has a {name} of their own, and you have no grant for a server that gets it (run \
         this as that user)"
    )]
    NoUser {
        /// The tenant.
        tenant: TenantId,
        /// The credential.
        name: String,
    },
    /// It is another user's, and the asker is no admin.
    #[error("only an admin of {tenant} removes the {name} of another user")]
    Another {
        /// The tenant.
        tenant: TenantId,
        /// The credential.
        name: String,
    },
    /// It is in a store that only its owner can open.
    #[error(
        "the {name} of {user} is in their own store, which only they can open (run this as {user})"
    )]
    Theirs {
        /// The credential.
        name: String,
        /// Whose it is.
        user: String,
    },
}

impl Denied {
    /// For machines.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unknown(reason) => reason.word(),
            Self::Unnamed { .. } => "unknown-credential",
            Self::Shared { .. } | Self::Another { .. } => "admin-only",
            Self::NoUser { .. } | Self::Theirs { .. } => "no-grant",
        }
    }

    /// The answer at the session door.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Self::Unknown(reason) => return reason.refusal(),
            Self::Unnamed { .. } => CONFIGURATION,
            Self::Shared { .. }
            | Self::NoUser { .. }
            | Self::Another { .. }
            | Self::Theirs { .. } => NO_PERMISSION,
        };
        refusal(&self.to_string(), code, self.word(), false)
    }
}

fn unnamed(tenant: &TenantId, choices: &[String]) -> String {
    let mut said = format!("tenants.d/{tenant}.toml names no such credential");
    if choices.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(said, " (add a [[credential]] with that name, and how its server gets it)");
        return said;
    }
    let shown: Vec<&str> = choices.iter().take(NAMES_MAX).map(String::as_str).collect();
    let more = choices.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let _ = write!(said, " (choices: {}{more}; or add a [[credential]])", shown.join(", "));
    said
}

/// What an asker may do with the secrets of one tenant.
#[derive(Debug)]
pub struct Keys<'a> {
    tenant: &'a Tenant,
    asker: &'a Asker<'a>,
    /// Whether those of the tenant are theirs to manage.
    pub admin: bool,
}

impl<'a> Keys<'a> {
    /// `admin` is whether the asker is an admin of this supervisor; those of the tenant are found here.
    ///
    /// # Errors
    /// [`Denied::Unknown`], alike where there is no such tenant and where it is not the asker's.
    pub fn of(
        id: &TenantId,
        tenant: Option<&'a Tenant>,
        asker: &'a Asker<'a>,
        admin: bool,
    ) -> Result<Self, Denied> {
        let unknown = || Denied::Unknown(Reason::UnknownTenant(id.clone()));
        let tenant = tenant.ok_or_else(unknown)?;
        let granted = asker.access(tenant);
        if !admin && granted.is_none() {
            return Err(unknown());
        }
        let manages = granted.is_some_and(|access| access.permissions.iter().any(|p| p == ADMIN));
        Ok(Self { tenant, asker, admin: admin || manages })
    }

    /// The account in the store that this name means for the asker.
    ///
    /// # Errors
    /// [`Denied`]
    pub fn account(&self, name: &str) -> Result<Account, Denied> {
        let mut named = self.tenant.credentials.iter().filter(|one| one.name == name).peekable();
        let (tenant, name) = (self.tenant.id.clone(), name.to_owned());
        match named.peek().map(|one| one.scope) {
            None => Err(Denied::Unnamed { tenant, choices: self.names() }),
            Some(Scope::Tenant) if self.admin => Ok(Account { name, user: None }),
            Some(Scope::Tenant) => Err(Denied::Shared { tenant, name }),
            Some(Scope::User) if named.any(|one| self.uses(one)) => {
                Ok(Account { name, user: Some(self.asker.principal.user.clone()) })
            }
            Some(Scope::User) => Err(Denied::NoUser { tenant, name }),
        }
    }

    /// Those of the file that the asker sees: an admin all, a user those of which they have their own.
    pub fn visible(&self) -> impl Iterator<Item = &'a Credential> {
        self.tenant.credentials.iter().filter(|one| self.admin || self.is_own(one))
    }

    /// Whether the asker has, or could have, one of their own.
    pub fn is_own(&self, credential: &Credential) -> bool {
        credential.scope == Scope::User && self.uses(credential)
    }

    fn uses(&self, credential: &Credential) -> bool {
        let access = self.asker.access(self.tenant);
        access.is_some_and(|access| credential.servers.iter().any(|server| access.reaches(server)))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.visible().map(|one| one.name.clone()).collect();
        names.dedup();
        names
    }
}
