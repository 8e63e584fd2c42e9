//! The sandbox: the stage, which applies a plan and becomes the server, and the keeper beside it.
//!
//! All of them run in role processes of their own that are single-threaded for all their lives. Which
//! layers hold is said by the process in which they hold ([`KeeperWord::Confined`](crate::wire::stage::KeeperWord)),
//! and nowhere assumed.

pub mod allowlist;
pub mod bubblewrap;
pub mod cgroup;
pub mod doors;
mod enter;
mod failure;
mod filter;
pub mod idmap;
mod init;
mod keeper;
mod offspring;
mod program;
mod ruleset;
mod secrets;
mod server;
pub mod stage;
pub mod storage;
mod tree;

pub use offspring::{children, running_below};
pub use ruleset::restrict_to_nothing;
