//! OAuth 2.1 as a client: a person logs in once, and the token is renewed for as long as the server lets it.
//!
//! ```text
//! discovery -> client (by hand, by its document, registered) -> authorization code + PKCE | device grant
//!           -> Document (in the store) -> renewed ahead of its end -> ... -> revoked at logout
//! ```
//!
//! The login runs in the person's own `tenantd login`; renewal and revocation run in the credential role, the
//! only process that opens the store. What a server sends is untrusted: bounded in size and time, redirects
//! are never followed, and its words are shown to people in one line, escaped.
//!
//! The messages are written here, on hyper and rustls. rmcp's `auth` speaks for one MCP client over reqwest,
//! has no device grant and no plain issuer; `oauth2` 5 would bring some forty crates (a second rand, sha2 and
//! getrandom, chrono, the tables of ICU) for encoding a form and reading a small JSON document, keeps tokens
//! in memory that is not zeroed, and has neither discovery, nor `iss`, nor registration.

mod authorize;
mod device;
mod document;
mod form;
mod http;
mod loopback;
mod metadata;
mod register;
mod renew;
mod revoke;
mod token;

pub use authorize::{Attempt, Returned};
pub use device::Codes;
pub use document::{Document, Registration, SecretMethod};
pub use http::Client;
pub use loopback::Callback;
pub use metadata::Server;
pub use register::register;
pub use renew::{Login, MARGIN_MAX, needs_renewal};
pub use revoke::revoke;
pub use token::{Granted, exchange, refresh};

/// Why a login, a renewal or a revocation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// The server did not answer, or answered that it cannot now.
    #[error("{0}")]
    Unreachable(String),
    /// The server said no, with an error of RFC 6749, section 5.2, or of one of its sisters.
    #[error("the server refused with \"{code}\"{description}")]
    Refused {
        /// The error's code, such as `invalid_grant`.
        code: String,
        /// What it says beside, in brackets, or nothing.
        description: String,
    },
    /// What the server sent is not what the protocol allows.
    #[error("{0}")]
    Garbled(String),
    /// What is configured does not suffice, or does not fit the server.
    #[error("{0}")]
    Setup(String),
    /// The person, or the server in the person's name, did not go on in time.
    #[error("the login was not finished in time: start it again")]
    TimedOut,
}

impl OauthError {
    /// Whether the server refused with this code.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    /// A refusal in the server's words, made fit for one line.
    fn refused(code: &str, description: Option<&str>) -> Self {
        let description =
            description.map_or_else(String::new, |text| format!(" ({})", quoted(text)));
        Self::Refused { code: quoted(code), description }
    }
}

/// A stranger's words in one line: at most 200 characters, nothing that a terminal would obey.
fn quoted(text: &str) -> String {
    let clean = |c: char| if c.is_control() || is_invisible(c) { '\u{FFFD}' } else { c };
    text.chars().take(200).map(clean).collect()
}

/// Characters that change how others are shown (Unicode's bidirectional controls and zero widths).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}
