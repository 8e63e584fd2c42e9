//! Which credential of the tenant's file each secret that was found is, and what the file needs for the rest.

use std::fmt::Write as _;

use super::found::Found;
use crate::control::CredentialLine;
use crate::names::TenantId;

/// What can be stored, and what cannot.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Each credential with the places of its one value.
    pub(super) items: Vec<Item>,
    /// Places that no credential of the tenant's file is for.
    pub(super) unnamed: Vec<usize>,
    /// Why the others are left alone.
    pub(super) disputed: Vec<String>,
}

/// A credential of the tenant's file and where its value was found.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: String,
    /// The tenant's servers that get it.
    pub(super) servers: Vec<String>,
    /// Indexes of what was found.
    pub(super) places: Vec<usize>,
}

/// `lines` are the tenant's credentials that the asker may set.
pub(super) fn plan(found: &[Found], lines: &[CredentialLine]) -> Plan {
    let mut plan = Plan::default();
    for (index, one) in found.iter().enumerate() {
        match candidates(one, lines).as_slice() {
            [] => plan.unnamed.push(index),
            [line] => match plan.items.iter_mut().find(|item| item.name == line.name) {
                Some(item) => item.places.push(index),
                None => plan.items.push(Item {
                    name: line.name.clone(),
                    servers: line.servers.clone(),
                    places: vec![index],
                }),
            },
            several => {
                let names: Vec<_> = several.iter().map(|line| line.name.as_str()).collect();
                let said = format!("{} could be any of {}", shown(one), names.join(", "));
                plan.disputed.push(said);
            }
        }
    }
    let value = |place: &usize| found.get(*place).map(|one| &one.value);
    let (agreed, differ) = plan.items.into_iter().partition::<Vec<_>, _>(|item| {
        item.places.iter().all(|p| value(p) == value(&item.places[0]))
    });
    plan.items = agreed;
    plan.disputed.extend(
        differ.into_iter().map(|item| {
            format!("{} has different values in {} places", item.name, item.places.len())
        }),
    );
    plan
}

/// What was found, for people.
pub(super) fn shown(one: &Found) -> String {
    match &one.server {
        Some(server) => format!("{server}: {}", one.place),
        None => one.place.clone(),
    }
}

fn candidates<'a>(one: &Found, lines: &'a [CredentialLine]) -> Vec<&'a CredentialLine> {
    let way = format!("env {}", one.key);
    let mut found: Vec<&CredentialLine> = Vec::new();
    for line in lines.iter().filter(|line| line.named) {
        let by_way = one.env && line.delivery.contains(&way);
        if by_way && found.iter().all(|other| other.name != line.name) {
            found.push(line);
        }
    }
    if found.is_empty() {
        let names = [Some(slug(&one.key)), one.server.as_deref().map(|its| named(its, &one.key))];
        let by_name = |name: String| lines.iter().find(|line| line.named && line.name == name);
        found.extend(names.into_iter().flatten().filter_map(by_name));
        found.dedup_by(|a, b| a.name == b.name);
    }
    // The client's own name of a server often is the tenant's.
    let here = |line: &&&CredentialLine| {
        one.server.as_ref().is_some_and(|server| line.servers.contains(server))
    };
    let at_home: Vec<_> = found.iter().filter(here).copied().collect();
    if found.len() > 1 && at_home.len() == 1 { at_home } else { found }
}

/// `GITHUB_TOKEN` as the name of a credential: `github-token`.
fn slug(key: &str) -> String {
    let lower = key.to_ascii_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").chars().take(64).collect()
}

fn named(server: &str, key: &str) -> String {
    slug(&format!("{server}-{key}"))
}

/// The lines that the tenant's file needs for these places; `servers` are the tenant's.
pub(super) fn needed(found: &[Found], places: &[usize], servers: &[String]) -> String {
    let mut text = String::new();
    let mut names: Vec<(String, &Found)> = Vec::new();
    for one in places.iter().filter_map(|place| found.get(*place)) {
        let short = slug(&one.key);
        let name = match names.iter().find(|(name, _)| *name == short) {
            None => short,
            Some((_, other)) if other.value == one.value => continue,
            Some(_) => named(one.server.as_deref().unwrap_or("other"), &one.key),
        };
        if names.iter().any(|(other, _)| *other == name) {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "[[credential]]\nname = \"{name}\"\n");
        if servers.len() > 1 {
            let _ = match one.server.as_ref().filter(|server| servers.contains(server)) {
                Some(server) => writeln!(text, "servers = [\"{server}\"]"),
                None => {
                    writeln!(text, "# servers = [\"...\"]    # needed: of {}", servers.join(", "))
                }
            };
        }
        let variable: String = slug(&one.key).to_ascii_uppercase().replace('-', "_");
        let _ = match one.env {
            true => writeln!(text, "env = \"{}\"\n", one.key),
            false => writeln!(
                text,
                "env = \"{variable}\"    # it was an argument: take it from where your server looks\n"
            ),
        };
        names.push((name, one));
    }
    text
}

/// Where secrets are named, for people.
pub(super) fn file_of(tenant: &TenantId) -> String {
    format!("tenants.d/{tenant}.toml")
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::cli::credential::import::found::Spot;

    fn found(server: &str, key: &str, value: &str) -> Found {
        Found {
            server: Some(server.to_owned()),
            place: format!("variable {key}"),
            key: key.to_owned(),
            env: true,
            value: Zeroizing::new(value.to_owned()),
            spot: Spot::Text(0..0, String::new()),
            entry: None,
        }
    }

    fn line(name: &str, variable: &str, server: &str) -> CredentialLine {
        CredentialLine {
            tenant: "acme".into(),
            name: name.into(),
            scope: "tenant".into(),
            user: None,
            set: false,
            source: None,
            stored_at: None,
            expires: None,
            servers: vec![server.into()],
            delivery: vec![format!("env {variable}")],
            named: true,
            cure: None,
        }
    }

    #[test]
    fn each_is_the_credential_that_its_server_gets_in_the_same_variable() {
        let all = [
            found("git", "TOKEN", "a"),
            found("hub", "TOKEN", "b"),
            found("x", "API_KEY", "c"),
            found("x", "NEW_TOKEN", "d"),
        ];
        let lines =
            [line("one", "TOKEN", "git"), line("two", "TOKEN", "hub"), line("x-api-key", "K", "x")];
        let plan = plan(&all, &lines);
        let items: Vec<_> =
            plan.items.iter().map(|item| (item.name.as_str(), item.places.clone())).collect();
        assert_eq!(items, [("one", vec![0]), ("two", vec![1]), ("x-api-key", vec![2])]);
        assert_eq!((plan.unnamed, plan.disputed.len()), (vec![3], 0));
    }

    #[test]
    fn what_is_not_clear_is_left_alone() {
        let all = [found("a", "TOKEN", "1"), found("b", "TOKEN", "2")];
        let differ = plan(&all, &[line("one", "TOKEN", "main")]);
        assert!(differ.items.is_empty() && differ.disputed[0].contains("different values"));
        let lines = [line("one", "TOKEN", "main"), line("two", "TOKEN", "main")];
        let unclear = plan(&all[..1], &lines);
        assert!(unclear.items.is_empty() && unclear.disputed[0].contains("any of one, two"));
    }

    #[test]
    fn what_the_file_needs_is_written_out() {
        let all = [found("a", "TOKEN", "1"), found("b", "TOKEN", "1"), found("b", "MY_KEY", "2")];
        let one = needed(&all, &[0, 1, 2], &["main".to_owned()]);
        let wanted = "[[credential]]\nname = \"token\"\nenv = \"TOKEN\"\n\n[[credential]]\nname = \
                      \"my-key\"\nenv = \"MY_KEY\"\n\n";
        assert_eq!(one, wanted);
        let several = needed(&all, &[2], &["a".to_owned(), "b".to_owned()]);
        assert!(several.contains("servers = [\"b\"]\n"), "{several}");
    }
}
