//! The shim.

pub mod door;
