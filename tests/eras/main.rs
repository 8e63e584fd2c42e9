//! Clients and servers of different eras, whole: real processes, both directions.

#![allow(missing_docs, reason = "a test binary has no API")]

mod downward;
#[path = "../support/mod.rs"]
mod support;
mod upward;
