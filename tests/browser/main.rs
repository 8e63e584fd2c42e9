//! Playwright's MCP server with Debian's Chromium, as `docs/servers.md` sets it up: the tenant files are taken from
//! that page, so that what it says is what is run.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "these tests use a part of it")]
#[path = "../egress/world.rs"]
mod world;

mod authority;
mod confined;
mod documented;
mod pages;
mod site;
mod system;
