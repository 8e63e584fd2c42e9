//! What was written, turned into what was meant: a [`Tenant`] that can run.
//!
//! Each part checks all it can and reports each flaw with its place; a part that is flawed gives
//! something harmless in its stead, and the tenant is thrown away at the end if the report is not
//! clean. Looks at the machine through [`Host`]; changes nothing.

mod access;
mod credential;
mod inject;
mod needs;
mod oauth;
mod sandbox;
mod server;
mod settings;

pub use sandbox::required as layers_required;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::host::{Host, Wrong, real};
use super::patterns;
use super::problem::quotable;
use super::report::Report;
use super::scalar::{At, Bound};
use super::surroundings::{Known, links_to};
use super::tenant::{Limit, Quota, Status, Tenant};
use super::territory::{Grounds, Use};
use super::written::{QuotaTable, StatusWord, TenantFile};
use crate::names::TenantId;

pub(super) use settings::settings;

/// The longest name for people, characters.
const NAME_MAX: usize = 100;

/// One tenant on its way from written to meant.
pub(super) struct Case<'a> {
    pub(super) id: &'a TenantId,
    pub(super) host: &'a Host,
    pub(super) grounds: &'a Grounds,
    pub(super) report: &'a mut Report,
    /// What commands need, as far as this load has found out.
    pub(super) known: &'a Known,
    /// The paths that its servers will reach, for the comparison with other tenants.
    pub(super) claims: Vec<(PathBuf, Use, Range<usize>)>,
    /// The links on the way to the paths that its sandboxes name.
    pub(super) links: BTreeMap<PathBuf, PathBuf>,
}

impl Case<'_> {
    fn wrong(&mut self, span: &Range<usize>, wrong: Wrong) {
        self.report.add(span, wrong.what, wrong.cure);
    }

    /// A path of this tenant's: what it means, and a claim on where it leads. A data directory keeps the
    /// name that it is given, which its server hears; of others only the place counts.
    fn path(&mut self, key: &str, written: &At<String>, how: Use) -> Option<PathBuf> {
        let path = match self.host.path(key, &written.value) {
            Ok(path) => path,
            Err(wrong) => {
                self.wrong(&written.span, wrong);
                return None;
            }
        };
        let real = real(&path);
        if real != path && how != Use::Data {
            self.links.extend(links_to(&path));
        }
        if let Some(why) = self.grounds.trespass(self.id, &real) {
            let what = format!("{key} = \"{}\" {why}", quotable(&written.value));
            self.report.add(&written.span, what, "choose a directory of the tenant's own");
            return None;
        }
        if !self.claims.iter().any(|(_, _, span)| *span == written.span) {
            self.claims.push((real.clone(), how, written.span.clone()));
        }
        Some(if how == Use::Data { path } else { real })
    }
}

/// The tenant that `file` means; to be believed only if the report is clean.
pub(super) fn tenant(case: &mut Case<'_>, file: TenantFile, root: &Range<usize>) -> Tenant {
    let name = name(case, file.name);
    let status = status(case, file.status, file.trial_until);
    let data = file.data.and_then(|data| case.path("data", &data, Use::Data));
    let base = file.sandbox.map(|sandbox| sandbox.value).unwrap_or_default();
    let servers = server::servers(case, file.server, file.servers, &base, root);
    let grants = access::grants(case, file.grant.unwrap_or_default(), &servers);
    let tools = access::tools(case, file.tools.map(|tools| tools.value).unwrap_or_default());
    let credentials = credential::credentials(case, file.credential.unwrap_or_default(), &servers);
    Tenant {
        id: case.id.clone(),
        name,
        status,
        data,
        servers,
        grants,
        tools,
        quota: quota(file.quota.map(|quota| quota.value).unwrap_or_default()),
        credentials,
        logins: oauth::logins(case, file.oauth),
        features: features(case, file.features),
        not_enforced: Vec::new(),
        digest: String::new(),
        start_digest: String::new(),
    }
}

fn name(case: &mut Case<'_>, written: Option<At<String>>) -> String {
    let Some(name) = written else { return case.id.to_string() };
    let length = name.value.trim().chars().count();
    if !(1..=NAME_MAX).contains(&length) || name.value.chars().any(char::is_control) {
        let what = format!("name = \"{}\" is not a name for people", quotable(&name.value));
        let cure = format!("write 1 to {NAME_MAX} printable characters");
        case.report.add(&name.span, what, cure);
    }
    name.value
}

fn status(
    case: &mut Case<'_>,
    status: Option<At<StatusWord>>,
    until: Option<At<toml::value::Datetime>>,
) -> Status {
    let word = status.as_ref().map_or(StatusWord::Active, |status| status.value);
    let moment = until.as_ref().and_then(|until| moment(case, until));
    match (word, status, &until) {
        (StatusWord::Trial, Some(status), None) => case.report.add_missing(
            &status.span,
            "trial_until",
            "status = \"trial\" does not say how long",
            "add for example trial_until = 2026-12-31T23:59:59Z",
        ),
        (StatusWord::Active | StatusWord::Suspended, _, Some(until)) => case.report.add_missing(
            &until.span,
            "status",
            "trial_until means nothing without status = \"trial\"",
            "write status = \"trial\", or remove trial_until",
        ),
        _ => {}
    }
    match (word, moment) {
        (StatusWord::Active, _) => Status::Active,
        (StatusWord::Trial, Some(until)) => Status::Trial { until },
        (StatusWord::Suspended | StatusWord::Trial, _) => Status::Suspended,
    }
}

/// Seconds since the epoch.
fn moment(case: &mut Case<'_>, written: &At<toml::value::Datetime>) -> Option<i64> {
    let whole = written.value.date.is_some() && written.value.offset.is_some();
    let text = written.value.to_string();
    let moment = text.parse::<jiff::Timestamp>().ok().filter(|_| whole);
    if moment.is_none() {
        let what = format!("trial_until = {text} is not a moment: it needs date, time and offset");
        case.report.add(
            &written.span,
            what,
            "write for example trial_until = 2026-12-31T23:59:59Z",
        );
    }
    moment.map(jiff::Timestamp::as_second)
}

fn features(
    case: &mut Case<'_>,
    written: BTreeMap<At<String>, At<bool>>,
) -> BTreeMap<String, bool> {
    let mut features = BTreeMap::new();
    for (name, on) in written {
        if !patterns::is_feature(&name.value) {
            let what = format!("\"{}\" is not the name of a feature", quotable(&name.value));
            let cure = "write a-z, 0-9 and \"_\", beginning with a letter: beta_search = true";
            case.report.add(&name.span, what, cure);
        }
        features.insert(name.value, on.value);
    }
    features
}

fn quota(table: QuotaTable) -> Quota {
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;
    Quota {
        requests_per_minute: limit(table.requests_per_minute, |count| count.0, Limit::At(1000)),
        concurrent_requests: limit(table.concurrent_requests, |count| count.0, Limit::At(64)),
        sessions: limit(table.sessions, |count| count.0, Limit::At(32)),
        max_tools: limit(table.max_tools, |count| count.0, Limit::At(100)),
        max_resources: limit(table.max_resources, |count| count.0, Limit::At(1000)),
        storage: limit(table.storage, |size| size.0, Limit::At(GIB)),
        memory: limit(table.memory, |size| size.0, Limit::At(GIB)),
        cpus: limit(table.cpus, |cores| cores.0, Limit::At(1.0)),
        processes: limit(table.processes, |count| count.0, Limit::At(512)),
        open_files: limit(table.open_files, |count| count.0, Limit::At(1024)),
        io: limit(table.io, |size| size.0, Limit::Unlimited),
        message_size: limit(table.message_size, |size| size.0, Limit::At(4 * MIB)),
    }
}

/// What a limit means, or its default.
fn limit<T, U>(
    written: Option<At<Bound<T>>>,
    meaning: impl FnOnce(T) -> U,
    default: Limit<U>,
) -> Limit<U> {
    written.map_or(default, |bound| bound.value.limit(meaning))
}

/// The values of a list, without their places.
fn plain<T>(list: impl IntoIterator<Item = At<T>>) -> Vec<T> {
    list.into_iter().map(|entry| entry.value).collect()
}
