//! Puts the house together and turns its loop: what is heard, in which order, and when it ends.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::adopt::Search;
use super::doors::Doors;
use super::doorway::Doorway;
use super::egress::Egresses;
use super::groups::Groups;
use super::history::History;
use super::house::{House, unix_now};
use super::identities;
use super::message::{Handle, Message, Returned, SLIPS};
use super::reload::Reloading;
use super::replace::{Replacing, held_back};
use super::spawn::Binary;
use super::strength;
use super::watch::Watch;
use super::{Options, SupervisorError, cannot, fallback, log, notify};
use crate::auth::uids::Care;
use crate::auth::{Directory, Nobodies};
use crate::config::load::load;
use crate::registry::Registry;
use crate::sandbox::cgroup::Cgroups;

/// How often trials are looked at while something runs.
const ROUND: Duration = Duration::from_secs(20);
/// Sessions of one supervisor before its ids could meet those of one that starts a second later.
const SESSIONS_A_SECOND: u64 = 1 << 20;

/// Runs the supervisor on this thread.
pub(super) async fn run(options: Options, doors: Doors) -> Result<(), SupervisorError> {
    let signals = Signals::catch().map_err(cannot("catch signals"))?;
    let mut loaded = load(&options.layout);
    let settings = loaded.settings.clone().unwrap_or_else(|| fallback(options.layout.mode));
    let _guard = log::start(&options.layout, &settings)
        .map_err(|error| SupervisorError::Log(options.layout.log.clone(), error.to_string()))?;
    // Clients queue meanwhile: the doors are there and not yet attended.
    let uids = identities::given(&options.layout, &mut loaded, settings.uid_range, Care::Start);
    let search = Search::start(&options.layout, &uids);
    let (handle, inbox) = Handle::new();
    let (slips, returned) = mpsc::channel(SLIPS);
    let directory = Directory::start().map_err(cannot("start a thread"))?;
    let uid = nix::unistd::geteuid().as_raw();
    let binary = Binary::open().map_err(cannot("open this program"))?;
    // Before anything is started: it would be in the way where it is now.
    let cgroups = Cgroups::find(&options.layout.state);
    let mut house = House {
        owner: (uid, directory.user(uid)),
        started: Instant::now(),
        registry: Registry::new(),
        fallback: fallback(options.layout.mode),
        directory,
        nobodies: Arc::new(Mutex::new(Nobodies::here(None))),
        strength: strength::find(&binary, uids.probe().map(identities::alone).as_ref())
            .with(&cgroups),
        uids,
        binary,
        groups: Groups::new(cgroups),
        watch: Watch::start(&options.layout, handle.clone()),
        handle,
        slips,
        cells: BTreeMap::new(),
        others: Vec::new(),
        parted: Vec::new(),
        pauses: BTreeMap::new(),
        history: History::default(),
        egresses: Egresses::default(),
        looks: std::sync::Arc::new(tokio::sync::Semaphore::new(1)),
        patient: Vec::new(),
        next_session: u64::try_from(unix_now()).unwrap_or(0) * SESSIONS_A_SECOND,
        next_cell: 0,
        next_ticket: 0,
        reloading: Reloading::default(),
        stopping: None,
        instance: instance(),
        replacing: Replacing::default(),
        probing: super::probe::Probing::default(),
        secrets: super::secrets::Secrets::default(),
        options,
    };
    let (found, spared) = search.finish();
    let said = house.inherit(found);
    house.reconcile(&spared);
    house.take_in(loaded);
    house.bound_drains();
    said.into_iter().for_each(|(tenant, said)| house.on_mux(&tenant, said));
    // Children that ended before their signal could be caught.
    house.bury();
    let doorway = Doorway::open(doors, &house).map_err(cannot("open the session door"))?;
    greet(&house);
    turn(&mut house, doorway, signals, inbox, returned).await;
    house.finish().await;
    Ok(())
}

fn greet(house: &House) {
    let mode = house.options.layout.mode.as_str();
    let tenants = house.registry.len();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), mode, tenants, "tenantd serves");
    for layer in super::status::not_isolated(&house.strength) {
        tracing::warn!("NOT ISOLATED {layer}");
    }
    for tenant in house.registry.iter().filter(|tenant| !tenant.not_enforced.is_empty()) {
        tracing::warn!(tenant = %tenant.id, "not enforced yet: {}", tenant.not_enforced.join(", "));
    }
    let main = &house.settings().not_enforced;
    if !main.is_empty() {
        tracing::warn!("not enforced yet: tenantd.toml: {}", main.join(", "));
    }
    notify::ready(&summary(house));
}

/// The time of the start, which no other run of a supervisor has.
fn instance() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{:x}", since.unwrap_or_default().as_nanos())
}

fn summary(house: &House) -> String {
    let sessions: usize = house.cells.values().map(|cell| cell.sessions.len()).sum();
    format!("{} tenants, {} in use, {sessions} sessions", house.registry.len(), house.cells.len())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    child: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        let caught = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        };
        // The supervisor before us in this process may have held them back for us.
        held_back().thread_unblock()?;
        Ok(caught)
    }
}

/// When the loop must look even though nothing was said.
struct Rounds {
    heartbeat: Option<Duration>,
    beat: Instant,
    round: Instant,
    idle_since: Option<Instant>,
    retry: Option<Instant>,
}

impl Rounds {
    fn next(&mut self, house: &House, now: Instant) -> Instant {
        self.retry = house.retry_at(now);
        let overdue = house.all_cells().filter_map(|cell| cell.overdue).min();
        let beat = self.heartbeat.map(|_| self.beat);
        let busy = !house.cells.is_empty() && house.stopping.is_none();
        let round = busy.then_some(self.round);
        let idle = self.idle_until(house);
        let end = house.stopping.as_ref().map(|stopping| stopping.deadline);
        let far = now + Duration::from_secs(3600);
        let replaces = house.replaces_at(now);
        let looks = house.looks_at(now).filter(|_| house.stopping.is_none());
        let all = [beat, round, idle, end, overdue, self.retry, replaces, looks];
        all.into_iter().flatten().fold(far, Instant::min)
    }

    fn idle_until(&self, house: &House) -> Option<Instant> {
        self.idle_since?.checked_add(house.idle_exit()?)
    }

    fn look(&mut self, house: &mut House, now: Instant) {
        if let Some(every) = self.heartbeat.filter(|_| now >= self.beat) {
            self.beat = now + every;
            notify::alive();
        }
        house.kill_overdue(now);
        if house.stopping.is_none() {
            house.look_at_storage(now);
        }
        if self.retry.is_some_and(|retry| now >= retry) && house.stopping.is_none() {
            house.start_always();
            house.ask_again();
        }
        if now >= self.round && house.stopping.is_none() {
            self.round = now + ROUND;
            house.attend();
            house.start_always();
        }
        self.idle_since = match self.idle_since {
            _ if !house.cells.is_empty() => None,
            None => Some(now),
            since => since,
        };
        if self.idle_until(house).is_some_and(|until| now >= until) {
            house.stop("no session for a while", None);
        }
    }
}

async fn turn(
    house: &mut House,
    mut doorway: Doorway,
    mut signals: Signals,
    mut inbox: mpsc::Receiver<Message>,
    mut returned: mpsc::Receiver<Returned>,
) {
    let heartbeat = notify::heartbeat();
    let now = Instant::now();
    let mut rounds =
        Rounds { heartbeat, beat: now, round: now + ROUND, idle_since: Some(now), retry: None };
    let mut said = summary(house);
    while !house.is_over() {
        let next = rounds.next(house, Instant::now()).min(doorway.next());
        tokio::select! {
            Some(message) = inbox.recv() => house.on(message),
            Some(slip) = returned.recv() => house.returned(&slip),
            _ = signals.terminate.recv() => house.stop("SIGTERM", None),
            _ = signals.interrupt.recv() => house.stop("SIGINT", None),
            _ = signals.hangup.recv() => house.reload(None),
            _ = signals.child.recv() => house.bury(),
            () = tokio::time::sleep_until(next.into()) => {}
        }
        rounds.look(house, Instant::now());
        doorway.look(house, Instant::now());
        let now = summary(house);
        if now != said && house.stopping.is_none() {
            notify::status(&now);
            said = now;
        }
    }
}
