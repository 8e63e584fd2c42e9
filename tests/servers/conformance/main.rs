//! A server with the tools, prompts and resources that the official conformance suite asks for, by the
//! names that the suite gives them. It speaks one era and refuses the other, so that a session of the
//! other era really has to be translated.
//!
//! | variable | effect |
//! |---|---|
//! | `CONFORMANCE_ERA` | `legacy` (default): 2025-11-25 with a handshake; `modern`: 2026-07-28, an envelope in every request |
//!
//! Whatever a call needs from its client is written down once, as rounds of wishes (`rounds`): the modern
//! era asks for them by its result, the legacy era by requests of its own.

mod asks;
mod call;
mod catalogue;
mod listens;
mod rounds;
mod seal;
mod server;
mod tasks;
mod wire;

use std::io::{self, BufRead};
use std::sync::Arc;

use serde_json::Value;
use server::{Era, Server};

fn main() {
    let era = match std::env::var("CONFORMANCE_ERA").as_deref() {
        Ok("modern") => Era::Modern,
        _ => Era::Legacy,
    };
    let server = Arc::new(Server::new(era));
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        // What is not JSON is dropped, as the SDKs do.
        if let Ok(message) = serde_json::from_str::<Value>(&line) {
            server.hear(message);
        }
    }
}
