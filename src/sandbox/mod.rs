//! The sandbox: the stage, which applies a plan and becomes the server, and the keeper beside it.
//!
//! Both run in a role process of their own that is single-threaded for all its life. This version
//! applies descriptor and environment hygiene, a session of its own, resource limits and
//! no_new_privs; [`LAYERS_HELD`] is what it may claim to enforce.

pub mod doors;
mod keeper;
mod offspring;
pub mod stage;

pub use offspring::{children, running_below};

use crate::config::tenant::Layer;

/// The layers of `sandbox.require` that the stage applies.
pub const LAYERS_HELD: &[Layer] = &[];
