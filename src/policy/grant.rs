//! What the grants of a tenant give an asker.

use crate::auth::{Ids, Principal};
use crate::config::tenant::{Grant, Tenant};
use crate::names::ServerName;

/// The permission that satisfies every requirement; a user-mode supervisor's owner has it.
pub const ADMIN: &str = "admin";

/// Somebody who asks, with what is needed to recognise them.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Who it is.
    pub principal: &'a Principal,
    /// What the names in grants mean now.
    pub ids: &'a Ids,
    /// Whether it is the owner of a user-mode supervisor, who needs no grant.
    pub owner: bool,
}

/// What somebody may do with a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Permissions, sorted.
    pub permissions: Vec<String>,
    /// Servers; `None` is all.
    pub servers: Option<Vec<ServerName>>,
}

impl Access {
    /// Whether it includes this server.
    pub fn reaches(&self, server: &ServerName) -> bool {
        self.servers.as_ref().is_none_or(|servers| servers.contains(server))
    }

    fn add(&mut self, grant: &Grant) {
        self.permissions.extend(grant.permissions.iter().cloned());
        match (&mut self.servers, &grant.servers) {
            (Some(mine), Some(more)) => mine.extend(more.iter().cloned()),
            (servers, None) => *servers = None,
            (None, Some(_)) => {}
        }
    }
}

impl Asker<'_> {
    /// What the asker may do with the tenant; `None` without a grant.
    pub fn access(&self, tenant: &Tenant) -> Option<Access> {
        if self.owner {
            return Some(Access { permissions: vec![ADMIN.to_owned()], servers: None });
        }
        let mut matching = tenant.grants.iter().filter(|grant| self.matches(grant)).peekable();
        matching.peek()?;
        let mut access = Access { permissions: Vec::new(), servers: Some(Vec::new()) };
        matching.for_each(|grant| access.add(grant));
        access.permissions.sort();
        access.permissions.dedup();
        Some(access)
    }

    /// Whether the asker may use the admin methods: root, the owner, or one of `admins`, where a
    /// leading `@` marks a group.
    pub fn is_admin(&self, admins: &[String]) -> bool {
        self.owner
            || self.principal.uid == 0
            || admins.iter().any(|name| match name.strip_prefix('@') {
                Some(group) => self.is_in(group),
                None => self.is(name),
            })
    }

    fn matches(&self, grant: &Grant) -> bool {
        grant.users.iter().any(|user| self.is(user))
            || grant.groups.iter().any(|group| self.is_in(group))
    }

    fn is(&self, user: &str) -> bool {
        self.ids.uid(user) == Some(self.principal.uid)
    }

    fn is_in(&self, group: &str) -> bool {
        self.ids
            .gid(group)
            .is_some_and(|gid| gid == self.principal.gid || self.principal.groups.contains(&gid))
    }
}
