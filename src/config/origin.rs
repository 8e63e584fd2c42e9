//! Where each value of a tenant comes from: its own file, its template, or `[defaults]`.
//!
//! For people who ask why a tenant is as it is. Every value of a merged table knows its place, so this
//! is a walk and nothing more. What no file says is not listed, but for what was found around a command.

use std::path::Path;

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::base::{Base, Texts};
use super::draft::{Desk, TENANTS};
use super::host::Host;
use super::problem::shown;
use super::report::Report;
use super::source::{Source, Sources};
use super::surroundings::Known;
use super::tenant::Server;
use super::territory::Grounds;
use crate::names::TenantId;
use crate::paths::Layout;

/// One value that a file sets and no file nearer to the tenant replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its dotted name.
    pub key: String,
    /// The value as written, in one line.
    pub value: String,
    /// The file, seen from the configuration directory; of what no file says, why it is there.
    pub file: String,
    /// The line, from 1; 0 of what no file says.
    pub line: u32,
}

/// What the files say of a tenant, merged; `None` if it has no file that can be read.
///
/// Problems are `load`'s to tell: of a broken file this shows what could be read.
pub fn effective(layout: &Layout, tenant: &TenantId) -> Option<Vec<Setting>> {
    let name = format!("{TENANTS}/{tenant}.toml");
    let own = Source::read(&layout.tenant_file(tenant), &name, layout.mode).ok().flatten()?;
    let (host, grounds) = (Host::this(layout), Grounds::of(layout));
    let mut untold = Vec::new();
    let texts = Texts::read(layout, &mut untold);
    let mut sources = Sources::default();
    let base = Base::of(&texts, &host, &mut sources, &mut untold);
    let known = Known::default();
    let desk = Desk { layout, host: &host, grounds: &grounds, sources, base: &base, known: &known };
    let mut sources = desk.sources.clone();
    let (merged, _) = desk.merged(&own, &mut sources, &mut Report::default());
    let mut settings = Vec::new();
    list(merged.get_ref(), "", &sources, &mut settings);
    let one = merged.get_ref().contains_key("server");
    for server in desk.draft(tenant, &own).tenant.iter().flat_map(|tenant| &tenant.servers) {
        let table = if one { "server".to_owned() } else { format!("servers.{}", server.name) };
        found(&table, server, &mut settings);
    }
    Some(settings)
}

/// What was found around a command, which no file says.
fn found(table: &str, server: &Server, settings: &mut Vec<Setting>) {
    let needs = &server.needs;
    let mut add = |key: &str, value: String| {
        let (key, file) = (format!("{table}.needs.{key}"), format!("found for {table}.command"));
        settings.push(Setting { key, value, file, line: 0 });
    };
    needs.read.iter().for_each(|path| add("read", format!("\"{}\"", shown(path))));
    for (place, says) in &needs.links {
        add("link", format!("\"{}\" -> \"{}\"", shown(place), shown(says)));
    }
    needs.path.iter().for_each(|path| add("path", format!("\"{}\"", shown(path))));
    needs.env.iter().for_each(|(name, value)| {
        add(&format!("env.{name}"), format!("\"{}\"", shown(Path::new(value))))
    });
}

fn list(table: &DeTable<'_>, prefix: &str, sources: &Sources<'_>, settings: &mut Vec<Setting>) {
    for (key, value) in table.iter() {
        let key = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(table) => list(table, &key, sources, settings),
            DeValue::Array(entries) if entries.iter().any(|entry| entry.get_ref().is_table()) => {
                for (index, entry) in entries.iter().enumerate() {
                    if let DeValue::Table(table) = entry.get_ref() {
                        list(table, &format!("{key}[{index}]"), sources, settings);
                    }
                }
            }
            _ => settings.extend(sources.place(value.span().start).map(|at| Setting {
                value: sources.quote(&value.span()).unwrap_or_else(|| "[...]".to_owned()),
                key,
                file: at.file.to_owned(),
                line: at.line,
            })),
        }
    }
}
