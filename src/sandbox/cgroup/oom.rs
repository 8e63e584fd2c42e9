//! Whom the kernel ends first when the whole machine is out of memory (proc(5), oom_score_adj): servers,
//! then muxes, the supervisor last.
//!
//! A role steps back by itself, at its very start: what follows makes it undumpable, and then its own file
//! is root's. Stepping forward again is left to the sandbox, in which /proc cannot be written.

use std::fs;

/// Who steps back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// The mux: its sessions end with it.
    Mux,
    /// A server and its keeper: it is started again at the next call.
    Server,
}

/// The most that there is.
const MOST: i32 = 1000;

/// Makes this process, and what it starts, the more likely end.
pub fn stand_back(rank: Rank) {
    let own = "/proc/self/oom_score_adj";
    let now = fs::read_to_string(own).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    // Where it cannot be written the kernel goes by size alone.
    let _ = fs::write(own, score(rank, now).to_string());
}

/// What a process is that was started with `now`.
fn score(rank: Rank, now: i32) -> i32 {
    let step = match rank {
        Rank::Mux => 100,
        Rank::Server => 500,
    };
    (now.max(0) + step).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_go_before_muxes_and_both_before_the_supervisor() {
        for supervisor in [-900, 0, 200] {
            let (mux, server) = (score(Rank::Mux, supervisor), score(Rank::Server, supervisor));
            assert!(supervisor < mux && mux < server, "{supervisor} {mux} {server}");
        }
        assert_eq!(score(Rank::Server, 900), MOST);
    }
}
