//! What the credential role is told, what it says, and how a secret travels.
//!
//! A secret is never in a JSON document: it is a sealed memfd beside one ([`crate::post::seal_secret`]). Two
//! conversations. The **control socket** is the supervisor's: [`FromCredential`] lines. That it is gone stops
//! nothing: a deed ends within its time in any case, and a renewed token must get into the store. The **hand-over socket** leads to who needs the secrets, init of a sandbox or egress: one
//! [`Handed`] for each. The supervisor holds it open to have later values handed over, and reads nothing of
//! what is queued there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::names::TenantId;

/// The longest secret, bytes: a JSON key file of a cloud's, with room.
pub const SECRET_MAX: u64 = 64 * 1024;

/// What the credential role is started for. It opens one store, does one deed, says how it went, and ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialPlan {
    /// [`super::VERSION`] of the writer.
    pub wire: u32,
    /// Whose secrets: the role knows no other tenant's names.
    pub tenant: TenantId,
    /// Where they are kept.
    pub store: StorePlan,
    /// Who it becomes before it opens the store (the store is another user's, in system mode).
    pub identity: Option<Identity>,
    /// What to do.
    pub deed: Deed,
    /// The file that is locked while a login of this tenant's is renewed: one renews, others wait for it. It is
    /// opened before the role becomes another user.
    pub lock: PathBuf,
    /// How long it may take, milliseconds; a person may have to unlock the store meanwhile.
    pub within_ms: u64,
}

/// A store of secrets, chosen by the configuration and never by falling through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "store", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StorePlan {
    /// The Secret Service of a user's session (GNOME Keyring, KWallet, KeePassXC), at this bus.
    SecretService {
        /// The bus: DBUS_SESSION_BUS_ADDRESS of that user.
        bus: String,
    },
    /// A file for each tenant below this directory, encrypted with a key that is derived for it from the one in
    /// `key`.
    EncryptedFile {
        /// The directory, absolute, 0700.
        directory: PathBuf,
        /// The file that holds the key: below $CREDENTIALS_DIRECTORY, or what `credential init` made.
        key: PathBuf,
    },
    /// The kernel's keyring of this user (keyrings(7)): forgotten at reboot.
    Keyutils,
}

/// One secret, by the name that it has in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name in the tenant's file.
    pub name: String,
    /// Whose it is, where each user has one of their own: the user's name.
    pub user: Option<String>,
}

/// How a secret came to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Typed, or read from a pipe.
    Set,
    /// Taken from the configuration of a client.
    Import,
    /// The tokens of a login.
    Login,
    /// It was found in the store: how it came there is not known (any more).
    Found,
}

impl Source {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Import => "import",
            Self::Login => "login",
            Self::Found => "found",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// Read these and hand each over. Descriptors: the hand-over socket; where some are logins also the file
    /// that refreshers of the tenant's logins lock.
    HandOver {
        /// Which, and those of them that are tokens of a login: how they are renewed.
        accounts: Vec<Wanted>,
    },
    /// Keep this. Descriptor: the sealed memfd with the value.
    Keep {
        /// Under which name.
        account: Account,
    },
    /// Forget these; one that is not there is no error.
    Forget {
        /// Which.
        accounts: Vec<Account>,
    },
    /// End these logins at their server (RFC 7009) where it can be told, and forget them in any case:
    /// [`Trouble::Unreachable`] is said of one that was forgotten and whose server does not know.
    Logout {
        /// Which.
        accounts: Vec<Wanted>,
    },
}

/// A secret to hand over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Which.
    pub account: Account,
    /// Where it is the access token of a login (`[oauth.NAME]`): how it is renewed.
    pub login: Option<LoginPlan>,
    /// Renew it although it has not expired: its server refused it.
    pub renew: bool,
}

/// `[oauth.NAME]`, as the role that renews needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginPlan {
    /// The authorization server, from which the rest is discovered (RFC 8414, OpenID Connect Discovery).
    pub issuer: Option<String>,
    /// The endpoints where there is no discovery, by their names in RFC 8414 (`token_endpoint`, ...).
    pub endpoints: BTreeMap<String, String>,
    /// The client's id, where it is registered by hand.
    pub client_id: Option<String>,
    /// The scopes that are asked for.
    pub scopes: Vec<String>,
    /// What the token is for (RFC 8707).
    pub resource: Option<String>,
    /// The house's own authorities for TLS, besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// The role to its supervisor: one line for each account, then [`FromCredential::Done`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromCredential {
    /// One was read and handed over, kept, or forgotten.
    Did {
        /// Which.
        account: Account,
        /// When it expires, seconds since the epoch, where that is known.
        expires: Option<i64>,
    },
    /// One could not.
    Failed {
        /// Which; none where the store itself could not be opened.
        account: Option<Account>,
        /// Of which kind the trouble is.
        trouble: Trouble,
        /// What is wrong and what to do, for people. Never a secret.
        reason: String,
    },
    /// Nothing more comes.
    Done,
}

/// Why a secret cannot be had: each has its own way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// It was never set: set it, or log in.
    Missing,
    /// The store is locked: unlock it.
    Locked,
    /// There is no store: no bus, no service, no key.
    NoStore,
    /// The store refused, or its file is damaged.
    Refused,
    /// It took too long.
    TimedOut,
    /// The login is over (its server refused to renew it): log in again.
    LoginOver,
    /// The authorization server could not be asked: again later.
    Unreachable,
}

impl Trouble {
    /// For machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Locked => "locked",
            Self::NoStore => "no-store",
            Self::Refused => "refused",
            Self::TimedOut => "timed-out",
            Self::LoginOver => "login-over",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether only a person's deed can change it; else it is tried again.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::Missing | Self::Locked | Self::NoStore | Self::LoginOver)
    }
}

/// The role to who needs it: one secret. Descriptor: the sealed memfd with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handed {
    /// The credential's name. A later one of the same name replaces it.
    pub name: String,
    /// When it expires, seconds since the epoch.
    pub expires: Option<i64>,
}
