//! The house: listens, admits, starts, watches, answers.

use std::time::Duration;

use crate::config::tenant::Limit;
use crate::paths::Layout;

/// How to serve.
#[derive(Debug)]
pub struct Options {
    /// Where everything lives.
    pub layout: Layout,
    /// Leave after this long without a session.
    pub idle_exit: Option<Limit<Duration>>,
    /// Start tenants whose required layers are missing.
    pub insecure_unenforced: bool,
}

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("no supervisor yet")]
pub struct SupervisorError;

/// Serves until told to stop.
///
/// # Errors
/// [`SupervisorError`].
pub fn serve(_options: Options) -> Result<(), SupervisorError> {
    Err(SupervisorError)
}
