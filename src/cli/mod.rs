//! The street: the commands that people and clients type.

pub mod check;
pub mod schema;
