//! Which keys this version acts on; what a file sets beyond them is said aloud.
//!
//! Every key is checked at load, whether it has an effect yet or not: a file that is right today stays
//! right. The list shrinks to nothing as the rest is built. Pure.

use toml::de::{DeTable, DeValue};

/// Keys of a tenant file with their effect in this version. `servers.NAME.` counts as `server.`.
const TENANT: [&str; 37] = [
    "name",
    "status",
    "trial_until",
    "template",
    "data",
    "server.command",
    "server.args",
    "server.env",
    "server.share",
    "server.max_children",
    "server.start",
    "server.idle_timeout",
    "server.request_timeout",
    "server.start_timeout",
    "server.shared_capabilities",
    "server.default",
    "server.sandbox.network",
    "server.sandbox.require",
    "server.sandbox.groups",
    "grant.users",
    "grant.groups",
    "grant.servers",
    "grant.permissions",
    "quota.sessions",
    "quota.message_size",
    "quota.open_files",
    "quota.storage",
    "quota.memory",
    "quota.cpus",
    "quota.processes",
    "quota.io",
    "sandbox.network",
    "sandbox.require",
    "sandbox.groups",
    "features",
    "credential",
    "oauth",
];

/// Keys of `tenantd.toml` with their effect in this version; `defaults` is told with each tenant.
const MAIN: [&str; 11] = [
    "admins",
    "uid_range",
    "idle_exit",
    "orphan_timeout",
    "drain",
    "credentials.store",
    "egress.upstream_proxy",
    "egress.ca_file",
    "log.level",
    "log.retention",
    "defaults",
];

/// Keys that are told as one, whatever they hold.
const WHOLE: [&str; 7] =
    ["server.env", "tools.require", "features", "credential", "oauth", "audit.sinks", "defaults"];

/// The keys that a merged tenant sets without effect in this version.
pub(super) fn tenant(table: &DeTable<'_>) -> Vec<String> {
    idle(table, &TENANT)
}

/// The keys that `tenantd.toml` sets without effect in this version.
pub(super) fn main(table: &DeTable<'_>) -> Vec<String> {
    idle(table, &MAIN)
}

fn idle(table: &DeTable<'_>, enforced: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    walk(table, "", "", &mut |shown, known| {
        if !enforced.contains(&known) {
            found.push(shown.to_owned());
        }
    });
    found.sort_unstable();
    found.dedup();
    found.shrink_to_fit();
    found
}

/// Visits every key that holds a value, by the name that is shown and the name that is known.
fn walk(table: &DeTable<'_>, shown: &str, known: &str, visit: &mut dyn FnMut(&str, &str)) {
    for (key, value) in table.iter() {
        let key = key.get_ref();
        let shown = join(shown, key);
        // `[servers.git]` is a `[server]`: its own name adds nothing to what is known of it.
        let known = match known {
            "servers" => "server".to_owned(),
            _ => join(known, key),
        };
        match value.get_ref() {
            _ if WHOLE.contains(&known.as_str()) => visit(&shown, &known),
            DeValue::Table(table) => walk(table, &shown, &known, visit),
            DeValue::Array(entries) if entries.iter().any(|entry| entry.get_ref().is_table()) => {
                let tables = entries.iter().filter_map(|entry| entry.get_ref().as_table());
                tables.for_each(|table| walk(table, &shown, &known, visit));
            }
            _ => visit(&shown, &known),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        tenant(DeTable::parse(text).expect("TOML").get_ref())
    }

    #[test]
    fn what_has_its_effect_is_not_told() {
        let text = r#"
            name = "Acme"
            [servers.git]
            command = "x"
            env = { A = "1" }
            sandbox = { require = ["seccomp"] }
            [[grant]]
            users = ["alice"]
            [features]
            beta = true
        "#;
        assert_eq!(of(text), Vec::<String>::new());
    }

    #[test]
    fn what_has_no_effect_yet_is_told_by_its_full_name() {
        let text = r#"
            [servers.git]
            sha256 = "0"
            [tools]
            require = { a = "admin" }
            [quota]
            sessions = 3
            [[grant]]
            tools = ["*"]
            [[grant]]
            tools = ["*"]
        "#;
        let told = ["grant.tools", "servers.git.sha256", "tools.require"];
        assert_eq!(of(text), told);
    }
}
