//! The exchange among hostile ends: what the fuzz targets `clients` and `servers` run, and a bounded part
//! of it the tests.
//!
//! An input is a play (`script`): several sessions of both eras and of two users, the servers that they
//! share or do not, and what each says and suffers. One side is honest, the other says whatever the input
//! makes it say (`pieces`, `clients`, `servers`). Everything that is said carries marks that nobody can
//! guess (`marks`), and every line that leaves the exchange is judged (`judge`):
//!
//! * it is one JSON-RPC message whose envelope reads, for an end that is there;
//! * no session sees a mark that is for another, and no server one of a session that is not its own;
//! * an answer has an id that its asker has open, and comes once; in the end nobody is owed one;
//! * what the exchange holds stays within its bounds (`bounds`).
//!
//! Nothing here knows how the exchange does that: only its events and its outbox are used, and the sizes of
//! its tables.

mod bounds;
mod client_lines;
mod clients;
mod judge;
mod judge_server;
mod lines;
mod marks;
mod paths;
mod pieces;
mod play;
#[cfg(test)]
mod replay;
mod script;
mod server_lines;
mod servers;
mod story;

use play::{Hostile, Play};

/// How many lines a play of a fuzz target has at most: enough to reach every bound.
const LINES: usize = 6_000;

/// Plays `input` with hostile clients.
///
/// # Panics
/// Where a property does not hold.
pub fn clients(input: &[u8]) {
    Play::new(input, Hostile::Clients, LINES).run();
}

/// Plays `input` with hostile servers.
///
/// # Panics
/// Where a property does not hold.
pub fn servers(input: &[u8]) {
    Play::new(input, Hostile::Servers, LINES).run();
}
