//! `demo`: two tenants, real clients, a crash, and attempts from all sides that must fail, in a temporary home.
//!
//! Everything runs as real processes of this binary through the doors that every client uses; what the
//! machine or this version does not give is said first. The story runs on a thread of its own, so that
//! Ctrl-C can end it from outside: it ends the processes, the story fails at its next step, and the same
//! drops clean up as after a good end. Nothing of the user's is read or changed.

mod alarm;
mod attacker;
mod house;
mod pids;
mod probe;
mod story;
mod transcript;
mod visitor;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::failure::{DONE, FAILED};
use alarm::Alarm;

/// The exit code of a program that Ctrl-C ended, as shells have it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// `tenantd demo`
pub(super) fn run() -> anyhow::Result<u8> {
    let alarm = Arc::new(Alarm::default());
    let (told, end) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The handlers stand before the first process does: from here on Ctrl-C cleans up.
    let signals = runtime.block_on(async { Signals::new() }).context("cannot watch for Ctrl-C")?;
    let rung = Arc::clone(&alarm);
    let teller = std::thread::Builder::new().name("demo".into()).spawn(move || {
        let outcome = story::tell(&rung);
        let _ = told.send(());
        outcome
    })?;
    runtime.block_on(watch(signals, end, &alarm));
    let outcome = teller.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the demo broke off")));
    if alarm.rung() {
        return Ok(INTERRUPTED);
    }
    outcome.map(|well| if well { DONE } else { FAILED })
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Until the story ends; a signal makes it end soon, a second one changes nothing: it is cleaning up.
async fn watch(mut signals: Signals, mut end: oneshot::Receiver<()>, alarm: &Alarm) {
    loop {
        tokio::select! {
            _ = &mut end => return,
            _ = signals.interrupt.recv() => alarm.ring(),
            _ = signals.terminate.recv() => alarm.ring(),
            _ = signals.hang_up.recv() => alarm.ring(),
        }
    }
}
