//! A door thread: attends one connection of the session door, from its datagram to its answer.
//!
//! It reads, checks and passes on what a stranger sent, and closes what is left; the supervisor's loop
//! only says yes or no. It never decides and never keeps anything.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::hand::Hand;
use super::message::{Admission, Handle, OpenAsk, Pass, Wish};
use super::parting::Parting;
use super::sealed::Sealed;
use super::secrets::{SECRET_TAKES, SetAsk};
use crate::auth::{AuthError, Directory, Nobodies, Principal, identify};
use crate::names::{Target, TenantId};
use crate::policy::reason::{NO_PERMISSION, UNAVAILABLE, USAGE, quoted, refusal};
use crate::sys;
use crate::wire::{Answer, DOOR_DATAGRAM, Refusal, Request};

/// How long a connection may take to say what it wants, and a mux to take it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the supervisor may take: a tenant that drains finishes first (`drain`, 5 s by default).
const VERDICT: Duration = Duration::from_secs(12);

/// How long the loop may take to hear of a mux's death.
const NEWS: Duration = Duration::from_millis(5);

/// Why a mux did not get the descriptors.
enum Undelivered {
    /// It has died.
    Gone,
    /// It left its messages lying for too long.
    Busy,
}

/// What every door thread needs; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Attendant {
    pub(super) house: Handle,
    pub(super) directory: Directory,
    pub(super) nobodies: Arc<Mutex<Nobodies>>,
    pub(super) parting: Parting,
}

impl Attendant {
    /// Attends one connection. Returns when everything that came with it is closed.
    pub(super) fn attend(&self, connection: OwnedFd) {
        let answer = self.answer(&connection).unwrap_or_else(Answer::Refused);
        let bytes = serde_json::to_vec(&answer).unwrap_or_default();
        // A client that left needs no answer; the session ends by its lifeline.
        let _ = sys::send_datagram(&connection, &bytes, &[], SendFlags::DONTWAIT);
    }

    fn answer(&self, connection: &OwnedFd) -> Result<Answer, Refusal> {
        let (request, descriptors) = receive(connection)?;
        let principal = self.who(connection)?;
        match request {
            Request::Open { target, strict } => {
                let hand = Hand::check(descriptors).map_err(|error| bad(&error.to_string()))?;
                self.open(&principal, &parse(target.as_deref())?, strict, &hand)
            }
            Request::Ask { .. } if !descriptors.is_empty() => {
                Err(bad("a question needs no descriptors"))
            }
            Request::Ask { target } => {
                self.ask(principal, parse(target.as_deref())?, Wish::Known).map(|_| Answer::Known)
            }
            Request::SetCredential { tenant, name, source, rotate } => {
                let sealed = Sealed::check(descriptors).map_err(|error| bad(&error.to_string()))?;
                let tenant = TenantId::parse(&tenant).map_err(|error| bad(&error.to_string()))?;
                let secret = sealed.into_descriptor();
                self.set(|deadline, reply| SetAsk {
                    principal,
                    ids: self.directory.ids(),
                    tenant,
                    name,
                    source,
                    rotate,
                    secret,
                    deadline,
                    reply,
                })
            }
        }
    }

    /// Has a secret kept: it goes to the loop as it came, and from there to the credential role.
    fn set(
        &self,
        ask: impl FnOnce(Instant, SyncSender<Result<Answer, Refusal>>) -> SetAsk,
    ) -> Result<Answer, Refusal> {
        let (reply, verdict) = std::sync::mpsc::sync_channel(1);
        // The role says itself what took too long.
        let deadline = Instant::now() + SECRET_TAKES + VERDICT;
        self.house.set(ask(deadline, reply)).map_err(|_| leaving())?;
        match verdict.recv_timeout(SECRET_TAKES + VERDICT) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(leaving()),
            Err(RecvTimeoutError::Timeout) => {
                Err(unavailable("the store of secrets is busy (try again)", "busy"))
            }
        }
    }

    /// Passes the descriptors on; where the mux has just died, to the next one.
    fn open(
        &self,
        principal: &Principal,
        target: &Target,
        strict: bool,
        hand: &Hand,
    ) -> Result<Answer, Refusal> {
        let until = Instant::now() + PATIENCE;
        loop {
            let wish = Wish::Session { strict };
            let Some(pass) = self.ask(principal.clone(), target.clone(), wish)? else {
                return Ok(Answer::Known);
            };
            match self.pass(pass, hand) {
                Err(Undelivered::Gone) if Instant::now() < until => std::thread::sleep(NEWS),
                Err(Undelivered::Gone) => {
                    let said = "the tenant's process keeps ending (try again, see tenantd why)";
                    return Err(unavailable(said, "gone"));
                }
                Err(Undelivered::Busy) => {
                    return Err(unavailable("the tenant is too busy (try again)", "busy"));
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    fn who(&self, connection: &OwnedFd) -> Result<Principal, Refusal> {
        let nobodies = *self.nobodies.lock().unwrap_or_else(PoisonError::into_inner);
        identify(connection, &nobodies, &self.directory).map_err(|error| {
            tracing::warn!("a connection was refused: {error}");
            let word = match error {
                AuthError::Overflow(_) => "overflow-uid",
                AuthError::Reserved(_) => "reserved-uid",
                AuthError::Unknown(_) | AuthError::TooManyGroups(_) => "unknown-peer",
            };
            refusal(&error.to_string(), NO_PERMISSION, word, false)
        })
    }

    /// Leave to pass the descriptors on; none where it was only a question.
    fn ask(
        &self,
        principal: Principal,
        target: Target,
        wish: Wish,
    ) -> Result<Option<Pass>, Refusal> {
        let (reply, verdict) = std::sync::mpsc::sync_channel(1);
        let ids = self.directory.ids();
        let deadline = Instant::now() + VERDICT;
        self.house
            .open(OpenAsk { principal, ids, target, wish, deadline, reply })
            .map_err(|_| leaving())?;
        match verdict.recv_timeout(VERDICT) {
            Ok(Admission::Pass(pass)) => Ok(Some(*pass)),
            Ok(Admission::Known) => Ok(None),
            Ok(Admission::Refused(refusal)) => Err(refusal),
            Err(RecvTimeoutError::Disconnected) => Err(leaving()),
            Err(RecvTimeoutError::Timeout) => {
                Err(unavailable("the tenant is not ready yet (try again)", "not-ready"))
            }
        }
    }

    fn pass(&self, pass: Pass, hand: &Hand) -> Result<Answer, Undelivered> {
        // Fails only for maps whose keys are not text: there is none.
        let bytes = serde_json::to_vec(&pass.open).unwrap_or_default();
        let until = Instant::now() + PATIENCE;
        loop {
            let sent = sys::send_datagram(&pass.line, &bytes, &hand.borrow(), SendFlags::DONTWAIT);
            match sent {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if !ready(&pass.line, PollFlags::OUT, until) {
                        return Err(Undelivered::Busy);
                    }
                }
                Err(_) => return Err(Undelivered::Gone),
            }
        }
        let Pass { tenant, server, session, slip, .. } = pass;
        slip.sent();
        Ok(Answer::Open { session, tenant, server })
    }
}

/// The one datagram of a connection.
fn receive(connection: &OwnedFd) -> Result<(Request, Vec<OwnedFd>), Refusal> {
    if !ready(connection, PollFlags::IN, Instant::now() + PATIENCE) {
        return Err(bad("nothing was asked within 5 seconds"));
    }
    let mut buffer = vec![0; DOOR_DATAGRAM];
    let got = sys::receive_datagram(connection, &mut buffer, RecvFlags::DONTWAIT)
        .map_err(|error| bad(&format!("the request could not be received: {error}")))?;
    if got.truncated {
        return Err(bad("a request is at most 4096 bytes with 3 descriptors"));
    }
    let asked = buffer.get(..got.bytes).unwrap_or_default();
    let request = serde_json::from_slice(asked).map_err(|error| {
        bad(&format!("the request is not understood: {}", quoted(&error.to_string())))
    })?;
    Ok((request, got.descriptors))
}

fn parse(target: Option<&str>) -> Result<Target, Refusal> {
    let target = target.map_or_else(|| Ok(Target::default()), Target::parse);
    target.map_err(|error| refusal(&error.to_string(), USAGE, "bad-target", false))
}

fn bad(message: &str) -> Refusal {
    refusal(message, USAGE, "bad-request", false)
}

fn unavailable(message: &str, word: &str) -> Refusal {
    refusal(message, UNAVAILABLE, word, false)
}

fn leaving() -> Refusal {
    unavailable("this supervisor is stopping (try again)", "stopping")
}

/// Waits until `fd` is ready or has failed; `false` after `until`.
pub(super) fn ready(fd: &OwnedFd, flags: PollFlags, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(fd, flags)], Some(&left)) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests;
