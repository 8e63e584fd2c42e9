//! What the control API tells of what happened: refusals, starts, and what servers said before they ended.

use serde::{Deserialize, Serialize};
use zlink::introspect;

/// A session that was refused, or that was opened to wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct RefusalLine {
    /// The last time, seconds since the epoch.
    pub at: i64,
    /// The user.
    pub user: String,
    /// The uid.
    pub uid: i64,
    /// For machines: `suspended`, `session-quota`, ...
    pub reason: String,
    /// What was wrong and what to do.
    pub message: String,
    /// Whether the session stayed, to wait for the cure.
    pub waits: bool,
    /// How often, one after the other.
    pub times: i64,
}

/// A child that was wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct StartLine {
    /// When, seconds since the epoch.
    pub at: i64,
    /// Its server.
    pub server: String,
    /// Whose it is, where `share` is user or session.
    pub user: Option<String>,
    /// The process id of its keeper, where it was started.
    pub pid: Option<i64>,
    /// How it ended, or why it was not started; nothing while it runs.
    pub end: Option<String>,
    /// When it ended, seconds since the epoch.
    pub ended_at: Option<i64>,
}

/// What a child wrote to stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct StderrLines {
    /// Its server.
    pub server: String,
    /// Whose it is, where `share` is user or session.
    pub user: Option<String>,
    /// The last lines, oldest first.
    pub lines: Vec<String>,
}
