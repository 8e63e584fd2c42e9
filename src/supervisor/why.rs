//! Why a tenant does not serve, or did not: what is known of it, and one line that says what to do.
//!
//! An admin sees everything. Who has a grant sees their own refusals and starts, and no server's words;
//! who has none learns nothing, on the same path as for a tenant that is not there.

use std::time::Instant;

use super::attend::broken;
use super::history::{Past, Refused, Start};
use super::house::House;
use super::message::Reply;
use super::missing::Missing;
use super::status::{SILENT, answer, signed, unknown};
use crate::control::{
    ChildStatus, RefusalLine, ServerStatus, StartLine, StderrLines, TenantStatus, WhyReply,
};
use crate::names::{ServerName, TenantId};
use crate::policy::reason::one_line;
use crate::policy::{self, Asker, Reason};
use crate::wire::ChildLine;

/// What the supervisor itself knows to be in the way.
#[derive(Debug, Default)]
struct Known {
    /// Of the policy, each once.
    reasons: Vec<Reason>,
    /// Whether there is a mux that does not answer.
    silent: bool,
    /// Seconds until the mux is tried again.
    pause_s: Option<u64>,
    /// A server that failed, and what it seems to miss.
    missing: Option<(ServerName, String)>,
    /// What is to be done about its secrets.
    secrets: Vec<String>,
}

impl House {
    /// Answers `Why`.
    pub(super) fn why(
        &mut self,
        asker: &Asker<'_>,
        admin: bool,
        text: &str,
        reply: Reply<WhyReply>,
    ) {
        let look = self.look_at(asker, admin, text);
        let (Some(look), Ok(id)) = (look, TenantId::parse(text)) else {
            return answer(reply, Err(unknown(text)));
        };
        let only = (!admin).then_some(asker.principal.uid);
        let mut known = self.known(&id);
        let past = self.history.of(&id);
        let refusals = refusals(past, only);
        let starts = starts(past, only.map(|_| asker.principal.user.as_str()));
        let missing = self.missing(&id).filter(|_| admin);
        known.secrets = if admin { self.missing_secrets(&id) } else { Vec::new() };
        tokio::task::spawn_local(async move {
            let (mut tenant, children) = look.finish(only).await;
            known.missing = match missing {
                Some(missing) => missing.of(failed(&tenant, &starts, &children)).await,
                None => None,
            };
            known.silent = tenant.problems.contains(&SILENT.to_owned());
            // Those are no problems of its file.
            tenant.problems.retain(|problem| problem != SILENT && !known.secrets.contains(problem));
            let stderr = if only.is_none() { stderr(&children) } else { Vec::new() };
            let keeps = keeps(&tenant, &known);
            let cure = one_line(&cure(&tenant, &known, &refusals, &starts));
            answer(reply, Ok(WhyReply { tenant, keeps, cure, refusals, starts, stderr }));
        });
    }

    fn known(&self, id: &TenantId) -> Known {
        let moment = self.moment(id);
        let mut reasons = Vec::new();
        if let Some(problems) = self.registry.broken_one(id) {
            reasons.push(broken(id, problems));
        }
        let tenant = self.registry.get(id);
        for server in tenant.iter().flat_map(|tenant| &tenant.servers) {
            let held = tenant.and_then(|tenant| policy::runs(tenant, server, moment).err());
            reasons.extend(held.filter(|reason| !reasons.contains(reason)));
        }
        let pause = self.pauses.get(id).and_then(|pause| pause.left(Instant::now()));
        let pause_s = pause.map(|left| left.as_secs() + 1);
        Known { reasons, silent: false, pause_s, missing: None, secrets: Vec::new() }
    }

    /// What is needed to find out what a server of a tenant misses; none while somebody else asks.
    fn missing(&self, id: &TenantId) -> Option<Missing> {
        let tenant = self.registry.get(id)?.clone();
        let others = self.registry.iter().filter(|other| other.id != *id).flat_map(|other| {
            let writes = other.servers.iter().flat_map(|server| &server.sandbox.write);
            other.data.iter().chain(writes).cloned()
        });
        let others = others.collect();
        Some(Missing {
            layout: self.options.layout.clone(),
            tenant,
            others,
            turn: self.looks.clone(),
        })
    }
}

fn refusals(past: Option<&Past>, only: Option<u32>) -> Vec<RefusalLine> {
    let mine = |line: &&Refused| only.is_none_or(|uid| line.uid == uid);
    let lines = past.into_iter().flat_map(|past| &past.refusals).filter(mine);
    let lines = lines.map(|line| RefusalLine {
        at: line.at,
        user: line.user.clone(),
        uid: i64::from(line.uid),
        reason: line.reason.clone(),
        message: line.message.clone(),
        waits: line.waits,
        times: signed(line.times),
    });
    lines.collect()
}

fn starts(past: Option<&Past>, only: Option<&str>) -> Vec<StartLine> {
    let mine = |line: &&Start| match (only, &line.user) {
        (Some(user), Some(whose)) => user == whose,
        _ => true,
    };
    let lines = past.into_iter().flat_map(|past| &past.starts).filter(mine);
    let lines = lines.map(|line| StartLine {
        at: line.at,
        server: line.server.to_string(),
        user: line.user.clone(),
        pid: line.pid.map(i64::from),
        end: line.end.as_ref().map(|(how, _)| how.clone()),
        ended_at: line.end.as_ref().map(|(_, at)| *at),
    });
    lines.collect()
}

fn stderr(children: &[ChildLine]) -> Vec<StderrLines> {
    let spoke = children.iter().filter(|child| !child.stderr.is_empty());
    let lines = spoke.map(|child| StderrLines {
        server: child.server.to_string(),
        user: child.user.clone(),
        lines: child.stderr.clone(),
    });
    lines.collect()
}

/// Children that do not run although they are wanted, with their servers.
fn ill(tenant: &TenantStatus) -> impl Iterator<Item = (&ServerStatus, &ChildStatus)> {
    let ill = |child: &ChildStatus| ["waiting", "crash-loop", "failed"].contains(&&*child.state);
    let served = tenant.servers.iter().filter(|server| server.held.is_none());
    let children = served.flat_map(|server| server.children.iter().map(move |c| (server, c)));
    children.filter(move |(_, child)| ill(child))
}

/// What keeps a tenant from its sessions now.
fn keeps(tenant: &TenantStatus, known: &Known) -> Vec<String> {
    let mut keeps: Vec<_> =
        known.reasons.iter().map(|reason| one_line(&reason.to_string())).collect();
    keeps
        .extend(known.pause_s.map(|s| format!("its mux keeps ending; it is tried again in {s} s")));
    keeps.extend(known.silent.then(|| SILENT.to_owned()));
    keeps.extend(known.secrets.iter().cloned());
    keeps.extend(ill(tenant).map(|(server, child)| {
        let last = child.last.as_deref().unwrap_or("it does not run");
        one_line(&format!("server {} is {}: {last}", server.name, child.state))
    }));
    keeps
}

/// What to do, about the first thing that is in the way.
fn cure(
    tenant: &TenantStatus,
    known: &Known,
    refusals: &[RefusalLine],
    starts: &[StartLine],
) -> String {
    let (id, file) = (&tenant.id, format!("tenants.d/{}.toml", tenant.id));
    if let Some(reason) = known.reasons.first() {
        return of_reason(reason, &file);
    }
    if known.pause_s.is_some() {
        return format!("look into the supervisor's log; tenantd restart {id} tries at once");
    }
    if let Some(pid) = tenant.mux_pid.filter(|_| known.silent) {
        return format!("end its mux (kill {pid}): its sessions end, the next one starts another");
    }
    if let (Some((server, _)), Some((whose, line))) = (ill(tenant).next(), &known.missing)
        && server.name == whose.as_str()
    {
        return line.clone();
    }
    if let Some((server, child)) = ill(tenant).next() {
        let target = format!("{id}/{}", server.name);
        return match child.state.as_str() {
            "waiting" => format!("see tenantd logs {target}; it is started again by the next call"),
            _ => {
                format!("mend what it says (tenantd logs {target}), then tenantd restart {target}")
            }
        };
    }
    if let Some(secret) = known.secrets.first() {
        return secret.clone();
    }
    if let Some(problem) = tenant.problems.first() {
        return format!("mend {problem} (until then the last good version goes on)");
    }
    let bad = starts.last().filter(|start| start.end.as_deref().is_some_and(is_bad));
    if let (Some(start), Some((whose, line))) = (bad, &known.missing)
        && start.server == whose.as_str()
    {
        return line.clone();
    }
    match (bad, refusals.iter().rfind(|line| !line.waits)) {
        (Some(start), _) => {
            format!("see tenantd logs {id}/{}; it is started again by the next call", start.server)
        }
        (None, Some(last)) if last.reason == "unknown-tenant" => {
            format!("nothing for others; {} needs a [[grant]] in {file}", last.user)
        }
        (None, Some(_)) => "nothing now; the last refusal says what was in the way".to_owned(),
        (None, None) if tenant.mux_pid.is_some() => "nothing: it serves".to_owned(),
        (None, None) => "nothing: it starts with its first session".to_owned(),
    }
}

/// The server that failed last and what it said, if one did: one that does not run although it is wanted, else
/// one whose last start ended badly.
fn failed(
    tenant: &TenantStatus,
    starts: &[StartLine],
    children: &[ChildLine],
) -> Option<(ServerName, Vec<String>)> {
    let bad = starts.last().filter(|start| start.end.as_deref().is_some_and(is_bad));
    let name = match ill(tenant).next() {
        Some((server, _)) => &server.name,
        None => &bad?.server,
    };
    let name = ServerName::parse(name).ok()?;
    let own = children.iter().filter(|child| child.server == name);
    // What it wrote counts more than how it ended.
    let mut words: Vec<String> = Vec::new();
    for child in own {
        words.extend(child.last.iter().cloned());
        words.extend(child.stderr.iter().cloned());
    }
    Some((name, words))
}

/// Whether an end deserves a look: it was not a server's own choice, nor one to stop it.
fn is_bad(end: &str) -> bool {
    !["it exited with code 0", "it was ended by SIGTERM"].contains(&end)
}

fn of_reason(reason: &Reason, file: &str) -> String {
    match reason {
        Reason::Broken { problem, .. } => format!("mend {problem} (it is read within a second)"),
        Reason::Suspended(_) => format!("set status = \"active\" in {file}"),
        Reason::TrialOver(_) => {
            format!("set a later trial_until, or status = \"active\", in {file}")
        }
        Reason::NotIsolated { .. } => format!(
            "tenantd doctor says what this machine lacks and how it gets it; or name in sandbox.require of \
             {file} only the layers without which its servers may not run"
        ),
        other => other.to_string(),
    }
}
