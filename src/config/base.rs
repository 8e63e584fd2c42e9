//! What lies under every tenant file: `tenantd.toml` with its `[defaults]`, and the templates.
//!
//! Each is read and checked by itself, so that a mistake in it is told once and where it stands, and
//! not with every tenant that inherits it.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::enforced;
use super::host::Host;
use super::layer::{self, Table};
use super::meant;
use super::problem::{Problem, quotable};
use super::report::Report;
use super::source::{self, Source, Sources};
use super::tenant::Settings;
use super::written::{MainFile, TenantFile};
use crate::paths::Layout;

/// The main file, seen from the configuration directory.
pub(super) const MAIN: &str = "tenantd.toml";
/// The directory of templates, seen from there.
pub(super) const TEMPLATES: &str = "templates.d";

/// The texts, which the tables of a [`Base`] refer to.
pub(super) struct Texts {
    /// `Err` if there is one and it cannot be read.
    main: Result<Option<Source>, ()>,
    /// By stem; `None` for one that cannot be read.
    templates: BTreeMap<String, Option<Source>>,
}

impl Texts {
    /// Reads the main file and every template.
    pub(super) fn read(layout: &Layout, problems: &mut Vec<Problem>) -> Self {
        let main = Source::read(&layout.main_file(), MAIN, layout.mode);
        let main = main.map_err(|problem| problems.push(problem));
        Self { main, templates: read_templates(layout, problems) }
    }
}

/// The templates' texts by stem; `None` for one that cannot be read.
fn read_templates(
    layout: &Layout,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Option<Source>> {
    let (stems, listing) = source::stems(&layout.templates(), TEMPLATES);
    problems.extend(listing);
    let mut templates = BTreeMap::new();
    for stem in stems {
        let name = format!("{TEMPLATES}/{}.toml", quotable(&stem));
        let path = layout.templates().join(format!("{stem}.toml"));
        match Source::read(&path, &name, layout.mode) {
            Ok(None) => {}
            Ok(Some(source)) => {
                templates.insert(stem, Some(source));
            }
            Err(problem) => {
                problems.push(problem);
                templates.insert(stem, None);
            }
        }
    }
    templates
}

/// What lies under every tenant file.
pub(super) struct Base<'a> {
    /// `None` if the main file has a problem.
    pub(super) settings: Option<Settings>,
    /// `None` if they cannot be trusted.
    pub(super) defaults: Option<Table<'a>>,
    /// By stem; `None` for one with a problem.
    pub(super) templates: BTreeMap<&'a str, Option<Table<'a>>>,
}

impl<'a> Base<'a> {
    /// Reads the tables out of the texts and puts these among the sources.
    pub(super) fn of(
        texts: &'a Texts,
        host: &Host,
        sources: &mut Sources<'a>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let (settings, defaults) = match &texts.main {
            Ok(Some(source)) => main_file(host, sources, source, problems),
            Ok(None) => without_main_file(host),
            Err(()) => (None, None),
        };
        let templates = texts
            .templates
            .iter()
            .map(|(stem, source)| {
                let table = source.as_ref().and_then(|source| template(sources, source, problems));
                (stem.as_str(), table)
            })
            .collect();
        Self { settings, defaults, templates }
    }
}

/// No main file is a configuration, too: everything by default.
fn without_main_file<'a>(host: &Host) -> (Option<Settings>, Option<Table<'a>>) {
    let settings = meant::settings(host, &mut Report::default(), MainFile::default());
    (Some(settings), Some(layer::empty()))
}

fn main_file<'a>(
    host: &Host,
    sources: &mut Sources<'a>,
    source: &'a Source,
    problems: &mut Vec<Problem>,
) -> (Option<Settings>, Option<Table<'a>>) {
    let mut report = Report::default();
    let mut table = layer::parse(source, sources, &mut report);
    let written: MainFile = layer::read(&mut table, sources, &mut report);
    if let Some(template) = written.defaults.as_ref().and_then(|d| d.value.template.as_ref()) {
        report.add(
            &template.span,
            "[defaults] cannot name a template",
            "name it in each tenant file",
        );
        report.lose("defaults.template".to_owned());
    }
    let trusted = !report.taints("defaults");
    let mut settings = meant::settings(host, &mut report, written);
    settings.not_enforced = enforced::main(table.get_ref());
    let good = report.is_clean();
    problems.extend(report.problems(sources, None));
    let span = table.span();
    let defaults = match table.get_mut().remove("defaults").map(toml::Spanned::into_inner) {
        Some(DeValue::Table(defaults)) => Table::new(span, defaults),
        _ => layer::empty(),
    };
    (good.then_some(settings), trusted.then_some(defaults))
}

fn template<'a>(
    sources: &mut Sources<'a>,
    source: &'a Source,
    problems: &mut Vec<Problem>,
) -> Option<Table<'a>> {
    let mut report = Report::default();
    let mut table = layer::parse(source, sources, &mut report);
    let written: TenantFile = layer::read(&mut table, sources, &mut report);
    if let Some(other) = written.template {
        report.add(&other.span, "a template cannot name a template", "copy what is needed from it");
    }
    let good = report.is_clean();
    problems.extend(report.problems(sources, None));
    good.then_some(table)
}
