//! Asking a person for a secret on a terminal that does not show it.
//!
//! Read byte by byte: a terminal that collects lines cuts them at 4095 bytes (termios(3)), and a key file is
//! longer. Whatever ends us, the terminal shows again what is typed: signals are taken as they come, and
//! obeyed when it does. What was pasted too much is thrown away, not left for the shell.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use crate::cli::failure::{FAILED, Failure};
use crate::wire::credential::SECRET_MAX;

/// What ends us from outside while the terminal is quiet.
const DEADLY: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// One more than a secret has, so that a longer one is seen to be longer.
const ROOM: usize = SECRET_MAX as usize + 1;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
/// Ctrl-U: begin anew.
const KILL: u8 = 0x15;
/// Ctrl-D: the end.
const END: u8 = 0x04;

/// Asks twice on the terminal `tty`; the prompt goes to stderr.
///
/// # Errors
/// [`Failure`] if the two differ or nothing was typed; as termios(3) and read(2).
pub(super) fn ask(tty: BorrowedFd<'_>, what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let quiet = Quiet::begin(tty)?;
    let first = quiet.line(&format!("{what} (not shown): "))?;
    if first.is_empty() {
        return Err(Failure::usage("nothing was typed, nothing was stored").into());
    }
    let second = quiet.line("the same again: ")?;
    if first != second {
        return Err(Failure::usage("the two entries differ, nothing was stored").into());
    }
    Ok(first)
}

/// A terminal that does not show what is typed; its drop makes it show it again.
struct Quiet<'a> {
    tty: BorrowedFd<'a>,
    before: Termios,
    signals: SignalFd,
    mask: SigSet,
}

impl<'a> Quiet<'a> {
    fn begin(tty: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let deadly: SigSet = DEADLY.into_iter().collect();
        let signals = SignalFd::with_flags(&deadly, SfdFlags::SFD_CLOEXEC)?;
        // Blocked before the terminal is quiet: one that comes between is not lost.
        let mask = deadly.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let quiet = Self { tty, before, signals, mask };
        let mut silent = quiet.before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON);
        silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // Stopped by Ctrl-Z it would leave a terminal that shows nothing.
        silent.control_chars[SpecialCharacterIndices::VSUSP as usize] = libc::_POSIX_VDISABLE;
        tcsetattr(tty, SetArg::TCSAFLUSH, &silent)?;
        Ok(quiet)
    }

    fn line(&self, prompt: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let mut stderr = io::stderr();
        write!(stderr, "{prompt}")?;
        stderr.flush()?;
        let line = self.read();
        // The line end that the person typed is not shown either.
        writeln!(stderr)?;
        line
    }

    fn read(&self) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        // Never moved while it grows: a move would leave a copy behind.
        let mut typed = Zeroizing::new(Vec::with_capacity(ROOM));
        loop {
            let byte = self.byte()?;
            match byte {
                None | Some(b'\n' | b'\r' | END) => break,
                Some(KILL) => typed.clear(),
                Some(BACKSPACE | DELETE) => rub_out(&mut typed),
                Some(byte) if typed.len() < ROOM => typed.push(byte),
                Some(_) => {}
            }
        }
        if typed.len() == ROOM {
            return Err(super::too_large().into());
        }
        Ok(typed)
    }

    /// The next byte; nothing at the end of the terminal.
    fn byte(&self) -> anyhow::Result<Option<u8>> {
        loop {
            let mut watched = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.tty, PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready = |at: usize| watched.get(at).and_then(PollFd::any).unwrap_or(false);
            if ready(0)
                && let Some(signal) = self.signals.read_signal()?
            {
                let signal = i32::try_from(signal.ssi_signo).unwrap_or(libc::SIGTERM);
                return Err(Interrupted(Signal::try_from(signal).unwrap_or(Signal::SIGTERM)).into());
            }
            if ready(1) {
                let mut byte = [0];
                return match rustix::io::read(self.tty, &mut byte) {
                    Ok(0) => Ok(None),
                    Ok(_) => Ok(byte.first().copied()),
                    Err(rustix::io::Errno::INTR) => continue,
                    // The other end of a pseudo-terminal is closed.
                    Err(rustix::io::Errno::IO) => Ok(None),
                    Err(error) => Err(io::Error::from(error).into()),
                };
            }
        }
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to be restored.
        let _ = tcsetattr(self.tty, SetArg::TCSAFLUSH, &self.before);
        let _ = self.mask.thread_set_mask();
    }
}

/// Takes the last character back, of however many bytes.
fn rub_out(typed: &mut Vec<u8>) {
    while let Some(byte) = typed.pop() {
        // A byte that only continues a character of UTF-8 is not its first.
        if byte & 0xc0 != 0x80 {
            return;
        }
    }
}

/// A signal that came while a secret was asked for.
#[derive(Debug, thiserror::Error)]
#[error("interrupted, nothing was stored")]
pub(super) struct Interrupted(Signal);

/// Ends by the signal that interrupted, now that the terminal is as it was.
pub(super) fn obey(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) => {
            // Where it is ignored we go on to the exit code.
            let _ = raise(*signal);
            Failure::new(FAILED, "interrupted, nothing was stored").into()
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_taken_back_whole() {
        let mut typed = "aé€".as_bytes().to_vec();
        for left in ["aé", "a", "", ""] {
            rub_out(&mut typed);
            assert_eq!(typed, left.as_bytes());
        }
    }
}
