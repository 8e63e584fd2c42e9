//! What the sandbox costs: the start of a program in it, against plain exec and against bubblewrap, and
//! what a neighbour that floods costs a tenant that does not. Run by `benches/run`.
//!
//! The three ways are taken in turn, so that what else the machine does meets all of them.

mod neighbour;
mod starts;

#[allow(dead_code, reason = "the other benchmark uses the rest of it")]
#[path = "../connect/client.rs"]
mod client;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::time::Duration;

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("stdout");
}

/// The time that this share of all stays below, milliseconds.
fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    let at = ((times.len() - 1) as f64 * share).round() as usize;
    times[at].as_secs_f64() * 1e3
}

fn main() {
    starts::measure();
    neighbour::measure();
}
