//! The network of a sandbox: real programs in it reach what their allowlist names, and nothing else.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod injected;
mod judged;
mod lives;
mod postgres;

mod reached;
mod world;
