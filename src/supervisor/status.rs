//! The answers of the control API: what there is, as far as the asker may see it.
//!
//! Reads the loop's state and asks the muxes for theirs; changes nothing but by the verbs of the house.

use std::time::Duration;

use tokio::sync::oneshot;

use super::attend::broken;
use super::cell::Cell;
use super::child::data_directory;
use super::house::{House, unix_now};
use super::message::{ControlAsk, ControlWhat, Reply};
use super::strength::{ALL, Strength};
use super::ways;
use crate::config::tenant::{Layer, Share, Status, Tenant};
use crate::control::{
    ChildStatus, ControlError, ListReply, ServerStatus, SessionStatus, StatusReply,
    SupervisorStatus, TenantLine, TenantReply, TenantStatus,
};
use crate::names::{ServerName, TenantId};
use crate::policy::reason::quoted;
use crate::policy::{self, Asker, Moment};
use crate::wire::stage::Missing;
use crate::wire::{ChildLine, MuxStatus, SessionLine, ToMux};

/// How long a mux may take to tell how it is.
const MUX_TELLS: Duration = Duration::from_secs(1);
/// What is said of one that does not.
pub(super) const SILENT: &str = "its mux does not answer";

impl House {
    /// Answers a question of the control API, perhaps later.
    pub(super) fn control(&mut self, ask: ControlAsk) {
        let ControlAsk { principal, ids, what } = ask;
        let owner = self.owns(principal.uid);
        let asker = Asker { principal: &principal, ids: &ids, owner };
        let admin = asker.is_admin(&self.settings().admins);
        match what {
            ControlWhat::List(reply) => answer(reply, Ok(self.list(&asker, admin))),
            ControlWhat::Status(reply) => self.status(&asker, admin, reply),
            ControlWhat::Get(tenant, reply) => self.get(&asker, admin, &tenant, reply),
            ControlWhat::Why(tenant, reply) => self.why(&asker, admin, &tenant, reply),
            ControlWhat::Credentials(tenant, reply) => {
                answer(reply, self.list_secrets(&asker, admin, tenant.as_deref()));
            }
            ControlWhat::RemoveCredential(wish, reply) => {
                self.remove_secret(&asker, admin, &wish, reply);
            }
            ControlWhat::Login(tenant, name, wish) => {
                self.on_login_wish(&asker, admin, (&tenant, &name), wish);
            }
            ControlWhat::Reload(reply) if admin => self.reload(Some(reply)),
            ControlWhat::Restart(tenant, server, reply) if admin => {
                answer(reply, self.restart(&tenant, server.as_deref()));
            }
            ControlWhat::Stop(reply) if admin => {
                self.stop(&format!("{} asked for it", principal.user), Some(reply));
            }
            ControlWhat::Replace(reply) if admin => {
                let user = principal.user.clone();
                self.replace(&user, reply);
            }
            ControlWhat::Probe(wish, reply) if admin => self.probe(wish, reply),
            ControlWhat::Probe(_, reply) => answer(reply, Err(admin_only("ProbeTenant"))),
            ControlWhat::Replace(reply) => answer(reply, Err(admin_only("RestartSupervisor"))),
            ControlWhat::Reload(reply) => answer(reply, Err(admin_only("Reload"))),
            ControlWhat::Restart(_, _, reply) => answer(reply, Err(admin_only("RestartServer"))),
            ControlWhat::Stop(reply) => answer(reply, Err(admin_only("Stop"))),
        }
    }

    fn list(&self, asker: &Asker<'_>, admin: bool) -> ListReply {
        let lines = self.registry.iter().filter_map(|tenant| {
            let access = asker.access(tenant);
            let servers = tenant.servers.iter().filter(|server| match &access {
                Some(access) => access.reaches(&server.name),
                None => admin,
            });
            (admin || access.is_some()).then(|| TenantLine {
                id: tenant.id.to_string(),
                name: tenant.name.clone(),
                status: status_word(tenant),
                servers: servers.map(|server| server.name.to_string()).collect(),
            })
        });
        ListReply { tenants: lines.collect() }
    }

    fn status(&mut self, asker: &Asker<'_>, admin: bool, reply: Reply<StatusReply>) {
        let visible: Vec<TenantId> = self.visible(asker, admin).cloned().collect();
        let supervisor = self.myself(&visible, admin);
        let only = (!admin).then_some(asker.principal.uid);
        let tenants: Vec<_> = visible.iter().filter_map(|id| self.look(id, only)).collect();
        tokio::task::spawn_local(async move {
            let mut finished = Vec::with_capacity(tenants.len());
            for look in tenants {
                finished.push(look.finish(only).await.0);
            }
            finished.sort_by(|a, b| a.id.cmp(&b.id));
            answer(reply, Ok(StatusReply { supervisor, tenants: finished }));
        });
    }

    fn get(&mut self, asker: &Asker<'_>, admin: bool, tenant: &str, reply: Reply<TenantReply>) {
        let Some(look) = self.look_at(asker, admin, tenant) else {
            return answer(reply, Err(unknown(tenant)));
        };
        let only = (!admin).then_some(asker.principal.uid);
        tokio::task::spawn_local(async move {
            answer(reply, Ok(TenantReply { tenant: look.finish(only).await.0 }));
        });
    }

    /// The tenants that the asker may know of; a broken one only an admin.
    fn visible(&self, asker: &Asker<'_>, admin: bool) -> impl Iterator<Item = &TenantId> {
        let good = self.registry.iter().filter(move |t| admin || asker.access(t).is_some());
        let broken = self.registry.broken().filter(move |_| admin);
        good.map(|tenant| &tenant.id).chain(broken.map(|(id, _)| id))
    }

    /// One path for a bad name, an unknown one and one without a grant.
    pub(super) fn look_at(&mut self, asker: &Asker<'_>, admin: bool, text: &str) -> Option<Look> {
        let id = TenantId::parse(text).ok()?;
        let only = (!admin).then_some(asker.principal.uid);
        let visible = self.visible(asker, admin).any(|visible| *visible == id);
        if visible { self.look(&id, only) } else { None }
    }

    fn restart(&mut self, tenant: &str, server: Option<&str>) -> Result<(), ControlError> {
        let known = TenantId::parse(tenant).ok().and_then(|id| self.registry.get(&id).cloned());
        let known = known.ok_or_else(|| unknown(tenant))?;
        let server = match server {
            None => None,
            Some(text) => {
                let found =
                    ServerName::parse(text).ok().filter(|name| known.server(name).is_some());
                Some(found.ok_or_else(|| ControlError::UnknownServer {
                    tenant: known.id.to_string(),
                    server: shown(text),
                })?)
            }
        };
        self.pauses.remove(&known.id);
        if let Some(cell) = self.cells.get_mut(&known.id) {
            cell.send(ToMux::Restart { server }, Vec::new());
        }
        Ok(())
    }

    fn myself(&self, visible: &[TenantId], admin: bool) -> SupervisorStatus {
        let layout = &self.options.layout;
        let mut not_enforced: Vec<_> = visible
            .iter()
            .filter_map(|id| self.registry.get(id))
            .flat_map(|t| {
                t.not_enforced.iter().map(|field| format!("tenants.d/{}.toml: {field}", t.id))
            })
            .collect();
        let mut problems = Vec::new();
        if admin {
            let main = self.settings().not_enforced.iter();
            not_enforced.extend(main.map(|field| format!("tenantd.toml: {field}")));
            problems.extend(self.registry.problems().iter().map(ToString::to_string));
            problems.extend(crate::credential::remark(self.settings().store).map(str::to_owned));
            problems.extend(self.directory.last_ids().unknown.iter().map(|who| {
                format!("a grant or admins names {who}, which is not known here and matches nobody")
            }));
        }
        SupervisorStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: layout.mode.as_str().to_owned(),
            pid: i64::from(std::process::id()),
            uptime_s: signed(self.started.elapsed().as_secs()),
            instance: self.instance.clone(),
            config: layout.config.display().to_string(),
            state: layout.state.display().to_string(),
            log: layout.log.display().to_string(),
            limits: self.groups.described(),
            not_isolated: not_isolated(&self.strength),
            not_enforced,
            problems,
        }
    }

    /// What is known here of a tenant; its mux is asked for the rest.
    fn look(&mut self, id: &TenantId, only: Option<u32>) -> Option<Look> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut look = Look { base: self.describe(id)?, ..Look::default() };
        if only.is_none() {
            look.base.problems =
                self.registry.problems_of(id).iter().map(ToString::to_string).collect();
        }
        look.base.problems.extend(self.unbounded(id));
        if only.is_none() {
            look.base.problems.extend(self.missing_secrets(id));
        }
        look.base.egress_died_s = self.egresses.died_ago(id, unix_now());
        look.base.egress_pid = self.egresses.pid(id).map(i64::from);
        if let Some(cell) = self.cells.get_mut(id) {
            let told = cell.ask_status(ticket);
            look.base.mux_pid = Some(i64::from(cell.pid));
            look.base.storage = cell.storage_status();
            look.told = Some(told);
        }
        Some(look)
    }

    fn describe(&self, id: &TenantId) -> Option<TenantStatus> {
        if let Some(tenant) = self.registry.get(id) {
            let data = data_directory(&self.options.layout, tenant).display().to_string();
            return Some(describe(tenant, data, self.moment(id)));
        }
        let held = broken(id, self.registry.broken_one(id)?).ailment().message;
        let server = |name: &ServerName| ServerStatus {
            name: name.to_string(),
            command: String::new(),
            share: "tenant".to_owned(),
            network: "none".to_owned(),
            held: Some(held.clone()),
            children: Vec::new(),
        };
        let named = self.cells.get(id).into_iter().flat_map(Cell::servers);
        Some(TenantStatus {
            id: id.to_string(),
            status: "broken".to_owned(),
            servers: named.map(server).collect(),
            ..TenantStatus::default()
        })
    }
}

/// A tenant's status that waits for its mux.
#[derive(Default)]
pub(super) struct Look {
    pub(super) base: TenantStatus,
    told: Option<oneshot::Receiver<MuxStatus>>,
}

impl Look {
    /// `only` is the uid whose sessions are shown; without one, everybody's. With it what the mux said of
    /// its children, which is more than the status shows.
    pub(super) async fn finish(mut self, only: Option<u32>) -> (TenantStatus, Vec<ChildLine>) {
        let Some(told) = self.told.take() else { return (self.base, Vec::new()) };
        match tokio::time::timeout(MUX_TELLS, told).await {
            Ok(Ok(status)) => {
                fill(&mut self.base, &status, only);
                (self.base, status.children)
            }
            _ => {
                self.base.problems.push(SILENT.to_owned());
                (self.base, Vec::new())
            }
        }
    }
}

pub(super) fn answer<T>(reply: Reply<T>, what: Result<T, ControlError>) {
    // Who no longer waits needs no answer.
    let _ = reply.send(what);
}

pub(super) fn unknown(tenant: &str) -> ControlError {
    ControlError::UnknownTenant { tenant: shown(tenant) }
}

/// What was asked for, short and printable.
fn shown(text: &str) -> String {
    quoted(text).trim_matches('"').to_owned()
}

pub(super) fn admin_only(method: &str) -> ControlError {
    ControlError::AdminOnly {
        method: method.to_owned(),
        cure: "run it as root, as the owner of a user-mode tenantd, or be listed in admins of tenantd.toml"
            .to_owned(),
    }
}

fn status_word(tenant: &Tenant) -> String {
    match tenant.status {
        Status::Active => "active".to_owned(),
        Status::Suspended => "suspended".to_owned(),
        Status::Trial { until } if unix_now() >= until => "trial over".to_owned(),
        Status::Trial { until } => match jiff::Timestamp::from_second(until) {
            Ok(until) => format!("trial until {until}"),
            Err(_) => "trial".to_owned(),
        },
    }
}

fn describe(tenant: &Tenant, data: String, moment: Moment<'_>) -> TenantStatus {
    let servers = tenant.servers.iter().map(|server| ServerStatus {
        name: server.name.to_string(),
        command: server.command.display().to_string(),
        share: match server.share {
            Share::Tenant => "tenant",
            Share::User => "user",
            Share::Session => "session",
        }
        .to_owned(),
        network: ways::shown(server),
        held: policy::runs(tenant, server, moment).err().map(|reason| reason.ailment().message),
        children: Vec::new(),
    });
    let missing = ALL.into_iter().filter(|layer| !moment.layers.contains(layer));
    TenantStatus {
        id: tenant.id.to_string(),
        name: tenant.name.clone(),
        status: status_word(tenant),
        data,
        digest: tenant.digest.clone(),
        layers: moment.layers.iter().map(|layer| layer.as_str().to_owned()).collect(),
        missing_layers: missing.map(|layer| layer.as_str().to_owned()).collect(),
        servers: servers.collect(),
        ..TenantStatus::default()
    }
}

fn fill(base: &mut TenantStatus, told: &MuxStatus, only: Option<u32>) {
    for line in &told.children {
        let server = base.servers.iter_mut().find(|server| server.name == line.server.as_str());
        if let Some(server) = server {
            server.children.push(child(line));
        }
    }
    let seen = |session: &&SessionLine| only.is_none_or(|uid| session.holder.uid == uid);
    let waits = |line: &SessionLine| {
        let server = base.servers.iter().find(|server| server.name == line.server.as_str());
        server.is_some_and(|server| waits(line, server))
    };
    let sessions = told.sessions.iter().filter(seen);
    base.sessions =
        sessions.map(|line| SessionStatus { waits: waits(line), ..session(line) }).collect();
    base.calls = signed(told.calls);
    base.refused = signed(told.refused);
    base.dropped = signed(told.dropped);
}

/// Whether a session waits for a cure: of its server, or of the child that is its own.
fn waits(session: &SessionLine, server: &ServerStatus) -> bool {
    let own = |child: &ChildStatus| match child.user.as_deref() {
        None => true,
        Some(whose) => whose == session.holder.user || whose == session.session.to_string(),
    };
    let ill = |child: &ChildStatus| ["held", "crash-loop", "failed"].contains(&&*child.state);
    server.held.is_some() || server.children.iter().any(|child| own(child) && ill(child))
}

fn session(line: &SessionLine) -> SessionStatus {
    SessionStatus {
        id: line.session.to_string(),
        server: line.server.to_string(),
        user: line.holder.user.clone(),
        uid: i64::from(line.holder.uid),
        client: line.client.clone(),
        era: line.era.clone(),
        waits: false,
        in_flight: i64::from(line.in_flight),
        calls: signed(line.calls),
        age_s: signed(line.age_s),
    }
}

fn child(line: &ChildLine) -> ChildStatus {
    ChildStatus {
        state: line.state.clone(),
        pid: line.pid.map(i64::from),
        user: line.user.clone(),
        era: line.era.clone(),
        version: line.version.clone(),
        sessions: i64::from(line.sessions),
        starts: signed(line.starts),
        last: line.last.clone(),
        limit: line.limit.clone(),
        age_s: signed(line.age_s),
    }
}

/// Varlink's integers are signed.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What the operator must know of this machine before trusting it with what should be apart.
pub(super) fn not_isolated(strength: &Strength) -> Vec<String> {
    let means = |layer| match layer {
        Layer::Namespaces => "a server sees the user's files, processes and network",
        Layer::Landlock => "the kernel does not confine a server to its directories a second time",
        Layer::Seccomp => "a server may make every system call",
        Layer::Cgroup => "memory, processors and processes of a tenant are not bounded as a whole",
    };
    let line = |missing: &Missing| {
        let (name, means) = (missing.layer.as_str(), means(missing.layer));
        format!("{name}: {means} ({})", missing.why)
    };
    strength.missing.iter().map(line).collect()
}
