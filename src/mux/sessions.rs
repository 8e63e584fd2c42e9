//! The descriptors of client sessions and the tasks that read and write them.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_local;

use super::driver::{Driver, Tasks};
use super::outbox::End;
use super::pipe::{Input, Output, Turn};
use crate::mcp::line::Framer;
use crate::names::{ServerName, SessionId};
use crate::sys;
use crate::wire::{Farewell, FromMux, Holder};

/// How long a closing session may take to read what is queued for it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One session's descriptors.
pub(super) struct SessionWire {
    pub(super) output: Rc<Output>,
    lifeline: Rc<AsyncFd<OwnedFd>>,
    _tasks: Tasks,
}

impl Driver {
    /// Takes a session over: its stdin, stdout and lifeline.
    pub(super) fn open_session(
        self: &Rc<Self>,
        id: SessionId,
        server: ServerName,
        holder: Holder,
        strict: bool,
        [stdin, stdout, lifeline]: [OwnedFd; 3],
    ) -> io::Result<()> {
        let input = Input::new(stdin)?;
        let output = Rc::new(Output::new(stdout)?);
        let lifeline = Rc::new(sys::watch(lifeline)?);
        let mut tasks = Tasks::default();
        tasks.spawn(self.clone().read_client(id, input));
        tasks.spawn(self.clone().write_on(End::Session(id), output.clone()));
        tasks.spawn(self.clone().watch_shim(id, lifeline.clone()));
        self.sessions.borrow_mut().insert(id, SessionWire { output, lifeline, _tasks: tasks });
        self.used.set(true);
        self.with(|exchange, now| exchange.open(id, server, holder, strict, now));
        Ok(())
    }

    async fn read_client(self: Rc<Self>, id: SessionId, input: Input) {
        let framer = RefCell::new(Framer::new(self.exchange.borrow().line_limit()));
        loop {
            self.wait_for_room(id).await;
            framer.borrow_mut().set_limit(self.exchange.borrow().line_limit());
            let turn = self
                .read_chunk(&input, &framer, |exchange, line, now| {
                    exchange.client_line(id, line, now);
                })
                .await;
            if turn == Turn::Over {
                return self.with(|exchange, now| exchange.client_ended(id, now));
            }
        }
    }

    /// The shim says nothing; its end of the lifeline ends with it.
    async fn watch_shim(self: Rc<Self>, id: SessionId, lifeline: Rc<AsyncFd<OwnedFd>>) {
        loop {
            let Ok(mut ready) = lifeline.readable().await else { return };
            match rustix::net::recv(&lifeline, &mut [0_u8; 64][..], RecvFlags::DONTWAIT) {
                Ok((got, _)) if got > 0 => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => ready.clear_ready(),
                _ => break,
            }
        }
        self.client_is_gone(id);
        self.settle();
    }

    pub(super) fn client_is_gone(self: &Rc<Self>, id: SessionId) {
        let farewell = Farewell { reason: String::new(), code: 0 };
        let mut exchange = self.exchange.borrow_mut();
        exchange.out.forget(End::Session(id));
        exchange.close_session(id, farewell);
    }

    /// Lets the client read what is queued for it, says why on the lifeline, closes everything.
    pub(super) fn close_session(self: &Rc<Self>, id: SessionId, farewell: Farewell) {
        let Some(wire) = self.sessions.borrow_mut().remove(&id) else { return };
        let driver = self.clone();
        let SessionWire { output, lifeline, _tasks: tasks } = wire;
        drop(tasks);
        self.closing.set(self.closing.get() + 1);
        spawn_local(async move {
            let written = async {
                while output.turn(|| driver.flush(End::Session(id), &output)).await == Turn::Blocked
                {
                }
            };
            // A client that does not read does not hear the rest; the bound is its own.
            let _ = tokio::time::timeout(LAST_WORDS, written).await;
            driver.exchange.borrow_mut().out.forget(End::Session(id));
            drop(output);
            say(&lifeline, &farewell);
            drop(lifeline);
            driver.tell(&FromMux::Closed { session: id, reason: farewell.reason });
            driver.closing.set(driver.closing.get() - 1);
            driver.settle();
        });
    }
}

fn say(lifeline: &AsyncFd<OwnedFd>, farewell: &Farewell) {
    let mut farewell = farewell.clone();
    // As many as fit, escaped, into `FAREWELL_MAX`.
    farewell.reason = farewell.reason.chars().take(300).collect();
    let mut line = serde_json::to_vec(&farewell).unwrap_or_default();
    line.push(b'\n');
    // The shim may be gone; then nobody waits for it.
    let _ = rustix::net::send(lifeline, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
