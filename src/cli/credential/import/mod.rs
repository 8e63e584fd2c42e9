//! `credential import`: secrets out of a plaintext file, into the store, and out of the file.
//!
//! Shown by name, stored when a person agrees, and only then taken out. The file is changed in its own bytes:
//! what is not a secret stays as it was, comments and all.

mod dotenv;
mod file;
mod found;
mod jsonc;
mod plan;

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::Range;
use std::os::fd::AsFd as _;

use anyhow::Context as _;

use self::file::Original;
use self::found::{Found, NOTE, Spot};
use self::plan::{Item, Plan, shown};
use crate::cli::args::Which;
use crate::cli::args::credential::ImportCredentials;
use crate::cli::connect::keep::Keeping;
use crate::cli::failure::{CONFIG, DONE, Failure};
use crate::cli::{print, rooms};
use crate::control::{CredentialLine, TenantLine};
use crate::names::TenantId;
use crate::post;
use crate::sys;
use crate::wire::credential::Source;

/// `tenantd credential import`: 78 where the tenant's file has no name for one of them.
pub(super) fn run(args: &ImportCredentials) -> anyhow::Result<u8> {
    sys::become_undumpable().context("cannot protect the memory of this process")?;
    let original = Original::read(&args.file)?;
    let found = look(&original)?;
    let mut out = io::stdout();
    let path = print::cut(&original.path.display().to_string(), 400);
    if found.is_empty() {
        writeln!(out, "{path}: nothing in it looks like a secret")?;
        return Ok(DONE);
    }
    let tenant = tenant(args)?;
    let id = TenantId::parse(&tenant.id).context("a tenant has no id")?;
    let plan = plan::plan(&found, &lines(args.which, &id)?);
    write!(out, "{path}:\n{}", described(&found, &plan, &id))?;
    let code = if plan.unnamed.is_empty() { DONE } else { CONFIG };
    if code == CONFIG {
        let needed = plan::needed(&found, &plan.unnamed, &tenant.servers);
        let file = plan::file_of(&id);
        writeln!(out, "\n{file} needs these lines; add them and run this again:\n\n{needed}")?;
    }
    let count = i64::try_from(plan.items.len()).unwrap_or(i64::MAX);
    let secrets = print::count(count, "secret");
    if plan.items.is_empty() || !agreed(args.yes, &format!("store {secrets} of {id}?"))? {
        writeln!(out, "nothing was stored")?;
        return Ok(code);
    }
    for item in &plan.items {
        store(args.which, &id, item, &found)?;
        writeln!(out, "{} of {id} is stored", item.name)?;
    }
    if args.keep || !agreed(args.yes, &format!("take {secrets} out of {path}?"))? {
        writeln!(out, "{path} still holds them")?;
        return Ok(code);
    }
    let backup = original.replace(&rewritten(&original.text, &found, &plan, &id, args.which)?)?;
    writeln!(
        out,
        "{path} holds them no more; it is as it was, and yours alone, in {}",
        backup.display()
    )?;
    writeln!(out, "remove that when all works: rm {}", backup.display())?;
    Ok(code)
}

/// Everything in the file that looks like a secret.
fn look(original: &Original) -> anyhow::Result<Vec<Found>> {
    let text = original.text.as_str();
    let wrong = |what: &str, line: usize| {
        Failure::new(CONFIG, format!("{}:{line}: {what}", original.path.display()))
    };
    // A client's configuration begins with an object, perhaps after comments; an assignment does not.
    let begins = text.trim_start_matches('\u{feff}').trim_start();
    let json =
        original.path.extension().is_some_and(|ending| ending == "json" || ending == "jsonc");
    if json || begins.starts_with('{') {
        let node = jsonc::parse(text).map_err(|line| wrong("this is not JSON", line))?;
        return Ok(found::in_client(text, &node));
    }
    let assignments = dotenv::parse(text);
    let assignments = assignments.map_err(|line| wrong("a quotation does not end", line))?;
    Ok(found::in_dotenv(assignments))
}

/// The tenant that was named, or the only one.
fn tenant(args: &ImportCredentials) -> anyhow::Result<TenantLine> {
    let wanted = args.tenant.as_ref().map(TenantId::as_str);
    let mut tenants = super::ask(args.which, |control| {
        let tenants = control.list()?.tenants;
        let known = |line: &TenantLine| wanted.is_none_or(|wanted| line.id == wanted);
        let known: Vec<_> = tenants.into_iter().filter(known).collect();
        Ok((!known.is_empty()).then_some(known))
    })?;
    match tenants.len() {
        1 => Ok(tenants.remove(0)),
        _ => {
            let choices: Vec<_> =
                tenants.iter().take(8).map(|line| print::word(&line.id)).collect();
            let said = format!("name the tenant (choices: {})", choices.join(", "));
            Err(Failure::usage(said).into())
        }
    }
}

/// The credentials of a tenant that who asks may set.
fn lines(which: Which, tenant: &TenantId) -> anyhow::Result<Vec<CredentialLine>> {
    let reply = super::ask(which, |control| control.list_credentials(Some(tenant.as_str())))?;
    Ok(reply.credentials)
}

/// What was found and what becomes of it, by name.
fn described(found: &[Found], plan: &Plan, tenant: &TenantId) -> String {
    let mut text = String::new();
    for item in &plan.items {
        for one in item.places.iter().filter_map(|place| found.get(*place)) {
            let (one, name) = (print::cut(&shown(one), 200), &item.name);
            text.push_str(&format!("  {one} -> credential {name} of {tenant}\n"));
        }
    }
    for one in plan.unnamed.iter().filter_map(|place| found.get(*place)) {
        let one = print::cut(&shown(one), 200);
        text.push_str(&format!("  {one} -> no credential of {tenant} is for it\n"));
    }
    for disputed in &plan.disputed {
        let disputed = print::cut(disputed, 300);
        text.push_str(&format!(
            "  {disputed}; left alone (tenantd credential set {tenant} NAME)\n"
        ));
    }
    text
}

/// Whether a person agrees; where there is none, only `--yes` does.
fn agreed(yes: bool, question: &str) -> io::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        writeln!(io::stderr(), "{question} no: nobody to ask (--yes says it)")?;
        return Ok(false);
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn store(which: Which, tenant: &TenantId, item: &Item, found: &[Found]) -> anyhow::Result<()> {
    let one = item.places.first().and_then(|place| found.get(*place));
    let one = one.context("a secret without a place")?;
    let sealed = post::seal_secret(one.value.as_bytes())
        .map_err(|error| Failure::usage(format!("{} cannot be stored: {error}", item.name)))?;
    let keeping = Keeping { tenant, name: &item.name, source: Source::Import, rotate: false };
    rooms::keep(which, keeping, sealed.as_fd())?;
    Ok(())
}

/// The file without what was stored.
fn rewritten(
    text: &str,
    found: &[Found],
    plan: &Plan,
    tenant: &TenantId,
    which: Which,
) -> anyhow::Result<zeroize::Zeroizing<String>> {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for item in &plan.items {
        for one in item.places.iter().filter_map(|place| found.get(*place)) {
            let edit = match (entry_of(one, found, plan), &one.spot) {
                (Some((span, server)), _) => {
                    let kind = one.entry.as_ref().and_then(|entry| entry.kind.as_deref());
                    (span, connection(tenant, &server, kind, which)?)
                }
                (None, Spot::Assignment(span)) => (
                    span.clone(),
                    format!(
                        "# {} is the credential {} of {tenant}, in tenantd",
                        one.key, item.name
                    ),
                ),
                (None, Spot::Text(span, kept)) => {
                    let note = format!("{kept}{NOTE}{} of {tenant})", item.name);
                    (span.clone(), serde_json::to_string(&note)?)
                }
            };
            edits.push(edit);
        }
    }
    edits.sort_by_key(|(span, _)| span.start);
    edits.dedup();
    let room = text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>();
    let mut new = zeroize::Zeroizing::new(String::with_capacity(room));
    let mut at = 0;
    for (span, edit) in edits {
        new.push_str(text.get(at..span.start).context("two secrets stand in one place")?);
        new.push_str(&edit);
        at = span.end;
    }
    new.push_str(text.get(at..).unwrap_or_default());
    Ok(new)
}

/// The entry of its server and the tenant's server that takes its place: where every secret of the entry was
/// stored and it is clear which server that is.
fn entry_of(one: &Found, found: &[Found], plan: &Plan) -> Option<(Range<usize>, String)> {
    let entry = one.entry.as_ref()?;
    let mut common: Option<Vec<String>> = None;
    for (index, other) in found.iter().enumerate() {
        if other.entry.as_ref() != Some(entry) {
            continue;
        }
        let item = plan.items.iter().find(|item| item.places.contains(&index))?;
        let shared = |servers: Vec<String>| {
            servers.into_iter().filter(|server| item.servers.contains(server)).collect()
        };
        common = Some(common.map_or_else(|| item.servers.clone(), shared));
    }
    let servers = common?;
    let same = servers.iter().find(|server| Some(*server) == one.server.as_ref());
    let only = servers.first().filter(|_| servers.len() == 1);
    Some((entry.span.clone(), same.or(only)?.clone()))
}

/// What starts the tenant's server instead, as `tenantd entry` writes it.
fn connection(
    tenant: &TenantId,
    server: &str,
    kind: Option<&str>,
    which: Which,
) -> anyhow::Result<String> {
    let binary = std::env::current_exe().context("cannot find the path of this program")?;
    let binary = binary.to_str().context("the path of this program is not UTF-8")?;
    let mut words = vec!["connect".to_owned(), format!("{tenant}/{server}")];
    words.extend(which.user.then(|| "--user".to_owned()));
    words.extend(which.system.then(|| "--system".to_owned()));
    let (binary, words) = (serde_json::to_string(binary)?, serde_json::to_string(&words)?);
    let kind = kind.map(|_| "\"type\": \"stdio\", ").unwrap_or_default();
    Ok(format!("{{ {kind}\"command\": {binary}, \"args\": {words} }}"))
}
