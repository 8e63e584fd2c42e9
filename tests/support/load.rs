//! Sessions that call without a pause while something happens around them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::session::{DEADLINE, Era, Session};

/// What all callers of a test share.
#[derive(Default)]
pub(crate) struct Load {
    over: AtomicBool,
    answered: AtomicU64,
}

impl Load {
    /// Opens the session and calls until the end: each call is answered, each once, each with its own
    /// answer.
    pub(crate) fn call<'a>(
        &'a self,
        scope: &'a Scope<'a, '_>,
        mut session: Session,
        era: Era,
    ) -> ScopedJoinHandle<'a, Session> {
        session.open(era);
        scope.spawn(move || {
            let mut count = 0;
            while !self.over.load(Ordering::Relaxed) {
                let text = format!("{}-{count}", session.pid());
                let result = session.call("echo", json!({"text": text}));
                assert_eq!(result["content"][0]["text"], text);
                assert!(session.aside.is_empty(), "answered twice: {:?}", session.aside);
                count += 1;
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            session
        })
    }

    /// Waits until so many more calls are answered.
    pub(crate) fn until_answered(&self, more: u64) {
        let (deadline, wanted) = (Instant::now() + DEADLINE, self.answered() + more);
        while self.answered() < wanted {
            assert!(Instant::now() < deadline, "the callers stand still");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many calls were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets the callers end.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Ends the load also where a test panics, so that the panic is seen and not the hang.
pub(crate) struct Ending<'a>(pub(crate) &'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A moment that no test can foresee, up to so long.
pub(crate) fn a_while(longest: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let chance = RandomState::new().build_hasher().finish();
    longest.mul_f64((chance % 10_000) as f64 / 10_000.0)
}
