//! What systemd is told: ready, status, stopping, and that the loop turns (sd_notify(3)).
//!
//! Without systemd every one of these does nothing.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// Tells without ever waiting: sd_notify's own send blocks where the manager does not read, and the
/// caller is the supervisor's loop.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = try_tell(states) {
        tracing::debug!("systemd could not be told: {error}");
    }
}

fn try_tell(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(to) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let to = match to.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(to)?,
    };
    let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(lines.as_bytes(), &to)?;
    Ok(())
}

pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be said: twice in the time that systemd allows.
pub(super) fn heartbeat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_lines_as_systemd_reads_them() {
        let lines: Vec<_> = [NotifyState::Ready, NotifyState::Watchdog, NotifyState::Status("x")]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lines, ["READY=1", "WATCHDOG=1", "STATUS=x"]);
    }
}
