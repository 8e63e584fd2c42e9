//! MCP as bytes: lines, envelopes, splices. Nothing here knows sessions, and nothing is re-encoded.
//!
//! A message is looked at through borrowed raw values (facts of its envelope, never its meaning) and
//! changed by replacing ranges of its bytes; whatever is not replaced leaves as it came, also numbers
//! that no Rust type holds.

pub mod envelope;
pub mod era;
pub mod error;
pub mod line;
pub mod method;
pub mod scan;
pub mod splice;
