//! `tenantd.toml`, meant: the supervisor's own settings.

use std::time::Duration;

use super::{limit, patterns, plain};
use crate::config::command;
use crate::config::host::{Host, Wrong};
use crate::config::problem::quotable;
use crate::config::report::Report;
use crate::config::scalar::At;
use crate::config::tenant::{Egress, Limit, Settings, Store};
use crate::config::written::{EgressTable, HooksTable, LogTable, MainFile, SinkWord, StoreWord};

type Texts = Vec<At<String>>;

/// Where neither people (1000-60000), subordinate ids (100000-600100000), systemd's dynamic users
/// (61184-65519) nor its containers (524288-1879048191) live.
const UID_RANGE: (u32, u32) = (1_900_000_000, 1_900_065_535);
/// The first uid that nothing gives away on its own: below are people, services, subordinate ids and containers.
const UID_LEAST: u32 = 1_879_048_192;
/// The overflow uid as 32 bits, and the "no uid" of chown(2).
const UID_MOST: u32 = u32::MAX - 2;
/// Rolled log files: a week of days.
const LOG_RETENTION: u32 = 7;

/// The settings that `file` means; to be believed only if the report is clean.
pub(in crate::config) fn settings(host: &Host, report: &mut Report, file: MainFile) -> Settings {
    sinks(host, report, file.audit.and_then(|audit| audit.value.sinks).unwrap_or_default());
    metrics(report, file.metrics.and_then(|metrics| metrics.value.listen));
    let store = store(host, file.credentials.and_then(|table| table.value.store));
    let egress = egress(host, report, file.egress.map(|egress| egress.value).unwrap_or_default());
    hooks(host, report, file.hooks.map(|hooks| hooks.value).unwrap_or_default());
    let log = file.log.map(|log| log.value).unwrap_or_default();
    let seconds = Duration::from_secs;
    Settings {
        admins: admins(report, file.admins.unwrap_or_default()),
        uid_range: file.uid_range.map_or(UID_RANGE, |range| uid_range(report, &range)),
        idle_exit: limit(file.idle_exit, |period| period.0, Limit::At(seconds(15 * 60))),
        orphan_timeout: file.orphan_timeout.map_or(seconds(30), |period| period.value.0),
        drain: file.drain.map_or(seconds(5), |period| period.value.0),
        log_retention: log.retention.as_ref().map_or(LOG_RETENTION, |count| count.value.0),
        log_level: log_level(report, log),
        egress,
        store,
        not_enforced: Vec::new(),
    }
}

fn admins(report: &mut Report, names: Texts) -> Vec<String> {
    for name in &names {
        let bare = name.value.strip_prefix('@').unwrap_or(&name.value);
        if !patterns::is_principal(bare) {
            let what = format!("\"{}\" in admins cannot be a name", quotable(&name.value));
            report.add(&name.span, what, "write a user, or a group as \"@wheel\"");
        }
    }
    plain(names)
}

fn uid_range(report: &mut Report, written: &At<Vec<u32>>) -> (u32, u32) {
    match written.value[..] {
        [first, last] if first < last && first >= UID_LEAST && last <= UID_MOST => (first, last),
        _ => {
            let what = format!("uid_range is not two uids from {UID_LEAST} to {UID_MOST}, rising");
            let cure = format!("write for example uid_range = [{}, {}]", UID_RANGE.0, UID_RANGE.1);
            report.add(&written.span, what, cure);
            UID_RANGE
        }
    }
}

fn log_level(report: &mut Report, log: LogTable) -> String {
    let Some(level) = log.level else { return "info".to_owned() };
    // tracing takes any other single word for the name of a module, at the highest level.
    let word = |part: &str| {
        ["off", "error", "warn", "info", "debug", "trace"].contains(&part) || part.contains('=')
    };
    let parses = tracing_subscriber::EnvFilter::builder().parse(&level.value).is_ok();
    if !parses || !level.value.split(',').all(|part| word(part.trim())) {
        let what = format!("level = \"{}\" is not a log level", quotable(&level.value));
        let cure = "write \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"";
        report.add(&level.span, what, cure);
    }
    level.value
}

fn metrics(report: &mut Report, listen: Option<At<String>>) {
    let Some(listen) = listen else { return };
    let address = listen.value.parse::<std::net::SocketAddr>();
    if !address.is_ok_and(|address| address.ip().is_loopback() && address.port() > 0) {
        let what =
            format!("listen = \"{}\" is not a loopback address and port", quotable(&listen.value));
        report.add(&listen.span, what, "write for example listen = \"127.0.0.1:9464\"");
    }
}

fn egress(host: &Host, report: &mut Report, table: EgressTable) -> Egress {
    let upstream_proxy = table.upstream_proxy.and_then(|proxy| {
        let authority = proxy.value.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let authority = authority.filter(|authority| !authority.starts_with('*'));
        let destination = authority.and_then(patterns::destination);
        if destination.is_none() {
            // Not quoted: people write user and password into it.
            let cure = "write for example upstream_proxy = \"http://proxy.lan:3128\"";
            report.add(&proxy.span, "upstream_proxy is not http://HOST:PORT", cure);
        }
        destination
    });
    let ca_file = table.ca_file.and_then(|file| {
        let checked = host.path("ca_file", &file.value).and_then(|path| match path.is_file() {
            true => Ok(path),
            false => Err(Wrong::new(
                format!("ca_file = \"{}\" is not there", quotable(&file.value)),
                "correct the path, or remove the key",
            )),
        });
        checked.map_err(|wrong| report.add(&file.span, wrong.what, wrong.cure)).ok()
    });
    Egress { upstream_proxy, ca_file }
}

fn store(host: &Host, written: Option<At<StoreWord>>) -> Store {
    match written.map(|word| word.value) {
        Some(StoreWord::SecretService) => Store::SecretService,
        Some(StoreWord::EncryptedFile) => Store::EncryptedFile,
        Some(StoreWord::Keyutils) => Store::Keyutils,
        None => Store::default_of(host.mode),
    }
}

fn hooks(host: &Host, report: &mut Report, table: HooksTable) {
    for (key, hook) in
        [("provision", table.provision), ("archive", table.archive), ("remove", table.remove)]
    {
        if let Some(hook) = hook {
            argv(host, report, key, &hook.span, &hook.value);
        }
    }
}

fn sinks(host: &Host, report: &mut Report, sinks: Vec<At<SinkWord>>) {
    for sink in sinks {
        if let SinkWord::Command(command) = &sink.value {
            argv(host, report, "command", &sink.span, command);
        }
    }
}

/// A command line of the machine's owner: an absolute path that can be executed, and arguments.
fn argv(
    host: &Host,
    report: &mut Report,
    key: &str,
    span: &std::ops::Range<usize>,
    argv: &[At<String>],
) {
    let Some(program) = argv.first() else {
        let cure = format!("write for example {key} = [\"/usr/local/bin/program\"], or remove it");
        return report.add(span, format!("{key} is empty"), cure);
    };
    let checked = host.path(key, &program.value).and_then(|path| command::executable(&path));
    if let Err(wrong) = checked {
        report.add(&program.span, wrong.what, wrong.cure);
    }
}
