//! The documentation, held against the schema and against what the reader does.

use std::collections::{BTreeMap, BTreeSet};

use tenantd::config::schema;
use tenantd::paths::Mode;

use crate::{GOOD, Home, every_key, tenant};

/// `section.key` of the documentation with its row; the section is the first word of the heading.
fn documented() -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    let mut section = String::new();
    for line in include_str!("../../docs/configuration.md").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            section = heading.split(':').next().unwrap_or_default().to_owned();
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| !section.is_empty()) {
            let cells: Vec<String> = row.split(" | ").map(str::to_owned).collect();
            let key = cells[0].trim_end_matches('`');
            assert_eq!(cells.len(), 7, "{line}");
            assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{line}");
            rows.insert(format!("{section}.{key}"), cells);
        }
    }
    rows
}

/// `section.key` of the schemas, with the shape of the key.
fn specified() -> BTreeMap<String, serde_json::Value> {
    let mut keys = BTreeMap::new();
    for (name, schema) in [("TenantFile", schema::tenant_file()), ("MainFile", schema::main_file())]
    {
        let definitions = schema["$defs"].as_object().expect("definitions").clone();
        let sections = definitions.into_iter().chain([(name.to_owned(), schema)]);
        for (section, table) in sections {
            for (key, shape) in table["properties"].as_object().expect("a table") {
                keys.insert(format!("{section}.{key}"), shape.clone());
            }
        }
    }
    keys
}

#[test]
fn every_key_of_the_schema_is_documented_and_no_other() {
    let (documented, specified) = (documented(), specified());
    let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(documented.keys().collect()), names(specified.keys().collect()));
    for (key, shape) in &specified {
        let said = &documented[key][2];
        match shape.get("default") {
            Some(default) => {
                assert_eq!(said.replace(", ", ","), format!("`{default}`"), "the default of {key}");
            }
            None => {
                assert!(!said.starts_with('`') || said == "`[sandbox]`", "{key} has no default")
            }
        }
        assert!(shape["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
}

#[test]
fn the_schema_knows_no_null_and_no_unknown_keys() {
    for schema in [schema::tenant_file(), schema::main_file()] {
        let text = schema.to_string();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
    }
}

#[test]
fn the_documented_defaults_are_what_a_file_without_them_means() {
    let mut written = String::from("server.command = \"sh\"\n");
    for (key, shape) in specified() {
        let (section, name) = key.split_once('.').expect("a section");
        let table = match section {
            "Server" => "server",
            "Tools" => "tools",
            "Quota" => "quota",
            "Sandbox" => "sandbox",
            "TenantFile" => "",
            _ => continue,
        };
        let Some(default) = shape.get("default") else { continue };
        let path = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
        written.push_str(&format!("{path} = {default}\n"));
    }
    let of = |text: &str| {
        let loaded = Home::with(&[("tenants.d/acme.toml", text)]).load();
        let mut acme = tenant(&loaded, "acme").clone();
        acme.not_enforced.clear();
        // "All" written out is all the same.
        acme.tools.patterns.allow = None;
        acme.digest.clear();
        acme
    };
    assert_eq!(of(&written), of(GOOD), "{written}");

    let main = specified().into_iter().filter_map(|(key, shape)| {
        let (section, name) = key.split_once('.')?;
        let path = match section {
            "MainFile" => name.to_owned(),
            "Log" => format!("log.{name}"),
            _ => return None,
        };
        Some(format!("{path} = {}\n", shape.get("default")?))
    });
    let home = Home::with(&[("tenantd.toml", &main.collect::<String>())]);
    let mut written = home.load().settings.expect("settings");
    written.not_enforced.clear();
    assert_eq!(written, Home::new(Mode::User).load().settings.expect("settings"));
}

#[test]
fn what_the_documentation_calls_enforced_is_what_check_does_not_list() {
    let loaded = every_key().load();
    let tenant = tenant(&loaded, "acme");
    let settings = loaded.settings.as_ref().expect("settings");
    let idle: BTreeSet<&str> =
        tenant.not_enforced.iter().chain(&settings.not_enforced).map(String::as_str).collect();
    for (key, cells) in documented() {
        let (section, name) = key.split_once('.').expect("a section");
        let path = match section {
            "TenantFile" | "MainFile" => name.to_owned(),
            "Server" => format!("servers.git.{name}"),
            "Credential" | "Inject" => "credential".to_owned(),
            other => format!("{}.{name}", other.to_lowercase()),
        };
        match cells[5].as_str() {
            "yes" => assert!(!idle.contains(path.as_str()), "{path} is said to be enforced"),
            "not yet" => assert!(idle.contains(path.as_str()), "{path} is not listed: {idle:?}"),
            "-" => {}
            other => panic!("{key}: {other}"),
        }
    }
}
