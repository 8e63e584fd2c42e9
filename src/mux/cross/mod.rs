//! Where a client and its server speak different eras: everything that has to be carried over.
//!
//! | client | server | the way |
//! |---|---|---|
//! | legacy | legacy | straight: the bytes of a direct connection |
//! | modern | modern | straight |
//! | legacy | modern | `upward`: envelope put on, results taken down; `rounds`, `input`: what the server wants first; `wishes`, `feed`: what changes |
//! | modern | legacy | `downward`: envelope taken off, results completed; `held`: a server's own requests; `streams`: what changes |
//!
//! The era is a message's, not a session's: a client that probes and then falls back, or changes its mind,
//! is served by the row that each of its requests is in. What is not carried is refused in words that
//! say so; nothing is guessed.

pub(super) mod downward;
pub(super) mod feed;
pub(super) mod handshake;
pub(super) mod held;
mod input;
pub(super) mod rounds;
pub(super) mod seal;
pub(super) mod streams;
pub(super) mod upward;
pub(super) mod waiting_calls;
pub(super) mod wishes;
