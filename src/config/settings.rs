//! What runs: the main settings, after they were checked.

use std::path::PathBuf;
use std::time::Duration;

use super::tenant::{Destination, Limit};
use crate::paths::Mode;

/// `tenantd.toml` after checking.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Users and (with a leading `@`) groups that may use the admin methods.
    pub admins: Vec<String>,
    /// First and last uid of the tenants' own uids (system mode).
    pub uid_range: (u32, u32),
    /// How long a user-mode supervisor without sessions lives on.
    pub idle_exit: Limit<Duration>,
    /// How long a mux without supervisor lives on.
    pub orphan_timeout: Duration,
    /// How long a drain waits for calls in flight.
    pub drain: Duration,
    /// `[log] level`, in tracing's filter syntax.
    pub log_level: String,
    /// `[log] retention`: rolled log files kept.
    pub log_retention: u32,
    /// The way out for tenants with an allowlist.
    pub egress: Egress,
    /// `[credentials] store`: where secrets are kept.
    pub store: Store,
    /// Dotted names of fields that the file sets and this version does not enforce yet.
    pub not_enforced: Vec<String>,
}

/// `[egress]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// The HTTP proxy of the house.
    pub upstream_proxy: Option<Destination>,
    /// Certificates of authorities to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// `[credentials] store`: where secrets are kept. One, and never another where that one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The Secret Service of the user's session.
    SecretService,
    /// An encrypted file for each tenant.
    EncryptedFile,
    /// The kernel's keyring.
    Keyutils,
}

impl Store {
    /// The store where none is named: the desktop's for a user, a file where there is no desktop.
    pub fn default_of(mode: Mode) -> Self {
        match mode {
            Mode::User => Self::SecretService,
            Mode::System => Self::EncryptedFile,
        }
    }

    /// The word that names it in `tenantd.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecretService => "secret-service",
            Self::EncryptedFile => "encrypted-file",
            Self::Keyutils => "keyutils",
        }
    }
}
