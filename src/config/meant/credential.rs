//! `[[credential]]`: which secrets there are, whose, for which servers, and how they get there.
//!
//! Names alone: no secret is ever in a configuration file, and none is looked up here.

use std::collections::BTreeSet;
use std::ops::Range;

use super::server::variable_fault;
use super::{Case, access, inject, patterns};
use crate::config::problem::quotable;
use crate::config::scalar::At;
use crate::config::tenant::{Credential, Delivery, Scope, Server, Share};
use crate::config::written::{CredentialTable, InjectTable, ScopeWord};
use crate::names::ServerName;

type Texts = Vec<At<String>>;

/// The credentials, each with one way to its servers.
pub(super) fn credentials(
    case: &mut Case<'_>,
    written: Vec<At<CredentialTable>>,
    servers: &[Server],
) -> Vec<Credential> {
    let mut taken = BTreeSet::new();
    let mut credentials: Vec<Credential> = Vec::new();
    for (index, table) in written.into_iter().enumerate() {
        let span = table.span.clone();
        let Some(credential) = credential(case, index, table, servers) else { continue };
        for server in &credential.servers {
            collides(case, &span, &credential, server, servers, &mut taken);
            let known = servers.iter().find(|known| known.name == *server);
            if let (Delivery::Inject { hosts, .. }, Some(known)) = (&credential.delivery, known) {
                inject::reaches(case, &span, (&credential.name, hosts), known);
            }
        }
        let twin = credentials.iter().find(|other| other.name == credential.name);
        if twin.is_some_and(|other| other.scope != credential.scope) {
            let what = format!("credential \"{}\" has two scopes", credential.name);
            case.report.add(&span, what, "write the same scope in both");
        }
        credentials.push(credential);
    }
    credentials
}

fn credential(
    case: &mut Case<'_>,
    index: usize,
    table: At<CredentialTable>,
    servers: &[Server],
) -> Option<Credential> {
    let At { span, value: table } = table;
    let path = format!("credential.{index}");
    let name = name(case, &span, &path, table.name);
    let delivery = delivery(case, &span, &path, table.env, table.file, table.inject);
    let servers_of = servers_of(case, &span, &path, table.servers, servers);
    let scope = scope(case, table.scope, &servers_of, servers);
    Some(Credential { name: name?, scope, servers: servers_of, delivery: delivery? })
}

fn name(
    case: &mut Case<'_>,
    span: &Range<usize>,
    path: &str,
    written: Option<At<String>>,
) -> Option<String> {
    let Some(name) = written else {
        let (path, cure) = (format!("{path}.name"), "add for example name = \"github-token\"");
        case.report.add_missing(span, &path, "[[credential]] has no name", cure);
        return None;
    };
    if !patterns::is_word(&name.value) {
        // Not quoted: people paste the secret itself here.
        let cure = "write the name that it has in the keyring, such as \"github-token\"";
        case.report.add(&name.span, "name cannot be the name of a credential", cure);
    }
    Some(name.value)
}

fn delivery(
    case: &mut Case<'_>,
    span: &Range<usize>,
    path: &str,
    env: Option<At<String>>,
    file: Option<At<String>>,
    inject: Option<At<InjectTable>>,
) -> Option<Delivery> {
    match (env, file, inject) {
        (Some(env), None, None) => {
            if let Some((what, cure)) = variable_fault(&env.value) {
                case.report.add(&env.span, what, cure);
            }
            Some(Delivery::Env(env.value))
        }
        (None, Some(file), None) => {
            if !patterns::is_word(&file.value) {
                let what = format!("file = \"{}\" is not a plain file name", quotable(&file.value));
                case.report.add(&file.span, what, "write for example file = \"github-token\"");
            }
            Some(Delivery::File(file.value))
        }
        (None, None, Some(table)) => Some(inject::delivery(case, path, table)),
        (None, None, None) => {
            let what = "[[credential]] does not say how the server gets it";
            let cure = "add env = \"NAME\", file = \"name\" or inject = { hosts = [\"...\"] }";
            case.report.add_missing(span, &format!("{path}.env"), what, cure);
            None
        }
        _ => {
            let what = "[[credential]] has more than one of env, file and inject";
            case.report.add(
                span,
                what,
                "keep one; a second [[credential]] may name the same secret",
            );
            None
        }
    }
}

fn servers_of(
    case: &mut Case<'_>,
    span: &Range<usize>,
    path: &str,
    written: Option<At<Texts>>,
    servers: &[Server],
) -> Vec<ServerName> {
    match written {
        Some(names) if names.value.is_empty() => {
            case.report.add(
                &names.span,
                "servers is empty: nobody gets it",
                "name one, or remove it",
            );
            Vec::new()
        }
        Some(names) => access::servers(case, names.value, servers),
        None => {
            if servers.len() > 1 {
                let what = "[[credential]] does not say which of several servers gets it";
                let cure = format!("add for example servers = [\"{}\"]", servers[0].name);
                case.report.add_missing(span, &format!("{path}.servers"), what, cure);
            }
            servers.iter().take(1).map(|server| server.name.clone()).collect()
        }
    }
}

fn scope(
    case: &mut Case<'_>,
    written: Option<At<ScopeWord>>,
    names: &[ServerName],
    servers: &[Server],
) -> Scope {
    let Some(At { span, value: ScopeWord::User }) = written else { return Scope::Tenant };
    let shared = servers.iter().find(|s| names.contains(&s.name) && s.share == Share::Tenant);
    if let Some(server) = shared {
        let what =
            format!("scope = \"user\" and server \"{}\" is one child for all users", server.name);
        let cure = "add share = \"user\" or \"session\" to the server, or write scope = \"tenant\"";
        case.report.add(&span, what, cure);
    }
    Scope::User
}

/// Two secrets, or a secret and a plain value, under one name of one server.
fn collides(
    case: &mut Case<'_>,
    span: &Range<usize>,
    Credential { name, delivery, .. }: &Credential,
    server: &ServerName,
    servers: &[Server],
    taken: &mut BTreeSet<(ServerName, String)>,
) {
    let targets: Vec<String> = match delivery {
        Delivery::Env(name) => vec![format!("env {name}")],
        Delivery::File(name) => vec![format!("file {name}")],
        Delivery::Inject { hosts, header, .. } => hosts
            .iter()
            .map(|host| format!("inject {header} for {host}").to_ascii_lowercase())
            .chain([inject::taken(name)])
            .collect(),
    };
    let own = servers.iter().find(|known| known.name == *server).map(|known| &known.env);
    if let Delivery::Env(name) = delivery
        && own.is_some_and(|env| env.contains_key(name))
    {
        let what = format!("env {name} of server \"{server}\" is also in its env table");
        case.report.add(span, what, "remove it there");
    }
    for target in targets {
        if !taken.insert((server.clone(), target.clone())) {
            let what = format!("{target} of server \"{server}\" has two credentials");
            case.report.add(span, what, "keep one of them");
        }
    }
}
