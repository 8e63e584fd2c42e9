//! tenantd under a real systemd: its own units, as they are shipped, on a machine that a test boots.
//! Only root can do that, and only with what `tests/run` made for it: elsewhere these are skipped, loudly.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod desktops;
mod ends;
mod journal;
mod machine;
mod people;
mod restrictions;
mod secrets;
mod service;
