//! A final refusal, told so that a person sees it: one line on stderr, and the same JSON-RPC error to
//! every request, because clients show only what answers `initialize`.
//!
//! A dual-era client sends `server/discover`, takes the error for "legacy" and sends `initialize`: both
//! get the whole reason. It ends with the input, or two seconds after `initialize` was answered.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::mcp::envelope::{Envelope, Message, good_id};
use crate::mcp::line::{Framer, Line};
use crate::wire::Refusal;

/// How long after the answer to `initialize` more requests are answered.
const AFTER_INITIALIZE: Duration = Duration::from_secs(2);
/// The longest line that is looked at, bytes.
const LONGEST: usize = 4 * 1024 * 1024;

/// Tells the refusal; gives the exit code.
pub(super) fn answer(refusal: &Refusal) -> u8 {
    super::say(&refusal.message);
    if !nix::unistd::isatty(io::stdin()).unwrap_or(false) {
        // A client that is gone has heard enough.
        let _ = answer_requests(refusal);
    }
    refusal.code
}

fn answer_requests(refusal: &Refusal) -> io::Result<()> {
    let mut framer = Framer::new(LONGEST);
    let mut until = None;
    let mut chunk = vec![0; 16 * 1024];
    while wait_until(until)? {
        let got = io::stdin().lock().read(&mut chunk)?;
        if got == 0 {
            break;
        }
        let mut answers = Vec::new();
        let mut greeted = false;
        framer.feed(chunk.get(..got).unwrap_or_default(), |line| {
            if let Line::Whole(line) = line
                && let Some((id, method)) = request(line)
            {
                greeted |= method == "initialize";
                answers.push(error_line(&id, refusal));
            }
        });
        if greeted {
            until = Some(Instant::now() + AFTER_INITIALIZE);
        }
        let mut out = io::stdout().lock();
        for answer in answers {
            out.write_all(answer.as_bytes())?;
        }
        out.flush()?;
    }
    Ok(())
}

fn request(line: &[u8]) -> Option<(String, String)> {
    let envelope = Envelope::read(line).ok()?;
    match envelope.message().ok()? {
        Message::Request { id, method } if good_id(id) => {
            Some((id.get().to_owned(), method.into_owned()))
        }
        _ => None,
    }
}

fn error_line(id: &str, refusal: &Refusal) -> String {
    let code = if refusal.code == 77 { 403 } else { 503 };
    let message = serde_json::Value::from(format!("tenantd: {}", refusal.message));
    let reason = serde_json::Value::from(refusal.reason.as_str());
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message},"data":{{"reason":{reason}}}}}}}"#
    ) + "\n"
}

/// Waits for input, without a time for as long as there is none.
fn wait_until(until: Option<Instant>) -> io::Result<bool> {
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    let stdin = io::stdin();
    let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut ready, timeout)? > 0)
}
