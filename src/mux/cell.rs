//! The cell socket: how a supervisor finds this mux, adopts it, and talks to it.
//!
//! The first supervisor comes the same way as any later one: it connects, its uid is checked, it says
//! [`ToMux::Adopt`], it hears [`FromMux::Hello`]. A newer supervisor takes the place of an older one, whose
//! last messages are heard first. While there is none, sessions go on; after `orphan_timeout` the mux
//! drains and leaves.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::driver::{Driver, Tasks};
use super::exchange::Exchange;
use super::status::parts;
use crate::post::{self, PostError};
use crate::sys;
use crate::wire::{self, Farewell, FromMux, MuxPlan, ToMux};

/// How long a connection may take to adopt.
const ADOPTS_WITHIN: Duration = Duration::from_secs(5);

/// A message with its descriptors.
type Letter = (Vec<u8>, Vec<Rc<OwnedFd>>);

/// The connection of one supervisor.
pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
    queue: RefCell<VecDeque<Letter>>,
    wake: Notify,
}

impl Link {
    /// Sends, or queues; false if the line is dead or its queue full.
    pub(super) fn send(&self, message: &FromMux, descriptors: Vec<Rc<OwnedFd>>) -> bool {
        let Ok(bytes) = serde_json::to_vec(message) else { return false };
        let letter = (bytes, descriptors);
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            match self.try_send(&letter) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        // Not bounded here: each is the end of something that this supervisor gave, which it counts until
        // it hears of that end, or the answer to a question of its own. None may be lost.
        queue.push_back(letter);
        self.wake.notify_one();
        true
    }

    fn try_send(&self, (bytes, descriptors): &Letter) -> io::Result<()> {
        let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        sys::send_datagram(&self.socket, bytes, &descriptors, SendFlags::DONTWAIT)
    }

    fn try_receive(&self, buffer: &mut [u8]) -> Result<(ToMux, Vec<OwnedFd>), PostError> {
        post::receive(&self.socket, buffer, RecvFlags::DONTWAIT)
    }

    /// The next message.
    async fn receive(&self, buffer: &mut [u8]) -> Result<(ToMux, Vec<OwnedFd>), PostError> {
        loop {
            let mut ready = self.socket.readable().await?;
            match self.try_receive(buffer) {
                Err(PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                other => return other,
            }
        }
    }

    async fn write_on(self: Rc<Self>) {
        loop {
            self.wake.notified().await;
            loop {
                let Ok(mut ready) = self.socket.writable().await else { return };
                let mut queue = self.queue.borrow_mut();
                let Some(first) = queue.front() else { break };
                match self.try_send(first) {
                    Ok(()) => drop(queue.pop_front()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                    Err(_) => return,
                }
            }
        }
    }
}

impl Driver {
    /// Accepts supervisors for as long as the mux lives.
    pub(super) async fn serve_cell(self: Rc<Self>, listener: AsyncFd<OwnedFd>) {
        self.wait_for_supervisor();
        loop {
            let Ok(mut ready) = listener.readable().await else { return };
            let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(&listener, flags) {
                Ok(socket) => socket,
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(_) => continue,
            };
            let uid = self.exchange.borrow().plan.supervisor_uid;
            if !sys::peer_credentials(&socket).is_ok_and(|peer| peer.uid == uid) {
                continue;
            }
            let Ok(socket) = sys::watch(socket) else { continue };
            spawn_local(self.clone().serve_supervisor(socket));
        }
    }

    /// Starts the clock that ends this mux, unless a supervisor comes.
    fn wait_for_supervisor(self: &Rc<Self>) {
        let clock = spawn_local(self.clone().leave_if_orphaned()).abort_handle();
        if let Some(before) = self.orphaned.replace(Some(clock)) {
            before.abort();
        }
    }

    async fn leave_if_orphaned(self: Rc<Self>) {
        let timeout = Duration::from_millis(self.exchange.borrow().plan.orphan_timeout_ms);
        tokio::time::sleep(timeout).await;
        let reason = "tenantd's supervisor is gone and none came back".to_owned();
        self.start_drain(Farewell { reason, code: 69 }, None);
    }

    fn start_drain(self: &Rc<Self>, farewell: Farewell, within: Option<Duration>) {
        self.with(|exchange, now| {
            let within = within.unwrap_or(Duration::from_millis(exchange.plan.drain_ms));
            exchange.drain(farewell, within, now);
        });
    }

    /// Serves one connection. Until it adopts, it takes nobody's place.
    async fn serve_supervisor(self: Rc<Self>, socket: AsyncFd<OwnedFd>) {
        let link = Rc::new(Link { socket, queue: RefCell::default(), wake: Notify::new() });
        let mut tasks = Tasks::default();
        tasks.spawn(link.clone().write_on());
        let mut buffer = vec![0; wire::CELL_DATAGRAM];
        match tokio::time::timeout(ADOPTS_WITHIN, link.receive(&mut buffer)).await {
            Ok(Ok((ToMux::Adopt { wire }, _))) if self.adopted(&link, wire) => {}
            _ => return,
        }
        loop {
            let heard = link.receive(&mut buffer).await;
            if !self.is_current(&link) {
                return;
            }
            match heard {
                Ok((message, descriptors)) => self.obey(message, descriptors),
                Err(PostError::Shape(_)) => {}
                Err(_) => break,
            }
        }
        *self.link.borrow_mut() = None;
        self.with(Exchange::supervisor_gone);
        self.wait_for_supervisor();
    }

    fn is_current(&self, link: &Rc<Link>) -> bool {
        self.link.borrow().as_ref().is_some_and(|now| Rc::ptr_eq(now, link))
    }

    /// Says Hello; a supervisor of another wire version gets a mux that leaves.
    fn adopted(self: &Rc<Self>, link: &Rc<Link>, wire: u32) -> bool {
        self.hear_out_the_last_one();
        let said = self.introduce(link);
        if wire != wire::VERSION {
            let reason = "tenantd was replaced by another version; connect again".to_owned();
            self.start_drain(Farewell { reason, code: 69 }, None);
            return false;
        }
        if said {
            *self.link.borrow_mut() = Some(link.clone());
            if let Some(clock) = self.orphaned.take() {
                clock.abort();
            }
            self.log.borrow_mut().ask_again();
            self.with(Exchange::supervisor_came);
            self.forget_that_it_asked();
        }
        said
    }

    /// What a supervisor sent before it died counts: sessions and children that were on their way.
    fn hear_out_the_last_one(self: &Rc<Self>) {
        let Some(last) = self.link.borrow().clone() else { return };
        let mut buffer = vec![0; wire::CELL_DATAGRAM];
        loop {
            match last.try_receive(&mut buffer) {
                Ok((message, descriptors)) => self.obey(message, descriptors),
                Err(PostError::Shape(_)) => {}
                Err(_) => return,
            }
        }
    }

    /// Hello, and what there is.
    fn introduce(&self, link: &Link) -> bool {
        let now = std::time::Instant::now();
        let exchange = self.exchange.borrow();
        let wires = self.children.borrow();
        let hello = FromMux::Hello {
            wire: wire::VERSION,
            tenant: exchange.plan.tenant.clone(),
            digest: exchange.plan.digest.clone(),
            start_digest: exchange.plan.start_digest.clone(),
            audit_head: None,
            draining: exchange.draining.is_some(),
        };
        let mut running = exchange.child_lines(now);
        running.retain(|line| wires.contains_key(&line.child));
        let mut parts = parts(exchange.session_lines(now), running).into_iter().peekable();
        let mut said = link.send(&hello, Vec::new());
        while let Some((sessions, children)) = parts.next() {
            let wires = children.iter().filter_map(|line| wires.get(&line.child));
            let pidfds = wires.map(|wire| wire.pidfd.clone()).collect();
            let last = parts.peek().is_none();
            said &= link.send(&FromMux::Inventory { sessions, children, last }, pidfds);
        }
        said
    }

    fn obey(self: &Rc<Self>, message: ToMux, descriptors: Vec<OwnedFd>) {
        match message {
            ToMux::Adopt { .. } => {}
            ToMux::Open { session, server, holder, strict } => {
                let opened = post::exactly(descriptors)
                    .map_err(io::Error::other)
                    .and_then(|fds| self.open_session(session, server, holder, strict, fds));
                if let Err(error) = opened {
                    let reason = format!("the session could not be opened: {error}");
                    self.tell(&FromMux::Closed { session, reason });
                }
            }
            ToMux::Started { child, pid, program } => {
                let adopted = post::exactly(descriptors)
                    .map_err(io::Error::other)
                    .and_then(|fds| self.adopt_child(child, pid, program, fds));
                if let Err(error) = adopted {
                    let reason = format!("its descriptors could not be used: {error}");
                    self.with(|exchange, now| exchange.child_ended(child, &reason, false, now));
                }
            }
            ToMux::NotStarted { child, reason, permanent } => {
                self.with(|exchange, now| exchange.child_ended(child, &reason, permanent, now));
            }
            ToMux::Configure => self.configure(descriptors),
            ToMux::Restart { server } => {
                self.with(|exchange, now| exchange.restart(server.as_ref(), now));
            }
            ToMux::Renew { server, children } => {
                self.with(|exchange, now| exchange.renew(&server, &children, now));
            }
            ToMux::Close { session, reason, code } => {
                let farewell = Farewell { reason, code };
                self.with(|exchange, _| exchange.close_session(session, farewell));
            }
            ToMux::Drain { reason, code, within_ms } => {
                let within = Duration::from_millis(within_ms);
                self.start_drain(Farewell { reason, code }, Some(within));
            }
            ToMux::Status { ticket } => {
                let parts = self.exchange.borrow().status(std::time::Instant::now());
                let last = parts.len();
                for (part, status) in (1..).zip(parts) {
                    self.tell(&FromMux::Status { ticket, status, last: part == last });
                }
            }
            ToMux::Log => {
                if let Ok([file]) = post::exactly::<1>(descriptors) {
                    self.log.borrow_mut().rotate(file.into());
                }
            }
            ToMux::Storage { used, limit, full } => {
                self.with(|exchange, now| exchange.storage(used, limit, full, now));
            }
            ToMux::Leave => self.over.notify_one(),
        }
    }

    fn configure(self: &Rc<Self>, descriptors: Vec<OwnedFd>) {
        let plan = post::exactly::<1>(descriptors).and_then(|[plan]| post::unseal::<MuxPlan>(plan));
        if let Ok(plan) = plan {
            self.with(|exchange, now| exchange.configure(plan, now));
        }
    }
}
