//! Why a session does not open, for a person and for the shim's exit code.

use std::fmt::{self, Display, Write};

use crate::config::tenant::Layer;
use crate::names::{ServerName, TenantId};
use crate::wire::{Ailment, Refusal};

/// No permission, or nothing that the asker may know of (sysexits(3), EX_NOPERM).
pub const NO_PERMISSION: u8 = 77;
/// The configuration stands in the way (EX_CONFIG).
pub const CONFIGURATION: u8 = 78;
/// Not now (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;
/// Asked in the wrong way (EX_USAGE).
pub const USAGE: u8 = 64;
/// A refusal's message stays below this, so that every client shows it whole.
const MESSAGE_MAX: usize = 299;
/// How many choices a message lists.
const CHOICES_MAX: usize = 5;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No such tenant, or no grant for it: nobody can tell which.
    #[error(
        "no tenant {0} here that you may use (check the name, or ask for a [[grant]] in its file)"
    )]
    UnknownTenant(TenantId),
    /// Nothing was named and there is nothing to choose from.
    #[error("no tenant here that you may use (ask for a [[grant]] in a tenant's file)")]
    NoTenant,
    /// Nothing was named and there are several.
    #[error("several tenants: name one, for example tenantd connect {first} (choices: {list})",
        first = First(.0), list = List(.0))]
    ChooseTenant(Vec<TenantId>),
    /// The tenant has no such server for the asker.
    #[error("{tenant} has no server {server} that you may use (choices: {list})",
        list = List(.choices))]
    UnknownServer {
        /// The tenant.
        tenant: TenantId,
        /// As asked.
        server: ServerName,
        /// What there is.
        choices: Vec<ServerName>,
    },
    /// The tenant has several servers and none is the default.
    #[error("{tenant} has several servers: name one, for example {tenant}/{first} (choices: {list})",
        first = First(.choices), list = List(.choices))]
    ChooseServer {
        /// The tenant.
        tenant: TenantId,
        /// What there is.
        choices: Vec<ServerName>,
    },
    /// `status = "suspended"`.
    #[error("{0} is suspended (whoever runs this tenantd can set status = \"active\" in its file)")]
    Suspended(TenantId),
    /// The trial has ended.
    #[error(
        "the trial of {0} is over (whoever runs this tenantd can change status or trial_until)"
    )]
    TrialOver(TenantId),
    /// The file is broken and there was never a good version.
    #[error("{tenant} cannot be used, its file is broken: {problem}")]
    Broken {
        /// The tenant.
        tenant: TenantId,
        /// The first problem.
        problem: String,
    },
    /// A required layer of the sandbox does not hold.
    #[error("{tenant} requires sandbox layers that this machine does not give: {list} (tenantd doctor says \
        why and what to do)",
        list = Layers(.missing))]
    NotIsolated {
        /// The tenant.
        tenant: TenantId,
        /// The layers.
        missing: Vec<Layer>,
    },
    /// Too many sessions.
    #[error("{tenant} has all of its {most} sessions open (close one, or raise quota.sessions)")]
    SessionQuota {
        /// The tenant.
        tenant: TenantId,
        /// The quota.
        most: u32,
    },
}

impl Reason {
    /// For machines.
    pub fn word(&self) -> &'static str {
        match self {
            Self::UnknownTenant(_) | Self::NoTenant => "unknown-tenant",
            Self::ChooseTenant(_) => "choose-tenant",
            Self::UnknownServer { .. } => "unknown-server",
            Self::ChooseServer { .. } => "choose-server",
            Self::Suspended(_) => "suspended",
            Self::TrialOver(_) => "trial-over",
            Self::Broken { .. } => "broken",
            Self::NotIsolated { .. } => "not-isolated",
            Self::SessionQuota { .. } => "session-quota",
        }
    }

    /// The shim's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::UnknownTenant(_) | Self::NoTenant | Self::UnknownServer { .. } => NO_PERMISSION,
            Self::ChooseTenant(_) | Self::ChooseServer { .. } => USAGE,
            Self::Suspended(_) | Self::TrialOver(_) | Self::SessionQuota { .. } => UNAVAILABLE,
            Self::Broken { .. } | Self::NotIsolated { .. } => CONFIGURATION,
        }
    }

    /// Whether somebody can take it away while a session waits; else it is final.
    pub fn is_curable(&self) -> bool {
        match self {
            Self::Suspended(_)
            | Self::TrialOver(_)
            | Self::Broken { .. }
            | Self::NotIsolated { .. } => true,
            Self::UnknownTenant(_)
            | Self::NoTenant
            | Self::ChooseTenant(_)
            | Self::UnknownServer { .. }
            | Self::ChooseServer { .. }
            | Self::SessionQuota { .. } => false,
        }
    }

    /// What a mux is told of a reason that keeps a server from running.
    pub fn ailment(&self) -> Ailment {
        let message = one_line(&self.to_string());
        Ailment { reason: self.word().to_owned(), message, code: self.code() }
    }

    /// The answer at the session door.
    pub fn refusal(&self) -> Refusal {
        let elsewhere = matches!(self, Self::UnknownTenant(_) | Self::NoTenant);
        refusal(&self.to_string(), self.code(), self.word(), elsewhere)
    }
}

/// A refusal whose message is one printable line of bearable length.
pub fn refusal(message: &str, code: u8, reason: &str, elsewhere: bool) -> Refusal {
    Refusal { message: one_line(message), code, reason: reason.to_owned(), elsewhere }
}

/// A text from elsewhere as one printable line of bearable length.
pub fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().take(MESSAGE_MAX + 1).map(plain).collect();
    if line.len() > MESSAGE_MAX {
        let fits = |end: &usize| line.is_char_boundary(*end);
        line.truncate((0..=MESSAGE_MAX - 3).rev().find(fits).unwrap_or(0));
        line.push_str("...");
    }
    line
}

struct First<'a, T>(&'a [T]);

impl<T: Display> Display for First<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |first| first.fmt(f))
    }
}

struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, item) in self.0.iter().take(CHOICES_MAX).enumerate() {
            let gap = if index == 0 { "" } else { ", " };
            write!(f, "{gap}{item}")?;
        }
        match self.0.len().saturating_sub(CHOICES_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

struct Layers<'a>(&'a [Layer]);

impl Display for Layers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, layer) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(layer.as_str())?;
        }
        Ok(())
    }
}

/// Quotes what a stranger sent: short and printable.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().take(48).flat_map(char::escape_debug) {
        // Writing to a String cannot fail.
        let _ = quoted.write_char(c);
    }
    quoted.push('"');
    quoted
}
