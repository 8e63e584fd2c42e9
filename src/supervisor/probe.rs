//! `ProbeTenant`: the escape probes where a tenant's server runs, on an admin's demand.
//!
//! They are started as that server is, by the same plan, with our own binary as the program. The supervisor
//! passes on what it is given and what comes back, and reads neither. One run at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::birth::Delivered;
use super::cell::Phase;
use super::child::{self, Prepared};
use super::house::House;
use super::message::{Message, Reply};
use super::status::{answer, unknown};
use crate::config::tenant::{Layer, Server, Tenant};
use crate::control::{ControlError, ProbeReply};
use crate::names::{ServerName, TenantId};
use crate::policy;
use crate::post::{self, PostError};
use crate::sandbox::cgroup::Place;
use crate::sys;
use crate::wire;
use crate::wire::stage::KeeperWord;

/// How long all probes may take. They take a second; one that hangs is given up after five.
const WITHIN: Duration = Duration::from_secs(45);
/// The longest account, bytes: with its escapes it must fit where a control message does.
const ACCOUNT: usize = 96 * 1024;
/// The longest brief, bytes: it is written at once, so that it must fit into a pipe (pipe(7)).
const BRIEF: usize = 32 * 1024;

/// That one run at a time is enough.
#[derive(Debug, Clone)]
pub(super) struct Probing(Arc<Semaphore>);

impl Default for Probing {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// What the admin wants probed.
#[derive(Debug)]
pub(super) struct ProbeWish {
    pub(super) tenant: String,
    pub(super) server: Option<String>,
    pub(super) brief: String,
}

/// A run whose directories are ready.
#[derive(Debug)]
pub(super) struct Run {
    tenant: TenantId,
    server: ServerName,
    brief: String,
    prepared: Result<Box<Prepared>, String>,
    reply: Reply<ProbeReply>,
    /// Given back when it ends.
    turn: OwnedSemaphorePermit,
}

impl House {
    /// Starts a run.
    pub(super) fn probe(&mut self, wish: ProbeWish, reply: Reply<ProbeReply>) {
        let (tenant, server) = match self.to_probe(&wish) {
            Ok(found) => found,
            Err(error) => return answer(reply, Err(error)),
        };
        let Ok(turn) = self.probing.0.clone().try_acquire_owned() else {
            return answer(reply, Err(failed("another run of probes is not done yet; try again")));
        };
        let means = match self.means(&tenant.id) {
            Ok(means) => means,
            Err(why) => return answer(reply, Err(failed(&why))),
        };
        let (house, binary) = (self.handle.clone(), self.binary.path().to_owned());
        // The data directory may be on a file system that hangs: not on the loop.
        tokio::task::spawn_local(async move {
            let (id, name) = (tenant.id.clone(), server.name.clone());
            let work = tokio::task::spawn_blocking(move || {
                child::prepare(&means, &tenant, &server, None)?.probing(&binary)
            });
            let prepared = match work.await {
                Ok(Ok(prepared)) => Ok(Box::new(prepared)),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let brief = wish.brief;
            let run = Run { tenant: id, server: name, brief, prepared, reply, turn };
            // Without a loop there is nobody to tell.
            let _ = house.say(Message::Probe(Box::new(run))).await;
        });
    }

    fn to_probe(&self, wish: &ProbeWish) -> Result<(Arc<Tenant>, Server), ControlError> {
        if wish.brief.len() > BRIEF {
            return Err(failed("the brief is too long"));
        }
        let known = TenantId::parse(&wish.tenant).ok();
        let tenant = known.and_then(|id| self.registry.get(&id).cloned());
        let tenant = tenant.ok_or_else(|| unknown(&wish.tenant))?;
        let server = match &wish.server {
            None => tenant.default_server().or(tenant.servers.first()).cloned(),
            Some(name) => {
                ServerName::parse(name).ok().and_then(|name| tenant.server(&name).cloned())
            }
        };
        let server = server.ok_or_else(|| ControlError::UnknownServer {
            tenant: tenant.id.to_string(),
            server: "that server".to_owned(),
        })?;
        if !self.cells.get(&tenant.id).is_some_and(|cell| cell.phase == Phase::Ready) {
            let id = &tenant.id;
            return Err(failed(&format!(
                "{id} must live to be probed from inside, and has no session (let one of its users open \
                 one: tenantd tools {id})"
            )));
        }
        match policy::runs(&tenant, &server, self.moment(&tenant.id)) {
            Ok(()) => Ok((tenant, server)),
            Err(reason) => Err(failed(&reason.ailment().message)),
        }
    }

    /// The directories are ready, or not.
    pub(super) fn probe_prepared(&mut self, run: Run) {
        let Run { tenant, server, brief, prepared, reply, turn } = run;
        let Some(number) = self.cells.get(&tenant).map(|cell| cell.number) else {
            return answer(reply, Err(failed("the tenant ended meanwhile")));
        };
        // A number that the mux gives to no child.
        let place = Place(number, u64::MAX - self.next_ticket);
        self.next_ticket += 1;
        let cgroups = self.groups.cgroups.clone();
        let started = prepared.and_then(|mut prepared| {
            let born = self.birth(&tenant, place, &mut prepared);
            let (delivered, keeper) = born.map_err(|error| error.to_string())?;
            Ok((delivered, Arc::new(keeper)))
        });
        match started {
            Ok((delivered, keeper)) => {
                tracing::info!(%tenant, %server, "the escape probes run in a sandbox of this server's");
                // It ends with its lifeline, which the task holds.
                self.leave_group(&tenant, place, Some(keeper));
                tokio::task::spawn_local(async move {
                    let told = tokio::time::timeout(WITHIN, listen(delivered, &brief)).await;
                    let late = || Err("the probes did not end in time".to_owned());
                    let told = told.unwrap_or_else(|_| late());
                    drop(turn);
                    let server = server.to_string();
                    answer(reply, told.map(|told| told.reply(server)).map_err(|why| failed(&why)));
                });
            }
            Err(reason) => {
                cgroups.remove_server(&tenant, place);
                answer(reply, Err(failed(&format!("the probes were not started: {reason}"))));
            }
        }
    }
}

fn failed(reason: &str) -> ControlError {
    ControlError::Failed { reason: reason.to_owned() }
}

/// What came back.
#[derive(Debug, Default)]
struct Told {
    held: Vec<Layer>,
    missing: Vec<String>,
    account: String,
}

impl Told {
    fn reply(self, server: String) -> ProbeReply {
        let held = self.held.iter().map(|layer| layer.as_str().to_owned()).collect();
        ProbeReply { server, held, missing: self.missing, account: self.account }
    }
}

/// Gives the probes their brief and hears them out. With the lifeline, which is dropped here, ends whatever
/// they left running.
async fn listen(delivered: Delivered, brief: &str) -> Result<Told, String> {
    let [stdin, stdout, _stderr, leash] = delivered.into_ends();
    rustix::io::write(&stdin, brief.as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let heard = read(stdout).await;
    let account = heard.map_err(|error| format!("the probes were not heard: {error}"))?;
    let mut told = Told { account, ..Told::default() };
    let leash = sys::watch(leash).map_err(|error| error.to_string())?;
    loop {
        match word(&leash).await {
            Ok(KeeperWord::Confined { held, missing }) => {
                let missing = missing.into_iter();
                told.held = held;
                told.missing =
                    missing.map(|m| format!("{}: {}", m.layer.as_str(), m.why)).collect();
            }
            Ok(KeeperWord::NotStarted { reason, .. }) => return Err(reason),
            Ok(KeeperWord::Exited { code: 0 }) => return Ok(told),
            Ok(KeeperWord::Limited { .. }) => {}
            Ok(other) => return Err(format!("the probes ended early: {other:?}")),
            Err(error) => return Err(format!("the keeper of the probes was not heard: {error}")),
        }
    }
}

/// Everything that the probes say, as text.
async fn read(pipe: OwnedFd) -> io::Result<String> {
    let pipe = sys::watch(pipe)?;
    let mut all = Vec::new();
    let mut room = [0; 16 * 1024];
    loop {
        let mut ready = pipe.readable().await?;
        match ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref(), &mut room)?)) {
            Ok(Ok(0)) => return String::from_utf8(all).map_err(io::Error::other),
            Ok(Ok(count)) => all.extend_from_slice(room.get(..count).unwrap_or_default()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        if all.len() > ACCOUNT {
            return Err(io::Error::other("they say too much"));
        }
    }
}

async fn word(leash: &AsyncFd<OwnedFd>) -> Result<KeeperWord, PostError> {
    let mut buffer = vec![0; wire::CELL_DATAGRAM];
    loop {
        let mut ready = leash.readable().await?;
        match post::receive(leash.get_ref(), &mut buffer, RecvFlags::DONTWAIT) {
            Ok((word, _)) => return Ok(word),
            Err(PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready()
            }
            Err(error) => return Err(error),
        }
    }
}
