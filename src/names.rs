//! The names that appear in files, sockets and messages, parsed once and carried as proof.
//!
//! Nothing below this room; everything above may hold these. A name never contains a separator, a
//! dot or an upper-case letter, so it is safe as a file name, a cgroup name and a log field.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest tenant id, in bytes.
pub const TENANT_ID_MAX: usize = 40;
/// The longest server name, in bytes.
pub const SERVER_NAME_MAX: usize = 32;
/// The server that `[server]` is short for.
pub const MAIN_SERVER: &str = "main";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a {what}: write 1 to {max} characters of a-z, 0-9 and \"-\", starting with a letter"
)]
pub struct BadName {
    what: &'static str,
    text: String,
    max: usize,
}

fn parse(what: &'static str, text: &str, max: usize) -> Result<Box<str>, BadName> {
    let good = matches!(text.as_bytes().first(), Some(b'a'..=b'z'))
        && text.len() <= max
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if good {
        Ok(text.into())
    } else {
        // The text comes from a stranger: keep what is quoted back short and printable.
        let text = text.chars().take(64).flat_map(char::escape_debug).collect();
        Err(BadName { what, text, max })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Box<str>);

        impl $type {
            /// Parses the name.
            ///
            /// # Errors
            /// [`BadName`] if the text has another shape.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                parse($what, text, $max).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::parse(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.into()
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A tenant: the stem of its file in `tenants.d`, `[a-z][a-z0-9-]{0,39}`.
    TenantId, "tenant id", TENANT_ID_MAX
);
name!(
    /// One server of a tenant: `[servers.NAME]`, or `main` for `[server]`.
    ServerName, "server name", SERVER_NAME_MAX
);

impl ServerName {
    /// The server that `[server]` is short for.
    pub fn main() -> Self {
        Self(MAIN_SERVER.into())
    }
}

/// What a client asks for: `acme`, `acme/git`, or nothing at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The tenant, if one was named.
    pub tenant: Option<TenantId>,
    /// The server, if one was named; never without a tenant.
    pub server: Option<ServerName>,
}

impl Target {
    /// Parses `TENANT[/SERVER]`.
    ///
    /// # Errors
    /// [`BadName`] if either part is not a name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let (tenant, server) = match text.split_once('/') {
            Some((tenant, server)) => (tenant, Some(ServerName::parse(server)?)),
            None => (text, None),
        };
        Ok(Self { tenant: Some(TenantId::parse(tenant)?), server })
    }
}

impl std::str::FromStr for Target {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

/// One client session, unique for the life of a supervisor and across its successors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_a_safe_file_name() {
        for good in ["a", "acme", "a-1", &"a".repeat(40)] {
            assert_eq!(TenantId::parse(good).map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "Acme", "1a", "-a", "a.b", "a/b", "..", "a b", "ä", &"a".repeat(41)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_target_names_a_tenant_and_perhaps_a_server() {
        let target = Target::parse("acme/git").expect("a target");
        assert_eq!(target.tenant.as_ref().map(TenantId::as_str), Some("acme"));
        assert_eq!(target.server.as_ref().map(ServerName::as_str), Some("git"));
        assert!(Target::parse("acme/").is_err());
        assert!(Target::parse("/git").is_err());
        assert!(Target::parse("a/b/c").is_err());
    }

    #[test]
    fn a_bad_name_is_quoted_short_and_printable() {
        let error = TenantId::parse(&"\u{1b}[31m".repeat(100)).expect_err("not a name").to_string();
        assert!(!error.contains('\u{1b}') && error.len() < 700, "{error}");
    }
}
