//! The noisy neighbour: one tenant floods as fast as it can, with half a processor to itself, while another
//! makes a call every 10 ms. What the other waits, against what it waits alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{percentile, say};
use crate::client::Client;
use crate::support::{self, Home, child};

/// Calls of the victim in one measurement, and their distance.
const CALLS: usize = 400;
const EVERY: Duration = Duration::from_millis(10);
/// Measurements of each kind, in turn.
const ROUNDS: usize = 3;
/// Calls of the flood between two looks at whether it is over.
const BURST: usize = 2_000;

pub(crate) fn measure() {
    let home = Home::new();
    let text = support::tenant(&child("echo"), &[]);
    let quota = "\n[quota]\nrequests_per_minute = \"unlimited\"\n";
    home.tenant("quiet", &format!("{text}{quota}"));
    home.tenant("loud", &format!("{text}{quota}cpus = 0.5\n"));
    let supervisor = home.start();
    let bounded = home.status()["supervisor"]["not_isolated"].to_string();
    let mut victim = Client::open(home.command(&["connect", "quiet"]));
    victim.sequential(100);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend(calls(&mut victim));
        beside.extend(under_flood(&home, &mut victim));
    }
    victim.close();
    supervisor.stop();
    let [alone_50, alone_99] = [0.5, 0.99].map(|share| percentile(&mut alone, share));
    let [beside_50, beside_99] = [0.5, 0.99].map(|share| percentile(&mut beside, share));
    say("| a call every 10 ms | alone | beside a flood | ratio |");
    say("|---|---:|---:|---:|");
    for (what, alone, beside) in [("p50", alone_50, beside_50), ("p99", alone_99, beside_99)] {
        let ratio = beside / alone;
        say(&format!("| {what} | {alone:.3} ms | {beside:.3} ms | {ratio:.2} |"));
    }
    if bounded.contains("cgroup") {
        say("\nNOT BOUNDED: this machine gave no cgroup, so the flood had all that it could take");
    }
}

fn calls(victim: &mut Client) -> Vec<Duration> {
    let start = Instant::now();
    let one = |number: usize| {
        let due = start + EVERY * u32::try_from(number).expect("few");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        victim.sequential(1)
    };
    (0..CALLS).flat_map(one).collect()
}

fn under_flood(home: &Home, victim: &mut Client) -> Vec<Duration> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut loud = Client::open(home.command(&["connect", "loud"]));
            while !over.load(Ordering::Relaxed) {
                loud.in_flight(BURST, 16);
            }
            loud.close();
        });
        let times = calls(victim);
        over.store(true, Ordering::Relaxed);
        flood.join().expect("the flood");
        times
    })
}
