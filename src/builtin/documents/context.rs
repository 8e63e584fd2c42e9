//! Who is calling: what tenantd says about a request, in its `_meta`.
//!
//! tenantd removes whatever a client wrote under this key before it writes its own, so behind tenantd
//! it can be believed. Without tenantd in front there is no context and nobody is an admin.

use rmcp::model::RequestMetaObject;

/// The `_meta` key that only tenantd writes.
const CONTEXT_KEY: &str = "io.tenantd/context";
/// The permission that satisfies every requirement.
const ADMIN: &str = "admin";

/// The deed that was refused and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} needs the permission \"admin\", which the caller does not have (ask for permissions = [\"admin\"] in a \
     [[grant]] of the tenant)"
)]
pub(super) struct NotAdmin(&'static str);

/// Proof that tenantd called the caller an admin; made by [`Admin::of`] alone.
#[derive(Debug)]
pub(super) struct Admin(());

impl Admin {
    /// Whether the caller of a request is an admin of the tenant.
    pub(super) fn of(meta: &RequestMetaObject, deed: &'static str) -> Result<Self, NotAdmin> {
        let admin = meta
            .get(CONTEXT_KEY)
            .and_then(|context| context.get("permissions")?.as_array())
            .is_some_and(|permissions| permissions.iter().any(|held| held == ADMIN));
        if admin { Ok(Self(())) } else { Err(NotAdmin(deed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(json: &str) -> RequestMetaObject {
        serde_json::from_str(json).expect("an object")
    }

    #[test]
    fn only_the_word_of_tenantd_makes_an_admin() {
        let admin = meta(r#"{"io.tenantd/context": {"permissions": ["audit", "admin"]}}"#);
        assert!(Admin::of(&admin, "purge").is_ok());
        for other in [
            "{}",
            r#"{"permissions": ["admin"]}"#,
            r#"{"io.tenantd/context": {"permissions": []}}"#,
            r#"{"io.tenantd/context": {"permissions": "admin"}}"#,
            r#"{"io.tenantd/context": {"permissions": ["administrator"]}}"#,
            r#"{"io.tenantd/context": ["admin"]}"#,
        ] {
            assert!(Admin::of(&meta(other), "purge").is_err(), "{other}");
        }
    }
}
