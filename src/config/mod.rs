//! Configuration: written, then meant.

pub mod tenant;
