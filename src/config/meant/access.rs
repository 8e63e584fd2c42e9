//! Who may use the tenant and what of it: `[[grant]]` and `[tools]`.

use std::collections::BTreeMap;

use super::{Case, patterns, plain};
use crate::config::problem::quotable;
use crate::config::scalar::At;
use crate::config::tenant::{Grant, Patterns, Server, Tools};
use crate::config::written::{GrantTable, ToolsTable};
use crate::names::ServerName;

type Texts = Vec<At<String>>;

/// The grants, each naming somebody, and known servers alone.
pub(super) fn grants(
    case: &mut Case<'_>,
    written: Vec<At<GrantTable>>,
    servers: &[Server],
) -> Vec<Grant> {
    let numbered = written.into_iter().enumerate();
    numbered.map(|(index, table)| grant(case, index, table, servers)).collect()
}

fn grant(case: &mut Case<'_>, index: usize, table: At<GrantTable>, servers: &[Server]) -> Grant {
    let At { span, value: table } = table;
    let (users, groups) = (table.users.unwrap_or_default(), table.groups.unwrap_or_default());
    if users.is_empty() && groups.is_empty() {
        let path = format!("grant.{index}.users");
        let cure = "add users = [\"alice\"] or groups = [\"acme-staff\"]";
        case.report.add_missing(&span, &path, "[[grant]] names nobody", cure);
    }
    Grant {
        users: principals(case, "users", users),
        groups: principals(case, "groups", groups),
        servers: table.servers.map(|names| self::servers(case, names, servers)),
        permissions: permissions(case, table.permissions.unwrap_or_default()),
        tools: allow_deny(case, ["tools", "deny_tools"], table.tools, table.deny_tools),
        resources: allow_deny(
            case,
            ["resources", "deny_resources"],
            table.resources,
            table.deny_resources,
        ),
        prompts: allow_deny(case, ["prompts", "deny_prompts"], table.prompts, table.deny_prompts),
    }
}

/// `[tools]`.
pub(super) fn tools(case: &mut Case<'_>, table: ToolsTable) -> Tools {
    let mut require = BTreeMap::new();
    for (tool, permission) in table.require {
        permissions(case, vec![permission.clone()]);
        require.insert(tool.value, permission.value);
    }
    Tools {
        patterns: allow_deny(case, ["allow", "deny"], table.allow, table.deny),
        require,
        pin: table.pin.is_none_or(|pin| pin.value),
    }
}

/// The known servers among `names`.
pub(super) fn servers(case: &mut Case<'_>, names: Texts, servers: &[Server]) -> Vec<ServerName> {
    let mut known = Vec::new();
    for name in names {
        match servers.iter().find(|server| server.name.as_str() == name.value) {
            Some(server) => known.push(server.name.clone()),
            // Where no server could be read, each name would be told as unknown.
            None if servers.is_empty() => {}
            None => {
                let what = format!("there is no server \"{}\"", quotable(&name.value));
                let all: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
                let cure = format!("this tenant has: {}", all.join(", "));
                let path = format!("servers.{}", name.value);
                case.report.add_missing(&name.span, &path, what, cure);
            }
        }
    }
    known
}

fn principals(case: &mut Case<'_>, key: &str, names: Texts) -> Vec<String> {
    for name in &names {
        if !patterns::is_principal(&name.value) {
            let what = format!("\"{}\" in {key} cannot be a name", quotable(&name.value));
            let cure =
                format!("write one name as the system knows it, or an id: {key} = [\"alice\"]");
            case.report.add(&name.span, what, cure);
        }
    }
    plain(names)
}

fn permissions(case: &mut Case<'_>, words: Texts) -> Vec<String> {
    for word in &words {
        if !patterns::is_word(&word.value) {
            let what = format!("\"{}\" cannot be a permission", quotable(&word.value));
            let cure = "write letters, digits, \"_\", \"-\", \".\" and \":\", such as \"admin\"";
            case.report.add(&word.span, what, cure);
        }
    }
    plain(words)
}

fn allow_deny(
    case: &mut Case<'_>,
    keys: [&str; 2],
    allow: Option<Texts>,
    deny: Option<Texts>,
) -> Patterns {
    let allow = allow.map(|list| globs(case, keys[0], list));
    Patterns { allow, deny: globs(case, keys[1], deny.unwrap_or_default()) }
}

fn globs(case: &mut Case<'_>, key: &str, list: Texts) -> Vec<String> {
    for pattern in &list {
        if let Some(fault) = patterns::pattern_fault(&pattern.value) {
            let what =
                format!("\"{}\" in {key} is not a pattern: {fault}", quotable(&pattern.value));
            case.report.add(&pattern.span, what, "write for example \"export_*\"");
        }
    }
    plain(list)
}
