//! Where each value of a tenant comes from: its own file, its template, or `[defaults]`.
//!
//! For people who ask why a tenant is as it is. Every value of a merged table knows its place, so this
//! is a walk and nothing more; what no file says is not listed.

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::base::{Base, Texts};
use super::draft::{Desk, TENANTS};
use super::host::Host;
use super::report::Report;
use super::source::{Source, Sources};
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
    /// The file, seen from the configuration directory.
    pub file: String,
    /// The line, from 1.
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
    let desk = Desk { layout, host: &host, grounds: &grounds, sources, base: &base };
    let mut sources = desk.sources.clone();
    let (merged, _) = desk.merged(&own, &mut sources, &mut Report::default());
    let mut settings = Vec::new();
    list(merged.get_ref(), "", &sources, &mut settings);
    Some(settings)
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
