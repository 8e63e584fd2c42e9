//! What a session hears while its server cannot run, and how it learns of the cure.
//!
//! A server that is held, that keeps dying or that cannot be started ends no session: clients connect
//! once and show only what answers. They get a handshake and one tool that says what is wrong
//! ([`placard`]), and list-changed when it is cured. A strict session is ended instead.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::cross::handshake;
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::placard::{self, Notice, STATUS_TOOL};
use super::request::Request;
use super::session::{Greeting, Placard, SlotKey};
use super::start::Readiness;
use super::timers::Timer;
use crate::lifecycle::{Cause, Phase};
use crate::mcp::envelope::{self, members};
use crate::mcp::era::{self, Era};
use crate::mcp::error::{Code, Failure};
use crate::names::{ServerName, SessionId};
use crate::policy::grant::ADMIN;
use crate::wire::{Ailment, Farewell};

/// The exit code of a strict shim whose server does not run (sysexits(3), EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;
/// The lists that a server may have.
const LISTS: [&str; 3] = ["tools", "resources", "prompts"];

impl Exchange {
    /// Why the configuration keeps a server from running now.
    pub(super) fn held(&self, server: &ServerName) -> Option<&Ailment> {
        self.server_plan(server)?.held.as_ref()
    }

    /// What its deaths make of a slot, if it is to be told; a crash alone is waited for.
    pub(super) fn broken(&self, key: &SlotKey) -> Option<Ailment> {
        let slot = self.slots.get(key)?;
        let Phase::Paused { cause, .. } = slot.lifecycle.phase() else { return None };
        let last = slot.last.as_deref().unwrap_or("it failed");
        let (reason, message) = match cause {
            Cause::Crash => return None,
            Cause::CrashLoop => {
                let tenant = &self.plan.tenant;
                (
                    "crash-loop",
                    format!("the server keeps ending: {last} (see tenantd why {tenant})"),
                )
            }
            Cause::Permanent => ("not-started", format!("the server did not start: {last}")),
        };
        Some(Ailment { reason: reason.to_owned(), message, code: UNAVAILABLE })
    }

    /// What is said to who has waited for a server as long as a start may take.
    pub(super) fn late(&self, key: &SlotKey) -> Ailment {
        let last = self.slots.get(key).and_then(|slot| slot.last.as_deref());
        let last = last.map_or_else(String::new, |last| format!(", and before that: {last}"));
        let message = format!("the server has not started within server.start_timeout{last}");
        Ailment { reason: "starting".to_owned(), message, code: UNAVAILABLE }
    }

    fn notice(&self, key: &SlotKey, ailment: &Ailment, admin: bool) -> Notice {
        let slot = self.slots.get(key);
        let until = slot.and_then(|slot| match slot.lifecycle.phase() {
            Phase::Paused { until, cause: Cause::Crash | Cause::CrashLoop } => Some(until),
            _ => None,
        });
        let stderr = slot.filter(|_| admin && self.held(&key.server).is_none());
        let stderr = stderr.map(|slot| &slot.stderr);
        Notice {
            place: format!("{}/{}", self.plan.tenant, key.server),
            reason: ailment.reason.clone(),
            message: ailment.message.clone(),
            retry_after_ms: until.map(|until| millis(until.saturating_duration_since(self.now))),
            stderr: stderr.map(|lines| lines.iter().cloned().collect()).unwrap_or_default(),
        }
    }

    /// Answers a request whose server cannot run.
    pub(super) fn answer_ailing(
        &mut self,
        id: SessionId,
        request: &Request<'_>,
        ailment: &Ailment,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let key = session.slot.clone();
        // What a server wrote may be more than its users should read.
        let admin = session.holder.permissions.iter().any(|held| held == ADMIN);
        let notice = self.notice(&key, ailment, admin);
        if session.strict {
            self.refuse(id, Some(request.raw_id()), &failure(&notice));
            let farewell = Farewell { reason: ailment.message.clone(), code: ailment.code };
            return self.close_session(id, farewell);
        }
        if request.method == "subscriptions/listen" && request.is_modern() {
            return self.keep_listening(id, request);
        }
        let Some(result) = self.placard_for(id, request, &notice) else {
            return self.refuse(id, Some(request.raw_id()), &failure(&notice));
        };
        self.answer(id, request.raw_id(), &result);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.placard = Placard::Hangs;
        }
        self.watch_for_cure(&key);
        self.close_if_done(id);
    }

    fn placard_for(&mut self, id: SessionId, asked: &Request<'_>, say: &Notice) -> Option<Value> {
        let era = asked.era();
        match asked.method {
            "initialize" if asked.is_handshake() => {
                let version = asked.params.protocol_version.and_then(envelope::text);
                self.sessions.get_mut(&id)?.greeting = Greeting::Done;
                Some(placard::initialize(&version.unwrap_or_default(), say))
            }
            "server/discover" => Some(placard::discovery(say)),
            "tools/list" => Some(placard::tools(era, say)),
            "tools/call" if is_status_call(asked) => Some(placard::trouble(era, say)),
            list => placard::empty_list(era, list),
        }
    }

    /// A crash loop is left by trying: as long as a session has seen that something is wrong.
    fn watch_for_cure(&mut self, key: &SlotKey) {
        let phase = self.slots.get(key).map(|slot| slot.lifecycle.phase());
        if let Some(Phase::Paused { until, cause: Cause::CrashLoop }) = phase {
            self.timers.renew(until, Timer::Retry(key.clone()));
        }
    }

    /// Whether a session of the slot was told that something is wrong and waits for the cure.
    pub(super) fn is_watched(&self, key: &SlotKey) -> bool {
        let waits = |id: &SessionId| {
            self.sessions.get(id).is_some_and(|session| session.placard == Placard::Hangs)
        };
        self.slots.get(key).is_some_and(|slot| slot.sessions.iter().any(waits))
    }

    /// What a session that has seen a placard may ask of it later: true if this was it. For no other session.
    pub(super) fn answer_placard(
        &mut self,
        id: SessionId,
        request: &Request<'_>,
        now: Instant,
    ) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let placard = session.placard;
        let status = request.method == "tools/call" && is_status_call(request);
        let list = request.method == "tools/list" || placard::lists(request.method);
        if !(status || list) {
            return false;
        }
        let ailment = match self.want(id, now) {
            Readiness::Ready(_) if status => return self.say_all_is_well(id, request),
            Readiness::Ready(child) => return self.answer_for_lack(id, child, request),
            Readiness::Wait if placard == Placard::Taken && list => return false,
            Readiness::Wait => {
                let message = "the server is being started".to_owned();
                Ailment { reason: "starting".to_owned(), message, code: UNAVAILABLE }
            }
            Readiness::Ailing(ailment) => ailment,
            Readiness::Refuse(failure) => ailment_of(&failure),
        };
        self.answer_ailing(id, request, &ailment);
        true
    }

    fn say_all_is_well(&mut self, id: SessionId, request: &Request<'_>) -> bool {
        let place = self.sessions.get(&id).map(|session| session.slot.server.clone());
        let place = format!("{}/{}", self.plan.tenant, place.unwrap_or_else(ServerName::main));
        let result = placard::all_is_well(request.era(), &place);
        self.answer(id, request.raw_id(), &result);
        true
    }

    /// A session that had its handshake from us may ask for a list that its server does not have.
    fn answer_for_lack(&mut self, id: SessionId, child: ChildId, request: &Request<'_>) -> bool {
        let handshake = self.children.get(&child).and_then(|child| child.handshake.as_deref());
        let kind = request.method.split('/').next().unwrap_or_default();
        let lacks = handshake.is_some_and(|handshake| !handshake::has(handshake, kind));
        match placard::empty_list(request.era(), request.method).filter(|_| lacks) {
            Some(empty) => {
                self.answer(id, request.raw_id(), &empty);
                true
            }
            None => false,
        }
    }

    fn answer(&mut self, session: SessionId, raw_id: &[u8], result: &Value) {
        let line = era::result(raw_id, result.to_string().as_bytes());
        self.send(session, |out| out.extend_from_slice(&line));
    }

    /// The server of a slot has become unable to run: what its sessions listed is not there now.
    pub(super) fn tell_of_onset(&mut self, key: &SlotKey) {
        for id in self.sessions_of(key) {
            self.tell_changed(id, "tools");
        }
    }

    /// The server runs again: who saw a placard is told what there is instead.
    pub(super) fn tell_of_cure(&mut self, key: &SlotKey, handshake: &serde_json::value::RawValue) {
        for id in self.sessions_of(key) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if session.placard != Placard::Hangs {
                continue;
            }
            session.placard = Placard::Taken;
            for list in LISTS.iter().filter(|list| handshake::has(handshake, list)) {
                self.tell_changed(id, list);
            }
        }
    }

    fn sessions_of(&self, key: &SlotKey) -> Vec<SessionId> {
        self.slots.get(key).map(|slot| slot.sessions.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn tell_changed(&mut self, id: SessionId, list: &str) {
        let method = format!("notifications/{list}/list_changed");
        let Some(session) = self.sessions.get(&id) else { return };
        let mut lines: Vec<_> =
            session.listens.iter().filter_map(|listen| listen.changed(list, &method)).collect();
        if session.greeting == Greeting::Done && session.era == Some(Era::Legacy) {
            lines.push(era::notification(&method, None));
        }
        for line in lines {
            self.send(id, |out| out.extend_from_slice(&line));
        }
    }
}

/// What a refusal means for who asks how it is.
pub(super) fn ailment_of(failure: &Failure) -> Ailment {
    let (reason, message) = (failure.reason.to_string(), failure.message.clone());
    Ailment { reason, message, code: UNAVAILABLE }
}

fn failure(notice: &Notice) -> Failure {
    let message = format!("{} is not available: {}", notice.place, notice.message);
    let mut failure = Failure::new(Code::Unavailable, notice.reason.clone(), message);
    failure.retry_after_ms = notice.retry_after_ms;
    failure
}

fn is_status_call(request: &Request<'_>) -> bool {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        name: &'a serde_json::value::RawValue,
    }
    let params = request.envelope.params.and_then(|params| members::<Named<'_>>(params).ok());
    params.is_some_and(|named| envelope::text(named.name).is_some_and(|name| name == STATUS_TOOL))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
