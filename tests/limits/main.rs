//! What a tenant may use, held by the kernel: real bombs in real control groups. Where root has no
//! controllers to divide these are skipped, loudly; in CI that is a failure.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod bombs;
mod delegated;
mod groups;
mod life;
