//! Starting a child and shaking hands with it: once for each child, whatever comes and goes.
//!
//! The era is found by probing: `server/discover` first; an answer means modern, an error or two
//! seconds of silence mean legacy, and then `initialize` follows on the same connection (2026-07-28,
//! basic/transports/stdio#backward-compatibility). Some servers take their first line for the choice of
//! an era, so what a server was found to speak is remembered. A child of one session gets that session's
//! own `initialize`, so that it sees what a direct connection would show it.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::alone;
use super::child::{Child, Kind, Owner, Pending, Shake};
use super::cross;
use super::exchange::Exchange;
use super::outbox::{ChildId, End};
use super::session::{SlotKey, Whose};
use super::timers::Timer;
use crate::config::tenant::Share;
use crate::lifecycle::{Effect, Event, Phase};
use crate::mcp::envelope::{Envelope, members};
use crate::mcp::era::{self, Era, UNSUPPORTED_VERSION};
use crate::mcp::error::{Code, Failure};
use crate::names::SessionId;
use crate::wire::ServerPlan;

/// How long a probe stays unanswered before the server is taken for legacy.
const PROBE: Duration = Duration::from_secs(2);
/// A pause up to this long is waited for; a longer one refuses at once and says when to come back.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// Whether a session's request can go to its server now.
pub(super) enum Readiness {
    Ready(ChildId),
    /// The server is starting, or pauses for a moment.
    Wait,
    Refuse(Failure),
}

impl Exchange {
    /// A session needs its server.
    pub(super) fn want(&mut self, session: SessionId, now: Instant) -> Readiness {
        let Some(key) = self.sessions.get(&session).map(|session| session.slot.clone()) else {
            return Readiness::Wait;
        };
        self.want_slot(&key, now)
    }

    fn want_slot(&mut self, key: &SlotKey, now: Instant) -> Readiness {
        let Some(slot) = self.slots.get_mut(key) else { return Readiness::Wait };
        if let (Phase::Running { .. }, Some(child)) = (slot.lifecycle.phase(), slot.child) {
            return Readiness::Ready(child);
        }
        if matches!(slot.lifecycle.phase(), Phase::Idle | Phase::Paused { .. })
            && let Some(failure) = self.too_many_children(key)
        {
            return Readiness::Refuse(failure);
        }
        let abandoned = self.is_abandoned(now);
        let Some(slot) = self.slots.get_mut(key) else { return Readiness::Wait };
        if abandoned && slot.child.is_none() {
            return Readiness::Refuse(alone::nobody());
        }
        match slot.lifecycle.on(Event::Wanted, now) {
            Effect::Ask => {
                self.ask_for_child(key, now);
                Readiness::Wait
            }
            Effect::Refuse { until } if !slot.broken && until - now <= SHORT_PAUSE => {
                self.timers.set(until, Timer::Retry(key.clone()));
                Readiness::Wait
            }
            Effect::Refuse { until } => {
                Readiness::Refuse(not_before(slot.last.as_deref(), until, now))
            }
            _ => Readiness::Wait,
        }
    }

    fn too_many_children(&self, key: &SlotKey) -> Option<Failure> {
        if key.whose == Whose::Tenant {
            return None;
        }
        let most = self.server_plan(&key.server)?.max_children;
        let there = self.children.values().filter(|c| c.slot.server == key.server).count();
        (there >= most as usize).then(|| {
            Failure::new(
                Code::TooMany,
                "max-children",
                format!(
                    "server \"{}\" has {most} children already (server.max_children)",
                    key.server
                ),
            )
        })
    }

    fn ask_for_child(&mut self, key: &SlotKey, now: Instant) {
        let id = self.next_child;
        self.next_child += 1;
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.child = Some(id);
        slot.starts += 1;
        self.children.insert(id, Child::new(id, key.clone(), now));
        self.ask_again(id, now);
    }

    /// Starts what `start = "always"` wants running, with or without a session.
    pub(super) fn start_always(&mut self, now: Instant) {
        let always = |server: &&ServerPlan| server.always && server.share == Share::Tenant;
        let servers: Vec<_> =
            self.plan.servers.iter().filter(always).map(|server| server.name.clone()).collect();
        for server in servers {
            let key = SlotKey { server, whose: Whose::Tenant };
            self.slots.entry(key.clone()).or_default();
            self.keep_running(&key, now);
        }
    }

    /// Wants a slot's child; where it pauses, wants it again when the pause is over.
    fn keep_running(&mut self, key: &SlotKey, now: Instant) {
        if self.draining.is_none()
            && let Readiness::Refuse(_) = self.want_slot(key, now)
            && let Some(Phase::Paused { until }) =
                self.slots.get(key).map(|slot| slot.lifecycle.phase())
            // Else there is no supervisor: the next one starts it.
            && until > now
        {
            self.timers.set(until, Timer::Retry(key.clone()));
        }
    }

    /// Whether a slot's child runs also without a session.
    pub(super) fn is_always(&self, key: &SlotKey) -> bool {
        key.whose == Whose::Tenant
            && self.server_plan(&key.server).is_some_and(|server| server.always)
    }

    /// Somebody who waits for a slot's server.
    pub(super) fn waiter(&self, key: &SlotKey) -> Option<SessionId> {
        let waits = |id: &&SessionId| {
            self.sessions.get(*id).is_some_and(|session| !session.waiting.is_empty())
        };
        self.slots.get(key)?.sessions.iter().find(waits).copied()
    }

    /// A pause is over.
    pub(super) fn retry(&mut self, key: &SlotKey, now: Instant) {
        if self.is_always(key) {
            return self.keep_running(key, now);
        }
        if self.waiter(key).is_some()
            && let Readiness::Refuse(failure) = self.want_slot(key, now)
        {
            self.fail_waiting(key, &failure);
        }
    }

    /// The supervisor started the child: its descriptors are there.
    pub(super) fn child_started(&mut self, id: ChildId, pid: i32, program: String, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.alive = true;
        child.pid = Some(pid);
        child.program = program;
        if child.stopping {
            return self.end_child(id);
        }
        let Some(slot) = self.slots.get_mut(&child.slot) else { return };
        slot.lifecycle.on(Event::Started, now);
        let own_hello = matches!(child.slot.whose, Whose::Session(session)
            if self.sessions.get(&session).is_some_and(|s| s.hello.is_some()));
        let skip = std::mem::take(&mut slot.died_probing);
        let known = self.known.get(&child.slot.server) == Some(&Era::Legacy);
        if own_hello || known || skip {
            self.send_initialize(id, now);
        } else {
            self.send_probe(id, now);
        }
    }

    fn send_probe(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.shake = Shake::Probing;
        let ours = child.take_id();
        let line = era::discover_request(ours);
        self.send_own(id, ours, Kind::Discover, &line, now);
        self.timers.set(now + PROBE, Timer::Probe(id));
    }

    fn send_initialize(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.shake = Shake::Initializing;
        let ours = child.take_id();
        let slot = child.slot.clone();
        let hello = match slot.whose {
            Whose::Session(session) => self.sessions.get(&session).and_then(|s| s.hello.as_deref()),
            Whose::Tenant | Whose::User(_) => None,
        };
        let line = match hello {
            Some(params) => format!(
                r#"{{"jsonrpc":"2.0","id":{ours},"method":"initialize","params":{}}}"#,
                params.get()
            )
            .into_bytes(),
            None => {
                let shared = self
                    .server_plan(&slot.server)
                    .map(|server| server.shared_capabilities.as_slice());
                era::initialize_request(ours, shared.unwrap_or_default())
            }
        };
        self.send_own(id, ours, Kind::Initialize, &line, now);
    }

    fn send_own(&mut self, child: ChildId, id: u64, kind: Kind, line: &[u8], now: Instant) {
        self.out.push(End::Child(child), line);
        let pending = Pending {
            owner: Owner::Own,
            kind,
            token: None,
            wants_log: false,
            born: now,
            deadline: None,
            cancelled: false,
        };
        if let Some(child) = self.children.get_mut(&child) {
            child.pending.insert(id, pending);
        }
    }

    /// The probe stayed unanswered: a legacy server that ignores what it does not know.
    pub(super) fn probe_late(&mut self, id: ChildId, now: Instant) {
        if self.children.get(&id).is_some_and(|child| child.shake == Shake::Probing) {
            self.send_initialize(id, now);
        }
    }

    /// An answer to something that we asked.
    pub(super) fn own_response(
        &mut self,
        id: ChildId,
        kind: &Kind,
        envelope: &Envelope<'_>,
        now: Instant,
    ) {
        let Some(child) = self.children.get(&id) else { return };
        match (kind, child.shake, envelope.result) {
            // Also where it comes late, after `initialize` was sent: this server is modern.
            (Kind::Discover, Shake::Probing | Shake::Initializing, Some(result)) => {
                self.ready(id, Era::Modern, result, now);
            }
            (Kind::Discover, Shake::Probing, None) => self.send_initialize(id, now),
            (Kind::Initialize, Shake::Initializing, Some(result)) => {
                self.ready(id, Era::Legacy, result, now);
            }
            (Kind::Initialize, Shake::Initializing, None) => {
                self.initialize_failed(id, envelope, now);
            }
            _ => {}
        }
    }

    fn initialize_failed(&mut self, id: ChildId, envelope: &Envelope<'_>, now: Instant) {
        #[derive(Deserialize)]
        struct Code {
            code: i64,
        }
        let code = envelope.error.and_then(|error| members::<Code>(error).ok());
        if code.is_some_and(|error| error.code == UNSUPPORTED_VERSION) {
            // It speaks the modern era after all; its discovery is on the way or is asked for now.
            return self.send_probe(id, now);
        }
        let error = envelope.error.map_or("", |error| error.get());
        let error: String = error.chars().take(300).collect();
        self.give_up(id, &format!("it refused the handshake: {error}"), now);
    }

    fn ready(&mut self, id: ChildId, era: Era, result: &serde_json::value::RawValue, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.shake = Shake::Done;
        child.era = Some(era);
        child.makes_tasks = memchr::memmem::find(result.get().as_bytes(), b"task").is_some();
        child.handshake = Some(result.to_owned());
        child.version = cross::server_version(result);
        let key = child.slot.clone();
        self.timers
            .clear_all(|timer| matches!(timer, Timer::Start(c) | Timer::Probe(c) if *c == id));
        if era == Era::Legacy {
            let line = era::notification("notifications/initialized", None);
            self.out.push(End::Child(id), &line);
        }
        self.known.insert(key.server.clone(), era);
        let mut again = false;
        if let Some(slot) = self.slots.get_mut(&key) {
            again = slot.starts > 1;
            slot.broken = false;
            slot.lifecycle.on(Event::Ready, now);
        }
        if era == Era::Legacy {
            self.restore(id, now);
        }
        if again {
            self.announce(id, result);
        }
        self.replay_waiting(&key, now);
        self.arm_idle(&key, now);
    }

    /// A restarted legacy server gets the subscriptions and the log level of its sessions again.
    fn restore(&mut self, id: ChildId, now: Instant) {
        let sessions = self.attached(id);
        let held = sessions.iter().filter_map(|session| self.sessions.get(session));
        let mut uris: Vec<String> =
            held.clone().flat_map(|session| session.subscriptions.iter().cloned()).collect();
        let level = held.filter_map(|session| session.level).min();
        uris.sort();
        uris.dedup();
        for uri in uris {
            self.own_request(id, "resources/subscribe", &serde_json::json!({"uri": uri}), now);
        }
        if let Some(name) = level.and_then(era::level_name) {
            self.own_request(id, "logging/setLevel", &serde_json::json!({"level": name}), now);
        }
    }

    /// What a session listed before a restart may not be what the server has now.
    fn announce(&mut self, id: ChildId, handshake: &serde_json::value::RawValue) {
        for list in cross::lists_that_change(handshake) {
            let line = era::notification(&format!("notifications/{list}/list_changed"), None);
            self.tell_everyone(id, &line);
        }
    }

    /// A request of ours whose answer does not matter.
    pub(super) fn own_request(
        &mut self,
        id: ChildId,
        method: &str,
        params: &serde_json::Value,
        now: Instant,
    ) {
        let Some(child) = self.children.get_mut(&id) else { return };
        let ours = child.take_id();
        let line = era::request(ours, method, params);
        self.send_own(id, ours, Kind::Plain, &line, now);
    }

    fn replay_waiting(&mut self, key: &SlotKey, now: Instant) {
        self.each_waiting(key, |exchange, session, line| {
            exchange.client_message(session, line, now);
        });
    }

    /// Tells everyone who waits for a slot's server that it does not come.
    pub(super) fn fail_waiting(&mut self, key: &SlotKey, failure: &Failure) {
        self.each_waiting(key, |exchange, session, line| {
            let id = Envelope::read(line).ok().and_then(|envelope| envelope.id);
            if let Some(id) = id {
                exchange.refuse(session, Some(id.get().as_bytes()), failure);
            }
        });
    }

    /// Takes every line that waits for a slot's server, in each session's order.
    fn each_waiting(&mut self, key: &SlotKey, each: impl Fn(&mut Self, SessionId, &[u8])) {
        let slot = self.slots.get(key);
        let sessions: Vec<_> =
            slot.map(|slot| slot.sessions.iter().copied().collect()).unwrap_or_default();
        for id in sessions {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let lines = session.take_waiting();
            session.replaying = true;
            for line in lines {
                each(self, id, &line);
            }
            if let Some(session) = self.sessions.get_mut(&id) {
                session.replaying = false;
            }
            self.close_if_done(id);
        }
    }
}

fn not_before(last: Option<&str>, until: Instant, now: Instant) -> Failure {
    let pause = until.saturating_duration_since(now);
    let retry = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let why = last.unwrap_or("it failed");
    let mut failure = Failure::new(
        Code::Unavailable,
        "server-down",
        format!("the server is down: {why}; the next start is in {:.1} s", pause.as_secs_f64()),
    );
    failure.retry_after_ms = Some(retry);
    failure
}
