//! Starting a child and shaking hands with it: once for each child, whatever comes and goes.
//!
//! The era is found by probing: `server/discover` first; an answer means modern, an error or two
//! seconds of silence mean legacy, and then `initialize` follows on the same connection (2026-07-28,
//! basic/transports/stdio#backward-compatibility). Some servers take their first line for the choice of
//! an era, so what a server was found to speak is remembered. A child of one session gets that session's
//! own `initialize`, so that it sees what a direct connection would show it.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::alone;
use super::child::{Child, Kind, Owner, Pending, Shake};
use super::cross::handshake;
use super::dress::context_value;
use super::exchange::Exchange;
use super::lists::List;
use super::memory;
use super::outbox::{Act, ChildId, End};
use super::request::look_inside;
use super::session::{SlotKey, Whose};
use super::timers::Timer;
use crate::config::tenant::Share;
use crate::lifecycle::{Cause, Effect, Event, Phase};
use crate::mcp::envelope::{Envelope, members};
use crate::mcp::era::{self, Era, UNSUPPORTED_VERSION};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::Splice;
use crate::names::SessionId;
use crate::wire::{Ailment, ServerPlan};

/// How long a probe stays unanswered before the server is taken for legacy.
const PROBE: Duration = Duration::from_secs(2);

/// How many questions of a handshake a server may refuse before it is given up: in either order of the
/// eras, and one more where a probe was answered too late.
const HANDSHAKES: u64 = 3;

/// Whether a session's request can go to its server now.
pub(super) enum Readiness {
    Ready(ChildId),
    /// The server is starting, or pauses for a moment.
    Wait,
    Refuse(Failure),
    /// The server cannot run, which can be cured: its sessions stay.
    Ailing(Ailment),
}

impl Exchange {
    /// A session needs its server.
    pub(super) fn want(&mut self, session: SessionId, now: Instant) -> Readiness {
        let Some(key) = self.sessions.get(&session).map(|session| session.slot.clone()) else {
            return Readiness::Wait;
        };
        self.want_slot(&key, now)
    }

    pub(super) fn want_slot(&mut self, key: &SlotKey, now: Instant) -> Readiness {
        if let Some(held) = self.held(&key.server) {
            return Readiness::Ailing(held.clone());
        }
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
            Effect::Refuse { until, cause: Cause::Crash } => {
                self.timers.renew(until, Timer::Retry(key.clone()));
                Readiness::Wait
            }
            Effect::Refuse { .. } => match self.broken(key) {
                Some(ailment) => Readiness::Ailing(ailment),
                None => Readiness::Wait,
            },
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
        let mut child = Child::new(id, key.clone(), now);
        child.has_safe_tools = !slot.hints.none_is_safe();
        self.children.insert(id, child);
        self.ask_again(id, now);
    }

    /// Starts what `start = "always"` wants running, with or without a session.
    pub(super) fn start_always(&mut self, now: Instant) {
        let always = |server: &&ServerPlan| server.always && server.share == Share::Tenant;
        let servers: Vec<_> =
            self.plan.servers.iter().filter(always).map(|server| server.name.clone()).collect();
        for server in servers {
            let key = SlotKey { server, whose: Whose::Tenant };
            self.slot(&key);
            self.keep_running(&key, now);
        }
    }

    /// Whether a slot's child runs also without a session.
    pub(super) fn is_always(&self, key: &SlotKey) -> bool {
        key.whose == Whose::Tenant
            && self.server_plan(&key.server).is_some_and(|server| server.always)
    }

    /// The supervisor started the child: its descriptors are there.
    pub(super) fn child_started(&mut self, id: ChildId, pid: i32, program: String, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.alive = true;
        child.pid = Some(pid);
        let known = self.known.get(&program);
        child.era = known.map(|known| known.era);
        child.handshake = known.map(|known| known.handshake.clone());
        child.program = program;
        if child.stopping {
            return self.end_child(id);
        }
        let Some(slot) = self.slots.get_mut(&child.slot) else { return };
        slot.lifecycle.on(Event::Started, now);
        let own_hello = matches!(child.slot.whose, Whose::Session(session)
            if self.sessions.get(&session).is_some_and(|s| s.hello.is_some()));
        let skip = std::mem::take(&mut slot.died_probing);
        let (key, known) = (child.slot.clone(), child.era == Some(Era::Legacy));
        // What greets a client is remembered, where it is; the rest waits on.
        self.replay_waiting(&key, now);
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
        self.timers.renew(now + PROBE, Timer::Probe(id));
    }

    fn send_initialize(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.shake = Shake::Initializing;
        let ours = child.take_id();
        let slot = child.slot.clone();
        let session = match slot.whose {
            Whose::Session(session) => self.sessions.get(&session),
            Whose::Tenant | Whose::User(_) => None,
        };
        let own = session.and_then(|session| {
            let hello = session.hello.as_deref();
            let hello = hello.map(|params| own_hello(ours, params, &session.context));
            hello.or_else(|| Some(introduce(ours, session.introduction.as_deref()?)))
        });
        let line = match own {
            Some(line) => line,
            None => {
                let shared = self
                    .server_plan(&slot.server)
                    .map(|server| server.shared_capabilities.as_slice());
                era::initialize_request(ours, shared.unwrap_or_default())
            }
        };
        self.send_own(id, ours, Kind::Initialize, &line, now);
    }

    pub(super) fn send_own(
        &mut self,
        child: ChildId,
        id: u64,
        kind: Kind,
        line: &[u8],
        now: Instant,
    ) {
        self.out.push(End::Child(child), line);
        let pending = Pending::own(kind, Owner::Own, now);
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
            (Kind::Health, ..) => self.is_healthy(id, now),
            (Kind::Compare(list, was), ..) => self.compared(id, *list, *was, envelope),
            (Kind::Effects, _, Some(result)) => self.note_list(id, List::Tools, false, result),
            (Kind::Watch(uri), _, result) => self.stream_watched(id, uri, result.is_some()),
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
        let modern = code.is_some_and(|error| error.code == UNSUPPORTED_VERSION);
        // A session's own handshake goes first, to servers that may know none. Our ids count what it heard.
        let heard = self.children.get(&id).map_or(0, |child| child.next_id - 1);
        if heard == 1 || (modern && heard <= HANDSHAKES) {
            // It speaks the modern era after all; its discovery is on the way or is asked for now.
            return self.send_probe(id, now);
        }
        let error = envelope.error.map_or("", |error| error.get());
        let error: String = error.chars().take(300).collect();
        self.give_up(id, &format!("it refused the handshake: {error}"), now);
    }

    fn ready(&mut self, id: ChildId, era: Era, result: &RawValue, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.shake = Shake::Done;
        child.era = Some(era);
        child.makes_tasks = memchr::memmem::find(result.get().as_bytes(), b"task").is_some();
        child.handshake = Some(result.to_owned());
        child.version = handshake::server_version(result);
        let key = child.slot.clone();
        self.timers
            .clear_all(|timer| matches!(timer, Timer::Start(c) | Timer::Probe(c) if *c == id));
        if era == Era::Legacy {
            let line = era::notification("notifications/initialized", None);
            self.out.push(End::Child(id), &line);
        }
        let program = child.program.clone();
        if memory::learn(&mut self.known, program.clone(), era, result) {
            self.out.act(Act::Remember { program });
        }
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.lifecycle.on(Event::Ready, now);
        }
        match era {
            Era::Legacy => {
                self.restore(id, now);
                self.renew_streams(id);
            }
            Era::Modern => {
                self.renew_listens(id);
                self.renew_feeds(id);
            }
        }
        self.compare_lists(id, now);
        self.learn_effects(id, now);
        self.tell_of_cure(&key, result);
        self.watch_health(id, now);
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
        if let Some(level) = level {
            self.tell_level(id, level, now);
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
        let Some(ours) = self.ask_own(id, Kind::Plain, method, params, now) else { return };
        self.forget_in_time(id, ours);
    }

    /// A request of ours: gives its id.
    pub(super) fn ask_own(
        &mut self,
        id: ChildId,
        kind: Kind,
        method: &str,
        params: &serde_json::Value,
        now: Instant,
    ) -> Option<u64> {
        let ours = self.children.get_mut(&id)?.take_id();
        let line = era::request(ours, method, params);
        self.send_own(id, ours, kind, &line, now);
        Some(ours)
    }
}

/// An `initialize` with these raw `params`.
fn introduce(id: u64, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{params}}}"#).into_bytes()
}

/// A session's own `initialize` for a child of its own, as it came but for the id. What its client put in
/// the place of our context is replaced there, as in each of its requests: a server may believe it.
fn own_hello(id: u64, params: &RawValue, context: &str) -> Vec<u8> {
    let mut splice = Splice::of(params.get().as_bytes());
    if let Ok((_, meta)) = look_inside(Some(params))
        && let Some(theirs) = meta.context
    {
        splice.replace(theirs, context_value(context).as_bytes());
    }
    let mut params = Vec::new();
    splice.write(&mut params);
    introduce(id, &String::from_utf8_lossy(&params))
}
