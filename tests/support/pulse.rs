//! Feels the pulse of a supervisor's loop: asks it something cheap, again and again, and notes how long
//! each answer takes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::weapon::wait_until;

/// The loop's answer may take no longer. The product's aim is 50 ms on a machine with a free core; here
/// tests and servers fight for few, and an attack that reaches the loop costs it a second or more.
pub(crate) const LATE: Duration = Duration::from_millis(500);
/// Between two questions.
const REST: Duration = Duration::from_millis(5);
/// When no answer is expected any more.
const DEAD: Duration = Duration::from_secs(20);

const ASK: &[u8] = b"{\"method\":\"io.tenantd.Supervisor.ListTenants\"}\0";

/// A thread that asks over one connection to the control door, as who runs the test.
pub(crate) struct Pulse {
    beats: Arc<AtomicU64>,
    taken: Arc<Mutex<Vec<Duration>>>,
    /// Held while a question waits for its answer.
    asking: Arc<Mutex<()>>,
    stop: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Pulse {
    /// Starts asking at the control door `path`.
    pub(crate) fn of(path: &Path) -> Self {
        let connection = UnixStream::connect(path).expect("connected");
        connection.set_read_timeout(Some(DEAD)).expect("set");
        let (beats, taken) = <(Arc<AtomicU64>, Arc<Mutex<Vec<Duration>>>)>::default();
        let (stop, stopped) = channel();
        let asking = Arc::<Mutex<()>>::default();
        let (beaten, noted, turn) = (beats.clone(), taken.clone(), asking.clone());
        let thread = std::thread::spawn(move || beat(connection, &beaten, &noted, &turn, &stopped));
        Self { beats, taken, asking, stop, thread }
    }

    /// Does something while nothing is asked: the supervisor is stopped by it.
    pub(crate) fn hushed<T>(&self, deed: impl FnOnce() -> T) -> T {
        let _quiet = self.asking.lock().expect("whole");
        deed()
    }

    /// Waits for as many answers more, each within [`LATE`].
    #[track_caller]
    pub(crate) fn feel(&self, count: u64) {
        let from = self.beats.load(Ordering::Relaxed);
        wait_until("the loop answers", || {
            assert!(!self.thread.is_finished(), "the loop does not answer");
            self.beats.load(Ordering::Relaxed) >= from + count
        });
        self.assert_even();
    }

    #[track_caller]
    fn assert_even(&self) -> (usize, Duration) {
        let taken = self.taken.lock().expect("whole").clone();
        let slowest = taken.iter().max().copied().unwrap_or_default();
        assert!(slowest < LATE, "the loop was held up for {slowest:?}");
        (taken.len(), slowest)
    }

    /// The end; says how slow the slowest answer was.
    #[track_caller]
    pub(crate) fn stop(self, during: &str) {
        let (count, slowest) = self.assert_even();
        let _ = self.stop.send(());
        self.thread.join().expect("every question was answered");
        eprintln!("{during}: {count} answers of the loop, the slowest after {slowest:?}");
    }
}

fn beat(
    mut connection: UnixStream,
    beats: &AtomicU64,
    taken: &Mutex<Vec<Duration>>,
    asking: &Mutex<()>,
    stopped: &Receiver<()>,
) {
    while stopped.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
        let _turn = asking.lock().expect("whole");
        let asked = Instant::now();
        connection.write_all(ASK).expect("asked");
        let mut chunk = [0; 4096];
        loop {
            let got = connection.read(&mut chunk).expect("an answer of the loop");
            assert!(got > 0, "the pulse was cut off");
            if chunk[..got].contains(&0) {
                break;
            }
        }
        taken.lock().expect("whole").push(asked.elapsed());
        beats.fetch_add(1, Ordering::Relaxed);
    }
}
