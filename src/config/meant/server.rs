//! The servers of a tenant: which there are, which program each is, and with what it is started.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::{Case, limit, needs, patterns, plain, sandbox};
use crate::config::command;
use crate::config::expand;
use crate::config::problem::quotable;
use crate::config::scalar::At;
use crate::config::tenant::{Limit, Needs, Server, Share, Start};
use crate::config::written::{SandboxTable, ServerTable};
use crate::names::ServerName;

/// The most servers of one tenant: each is a process, and a session is bound to one.
const SERVERS_MAX: usize = 64;
const TEN_MINUTES: Duration = Duration::from_secs(600);
/// Clients give up a start at 10 s (Codex), 30 s (Claude Code), 60 s (Claude Desktop).
const START_TIMEOUT: Duration = Duration::from_secs(9);
const MAX_CHILDREN: u32 = 8;

/// All servers, in the order in which they were written.
pub(super) fn servers(
    case: &mut Case<'_>,
    single: Option<At<ServerTable>>,
    several: BTreeMap<At<String>, At<ServerTable>>,
    base: &SandboxTable,
    root: &Range<usize>,
) -> Vec<Server> {
    if let (Some(single), Some((name, _))) = (&single, several.first_key_value()) {
        let what = format!("[server] stands beside [servers.{}]", quotable(&name.value));
        let cure = "a tenant has one or the other: rename [server] to [servers.main]";
        case.report.add(&single.span, what, cure);
    }
    if single.is_none() && several.is_empty() {
        let cure = "add a section [server] with command = \"...\"";
        case.report.add_missing(root, "server", "there is no server", cure);
        // A base that no server uses is still checked, for the whole list of problems.
        sandbox::sandbox(case, "sandbox", base.clone());
    }
    let mut written: Vec<_> = several.into_iter().collect();
    written.sort_by_key(|(name, _)| name.span.start);
    too_many(case, &written);
    let mut places: Vec<Option<Range<usize>>> = Vec::new();
    let mut servers: Vec<Server> = Vec::new();
    if let Some(table) = single {
        places.push(command_place(&table));
        servers.push(server(case, ServerName::main(), "server", table, base));
    }
    for (name, table) in written {
        match ServerName::parse(&name.value) {
            Ok(parsed) => {
                let path = format!("servers.{parsed}");
                one_default(case, &servers, &table);
                places.push(command_place(&table));
                servers.push(server(case, parsed, &path, table, base));
            }
            Err(error) => case.report.add(&name.span, error.to_string(), "rename the section"),
        }
    }
    // After all of them: what one server of a tenant can write, none of its commands is looked for in.
    needs::fill(case, &mut servers, &places);
    servers
}

fn command_place(table: &At<ServerTable>) -> Option<Range<usize>> {
    table.value.command.as_ref().map(|command| command.span.clone())
}

fn too_many(case: &mut Case<'_>, written: &[(At<String>, At<ServerTable>)]) {
    if let Some((name, _)) = written.get(SERVERS_MAX) {
        let what =
            format!("there are {} servers; a tenant has at most {SERVERS_MAX}", written.len());
        case.report.add(&name.span, what, "make a second tenant");
    }
}

fn one_default(case: &mut Case<'_>, before: &[Server], table: &At<ServerTable>) {
    let Some(default) = table.value.default.as_ref().filter(|default| default.value) else {
        return;
    };
    if let Some(first) = before.iter().find(|server| server.default) {
        let what = format!("there are two default servers; \"{}\" is one already", first.name);
        case.report.add(&default.span, what, "keep default = true in one of them");
    }
}

fn server(
    case: &mut Case<'_>,
    name: ServerName,
    path: &str,
    table: At<ServerTable>,
    base: &SandboxTable,
) -> Server {
    let At { span, value: table } = table;
    let share = table.share.map_or(Share::Tenant, |share| share.value);
    let args = table.args.unwrap_or_default();
    let command = command(case, &span, path, table.command, &args);
    for arg in &args {
        text(case, path, "args", arg, share);
    }
    let env = environment(case, path, table.env, share);
    let sandbox = table.sandbox.map(|sandbox| sandbox.value).unwrap_or_default().over(base);
    Server {
        name,
        default: table.default.is_some_and(|default| default.value),
        command,
        args: plain(args),
        env,
        share,
        max_children: table.max_children.map_or(MAX_CHILDREN, |count| count.value.0),
        start: table.start.map_or(Start::OnDemand, |start| start.value),
        idle_timeout: limit(table.idle_timeout, |period| period.0, Limit::At(TEN_MINUTES)),
        request_timeout: limit(table.request_timeout, |period| period.0, Limit::At(TEN_MINUTES)),
        start_timeout: table.start_timeout.map_or(START_TIMEOUT, |period| period.value.0),
        shared_capabilities: plain(table.shared_capabilities.unwrap_or_default()),
        sha256: table.sha256.and_then(|sha256| digest(case, sha256)),
        sandbox: sandbox::sandbox(case, "sandbox", sandbox),
        needs: Needs::default(),
    }
}

fn command(
    case: &mut Case<'_>,
    table: &Range<usize>,
    path: &str,
    written: Option<At<String>>,
    args: &[At<String>],
) -> PathBuf {
    let Some(written) = written else {
        let (what, at) = (format!("[{path}] has no command"), format!("{path}.command"));
        case.report.add_missing(table, &at, what, "add command = \"/path/to/program\"");
        return PathBuf::new();
    };
    let args: Vec<&str> = args.iter().map(|arg| arg.value.as_str()).collect();
    command::resolve(case.host, &written.value, &args).unwrap_or_else(|wrong| {
        case.wrong(&written.span, wrong);
        PathBuf::new()
    })
}

/// Checks one argument or one value of the environment. It may be a secret in the wrong place, so a
/// message quotes the placeholder and nothing around it.
fn text(case: &mut Case<'_>, path: &str, key: &str, text: &At<String>, share: Share) {
    if text.value.contains('\0') {
        let what = format!("an entry of {key} holds a NUL character");
        case.report.add(&text.span, what, "no program can be given one: remove it");
    }
    if let Some((found, meant)) = expand::near_miss(&text.value) {
        let what = format!("{{{found}}} is not a placeholder");
        case.report.add(&text.span, what, format!("did you mean {{{meant}}}?"));
    }
    if share == Share::Tenant && expand::needs_user(&text.value) {
        let what = format!("{{user}} in {key} has no meaning for a child that all users share");
        let cure = "add share = \"user\" or \"session\"; {{user}} is the text itself";
        case.report.add_missing(&text.span, &format!("{path}.share"), what, cure);
    }
}

fn environment(
    case: &mut Case<'_>,
    path: &str,
    written: BTreeMap<At<String>, At<String>>,
    share: Share,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in written {
        if let Some((what, cure)) = variable_fault(&name.value) {
            case.report.add(&name.span, what, cure);
        }
        text(case, path, "env", &value, share);
        env.insert(name.value, value.value);
    }
    env
}

/// Why `name` cannot be an environment variable of a tenant's, and the cure.
pub(super) fn variable_fault(name: &str) -> Option<(String, &'static str)> {
    let quoted = quotable(name);
    if !patterns::is_variable(name) {
        let what = format!("\"{quoted}\" is not the name of an environment variable");
        return Some((what, "write letters, digits and \"_\", not beginning with a digit"));
    }
    let what = format!("the environment variable {quoted} is set by tenantd itself");
    patterns::is_reserved(name).then_some((what, "choose another name"))
}

fn digest(case: &mut Case<'_>, written: At<String>) -> Option<String> {
    let good = written.value.len() == 64 && written.value.bytes().all(|b| b.is_ascii_hexdigit());
    if !good {
        let what = format!("sha256 = \"{}\" is not a SHA-256", quotable(&written.value));
        case.report.add(&written.span, what, "write the 64 digits that sha256sum prints");
    }
    good.then(|| written.value.to_ascii_lowercase())
}
