//! Secrets: kept by real stores, opened by the role alone, and brought to who needs them.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod delivery;
mod door;
mod encrypted_file;
mod harm;
mod house;
mod import;
mod init;
mod keyutils;
mod nowhere;
mod prompts;
mod role;
mod secret_service;
mod session;
mod world;
