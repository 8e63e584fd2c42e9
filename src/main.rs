//! The door: one role per process, chosen before anything else exists.
fn main() {}
