//! The driver: reads what the exchange is told, writes what it leaves, and does its acts.
//!
//! One thread, one task for each direction of each descriptor. A task reads a chunk, hands its lines to
//! the exchange and then [`settles`](Driver::settle): what can be written at once is written by that
//! same task, so that a call crosses this process without a second wake-up; what cannot waits for its
//! writer task. No borrow of the exchange lives across an await.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};

use super::cell::Link;
use super::children::ChildWire;
use super::exchange::Exchange;
use super::log::ServerLog;
use super::memory::Memory;
use super::outbox::{Act, ChildId, End};
use super::pipe::{Input, Output, Turn};
use super::sessions::SessionWire;
use crate::mcp::line::Framer;
use crate::names::{ServerName, SessionId};
use crate::wire::{FromMux, MuxPlan};

/// One read, bytes: what a pipe holds.
const CHUNK: usize = 64 * 1024;
/// A client of whose lines (or for whom) this much is waiting is not read from, bytes.
const HIGH_WATER: usize = 256 * 1024;

/// See the module.
pub(super) struct Driver {
    pub(super) exchange: RefCell<Exchange>,
    pub(super) sessions: RefCell<HashMap<SessionId, SessionWire>>,
    pub(super) children: RefCell<HashMap<ChildId, ChildWire>>,
    pub(super) log: RefCell<ServerLog>,
    memory: RefCell<Memory>,
    /// The line to the supervisor, while there is one.
    pub(super) link: RefCell<Option<Rc<Link>>>,
    /// The clock that ends this mux where no supervisor comes.
    pub(super) orphaned: RefCell<Option<AbortHandle>>,
    scratch: RefCell<Box<[u8]>>,
    /// Some queue has room again.
    room: Notify,
    alarm: Notify,
    armed: Cell<Option<Instant>>,
    /// A session was opened at least once.
    pub(super) used: Cell<bool>,
    /// Sessions that are being closed: their last words are still to be said.
    pub(super) closing: Cell<usize>,
    /// The supervisor was asked whether this mux may leave.
    asked_to_leave: Cell<bool>,
    /// The mux is to exit.
    pub(super) over: Notify,
}

impl Driver {
    pub(super) fn new(
        plan: MuxPlan,
        entropy: [u8; 32],
        log: std::fs::File,
        memory: std::fs::File,
    ) -> Rc<Self> {
        let now = Instant::now();
        let (memory, known) = Memory::read(memory);
        Rc::new(Self {
            exchange: RefCell::new(Exchange::new(plan, known, entropy, now)),
            memory: RefCell::new(memory),
            sessions: RefCell::default(),
            children: RefCell::default(),
            log: RefCell::new(ServerLog::new(log, now)),
            link: RefCell::default(),
            orphaned: RefCell::default(),
            scratch: RefCell::new(vec![0; CHUNK].into_boxed_slice()),
            room: Notify::new(),
            alarm: Notify::new(),
            armed: Cell::new(None),
            used: Cell::new(false),
            closing: Cell::new(0),
            asked_to_leave: Cell::new(false),
            over: Notify::new(),
        })
    }

    /// Lets the exchange act, then does what it left.
    pub(super) fn with<T>(self: &Rc<Self>, event: impl FnOnce(&mut Exchange, Instant) -> T) -> T {
        let result = event(&mut self.exchange.borrow_mut(), Instant::now());
        self.settle();
        result
    }

    /// Writes what can be written and does what is to be done, until there is nothing left.
    pub(super) fn settle(self: &Rc<Self>) {
        loop {
            let act = self.exchange.borrow_mut().out.next_act();
            if let Some(act) = act {
                self.perform(act);
                continue;
            }
            let dirty = self.exchange.borrow_mut().out.next_dirty();
            match dirty {
                Some(end) => self.flush_or_wake(end),
                None => break,
            }
        }
        self.rearm();
        self.leave_if_empty();
    }

    fn perform(self: &Rc<Self>, act: Act) {
        match act {
            Act::Ask { child, server, holder } => self.ask(child, server, holder),
            Act::CloseSession { session, farewell } => self.close_session(session, farewell),
            Act::StopChild { child, patience } => self.stop_child(child, patience),
            Act::ForgetChild { child, server, reason } => {
                self.children.borrow_mut().remove(&child);
                // What waited for its turn there holds nobody up any more.
                self.room.notify_waiters();
                self.tell(&FromMux::Gone { child, server, reason });
            }
            Act::Remember { program } => self.remember(&program),
            Act::Log { server, text } => self.write_log(&server, text.as_bytes()),
        }
    }

    fn remember(&self, program: &str) {
        if let Some(known) = self.exchange.borrow().known.get(program) {
            self.memory.borrow_mut().write(program, known);
        }
    }

    fn ask(
        self: &Rc<Self>,
        child: ChildId,
        server: ServerName,
        holder: Option<crate::wire::Holder>,
    ) {
        // Where there is no supervisor the next one is asked again.
        self.tell(&FromMux::Start { child, server, holder });
    }

    /// Sends to the supervisor, if there is one.
    pub(super) fn tell(&self, message: &FromMux) -> bool {
        self.link.borrow().as_ref().is_some_and(|link| link.send(message, Vec::new()))
    }

    pub(super) fn write_log(&self, server: &ServerName, text: &[u8]) {
        if self.log.borrow_mut().write(server, text, Instant::now()) {
            self.tell(&FromMux::LogFull);
        }
    }

    fn output(&self, end: End) -> Option<Rc<Output>> {
        match end {
            End::Session(id) => self.sessions.borrow().get(&id).map(|wire| wire.output.clone()),
            End::Child(id) => self.children.borrow().get(&id).and_then(ChildWire::stdin),
        }
    }

    fn flush_or_wake(self: &Rc<Self>, end: End) {
        let Some(output) = self.output(end) else { return };
        if output.blocked.get() {
            return;
        }
        match self.flush(end, &output) {
            Turn::Some(_) => self.next_turns(end),
            Turn::Blocked => {
                output.blocked.set(true);
                output.wake.notify_one();
                if let End::Child(child) = end {
                    self.exchange.borrow_mut().child_full(child);
                }
            }
            Turn::Over => self.broken(end),
        }
    }

    /// What was waiting for its turn at a server goes on.
    fn next_turns(&self, end: End) {
        let End::Child(child) = end else { return };
        if self.exchange.borrow_mut().give_turns(child, Instant::now()) {
            self.room.notify_waiters();
        }
    }

    /// Writes a queue until it is empty (`Some`), there is no room, or the reader is gone.
    pub(super) fn flush(&self, end: End, output: &Output) -> Turn {
        let mut exchange = self.exchange.borrow_mut();
        let Some(queue) = exchange.out.queue(end) else { return Turn::Some(0) };
        while !queue.front().is_empty() {
            match output.write(queue.front()) {
                Turn::Some(done) => queue.advance(done),
                other => return other,
            }
        }
        Turn::Some(0)
    }

    /// Nobody reads there any more.
    fn broken(self: &Rc<Self>, end: End) {
        match end {
            End::Session(id) => self.client_is_gone(id),
            // Its death is told by its keeper; until then nothing can be written.
            End::Child(_) => self.exchange.borrow_mut().out.forget(end),
        }
    }

    /// The writer task of one end: writes on where a flush found no room.
    pub(super) async fn write_on(self: Rc<Self>, end: End, output: Rc<Output>) {
        loop {
            output.wake.notified().await;
            loop {
                match output.turn(|| self.flush(end, &output)).await {
                    Turn::Some(_) => break,
                    Turn::Blocked => {}
                    Turn::Over => {
                        self.broken(end);
                        self.settle();
                        return;
                    }
                }
            }
            output.blocked.set(false);
            if let End::Child(child) = end {
                self.with(|exchange, now| exchange.child_has_room(child, now));
            }
            self.room.notify_waiters();
        }
    }

    /// Waits while too much lies before or behind a client.
    pub(super) async fn wait_for_room(&self, session: SessionId) {
        loop {
            let room = self.room.notified();
            if self.exchange.borrow().backlog(session) <= HIGH_WATER {
                return;
            }
            room.await;
        }
    }

    /// Reads one chunk and feeds its lines to `each`.
    pub(super) async fn read_chunk(
        self: &Rc<Self>,
        input: &Input,
        framer: &RefCell<Framer>,
        each: impl FnMut(&mut Exchange, crate::mcp::line::Line<'_>, Instant),
    ) -> Turn {
        let turn = input.turn(|input| self.read_now(input, framer, each)).await;
        self.settle();
        turn
    }

    /// Reads what is there, once; says how much room there was.
    pub(super) fn read_now(
        &self,
        input: &Input,
        framer: &RefCell<Framer>,
        mut each: impl FnMut(&mut Exchange, crate::mcp::line::Line<'_>, Instant),
    ) -> (Turn, usize) {
        let mut scratch = self.scratch.borrow_mut();
        let turn = input.read(&mut scratch);
        if let Turn::Some(got) = turn {
            let now = Instant::now();
            let mut exchange = self.exchange.borrow_mut();
            let chunk = scratch.get(..got).unwrap_or_default();
            framer.borrow_mut().feed(chunk, |line| each(&mut exchange, line, now));
        }
        (turn, scratch.len())
    }

    fn rearm(&self) {
        let next = self.exchange.borrow().next_deadline();
        let earlier = match (next, self.armed.get()) {
            (Some(next), Some(armed)) => next < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier {
            self.alarm.notify_one();
        }
    }

    /// The alarm task: ticks the exchange when something is due.
    pub(super) async fn keep_time(self: Rc<Self>) {
        loop {
            let next = self.exchange.borrow().next_deadline();
            self.armed.set(next);
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {
                    self.with(super::exchange::Exchange::tick);
                    // Lines may have waited too long for a turn, and be gone.
                    self.room.notify_waiters();
                }
                () = self.alarm.notified() => {}
            }
        }
    }

    fn leave_if_empty(self: &Rc<Self>) {
        let exchange = self.exchange.borrow();
        if !exchange.is_empty() || self.closing.get() > 0 {
            self.asked_to_leave.set(false);
        } else if exchange.draining.is_some() {
            self.over.notify_one();
        } else if self.used.get() && !self.asked_to_leave.get() && exchange.out_is_idle() {
            self.asked_to_leave.set(self.tell(&FromMux::MayLeave));
        }
    }

    /// Asks again, for a new supervisor.
    pub(super) fn forget_that_it_asked(self: &Rc<Self>) {
        self.asked_to_leave.set(false);
        self.settle();
    }

    /// Leaves on its own where nobody ever opens a session or adopts it.
    pub(super) async fn leave_if_unused(self: Rc<Self>) {
        const UNUSED: Duration = Duration::from_secs(10);
        tokio::time::sleep(UNUSED).await;
        self.used.set(true);
        self.settle();
    }
}

/// Tasks that end with their owner.
#[derive(Debug, Default)]
pub(super) struct Tasks(Vec<AbortHandle>);

impl Tasks {
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.0.push(spawn_local(task).abort_handle());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
