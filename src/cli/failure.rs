//! A failure as the shell sees it: one line for the person, one exit code for the script.
//!
//! The codes are those of sysexits(3) where one fits, so that a caller can tell "you may not" from
//! "not there" without reading text. Nothing here decides; commands say which code they mean.

use std::io;

use crate::wire;

/// Done.
pub(super) const DONE: u8 = 0;
/// The work failed, or the tool reported an error.
pub(super) const FAILED: u8 = 1;
/// EX_USAGE: the command line is wrong.
pub(super) const USAGE: u8 = 64;
/// EX_UNAVAILABLE: nobody listens, or nothing answers.
pub(super) const UNAVAILABLE: u8 = 69;
/// EX_NOPERM: not allowed.
pub(super) const NO_PERMISSION: u8 = 77;
/// EX_CONFIG: the configuration is wrong.
pub(super) const CONFIG: u8 = 78;

/// What ends a command.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    /// The exit code.
    pub(super) code: u8,
    /// What failed, on what, and the way out.
    pub(super) message: String,
}

impl Failure {
    /// A failure with this code.
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The command line is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// Nobody there, or no answer.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(UNAVAILABLE, message)
    }
}

impl From<wire::Refusal> for Failure {
    fn from(refusal: wire::Refusal) -> Self {
        // A refusal that would read as success is a bug of the other side, never a success here.
        let code = if refusal.code == DONE { FAILED } else { refusal.code };
        Self::new(code, refusal.message)
    }
}

/// The exit code of an error: that of the [`Failure`] in it, else what its I/O error means.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.code;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => NO_PERMISSION,
        _ => FAILED,
    }
}

/// Whether the error is only that nobody reads our output any more (`tenantd logs | head`).
pub(super) fn is_closed_output(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_survives_context() {
        use anyhow::Context as _;
        let error = Err::<(), _>(Failure::new(CONFIG, "broken")).context("while").expect_err("one");
        assert_eq!(code(&error), CONFIG);
        let denied = anyhow::Error::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(code(&denied), NO_PERMISSION);
        assert_eq!(code(&anyhow::anyhow!("plain")), FAILED);
    }

    #[test]
    fn a_refusal_never_reads_as_success() {
        let refusal = wire::Refusal {
            message: "no".into(),
            code: 0,
            reason: "broken".into(),
            elsewhere: false,
        };
        assert_eq!(Failure::from(refusal).code, FAILED);
    }
}
