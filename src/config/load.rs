//! All files of a configuration, read at once: what is good, and everything that is wrong.
//!
//! One broken file never touches another tenant, with two exceptions that must not be guessed away: a
//! template is part of each tenant that names it, and `[defaults]` are part of every tenant. What
//! cannot be trusted is held back; the registry then keeps the last good version.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::digest;
use super::enforced;
use super::host::Host;
use super::layer::{self, Table};
use super::meant::{self, Case};
use super::problem::{Problem, quotable};
use super::report::Report;
use super::source::{self, Source, Sources};
use super::tenant::{Settings, Tenant};
use super::territory::{self, Claim, Grounds, Use};
use super::written::{MainFile, TenantFile};
use crate::names::TenantId;
use crate::paths::Layout;

const MAIN: &str = "tenantd.toml";
const TENANTS: &str = "tenants.d";
const TEMPLATES: &str = "templates.d";

/// What one reading of all files gave.
#[derive(Debug)]
pub struct Loaded {
    /// The supervisor's settings; `None` if `tenantd.toml` has a problem.
    pub settings: Option<Settings>,
    /// Every tenant that has a file: the tenant, or all that keeps it from being one.
    pub tenants: BTreeMap<TenantId, Result<Tenant, Vec<Problem>>>,
    /// Every problem of every file, by file and place; each once.
    pub problems: Vec<Problem>,
    /// Whether the list of tenant files is known to be complete; a tenant that is missing from an
    /// incomplete list may still have its file.
    pub complete: bool,
}

/// Reads the whole configuration of `layout`.
pub fn load(layout: &Layout) -> Loaded {
    let host = Host::this(layout);
    let grounds = Grounds::of(layout);
    let mut problems = Vec::new();
    let main = read_main(layout, &mut problems);
    let templates = read_templates(layout, &mut problems);

    let mut sources = Sources::default();
    let base = Base::read(&host, &mut sources, &main, &templates, &mut problems);
    let loader = Loader { layout, host: &host, grounds: &grounds, sources, base: &base };

    let (stems, listing) = source::stems(&layout.tenants(), TENANTS);
    let complete = listing.is_empty();
    problems.extend(listing);
    let mut drafts = BTreeMap::new();
    for stem in stems {
        loader.file(&stem, &mut drafts, &mut problems);
    }
    compare(&mut drafts);
    let tenants = settle(drafts, &base, &mut problems);
    problems.sort();
    problems.dedup_by(|b, a| {
        (&a.file, a.line, a.column, &a.what) == (&b.file, b.line, b.column, &b.what)
    });
    Loaded { settings: base.settings, tenants, problems, complete }
}

/// The main file's text; `Err` if there is one and it cannot be read.
fn read_main(layout: &Layout, problems: &mut Vec<Problem>) -> Result<Option<Source>, ()> {
    Source::read(&layout.main_file(), MAIN, layout.mode).map_err(|problem| problems.push(problem))
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
struct Base<'a> {
    settings: Option<Settings>,
    /// `None` if they cannot be trusted.
    defaults: Option<Table<'a>>,
    /// `None` for one with a problem.
    templates: BTreeMap<&'a str, Option<Table<'a>>>,
}

impl<'a> Base<'a> {
    fn read(
        host: &Host,
        sources: &mut Sources<'a>,
        main: &'a Result<Option<Source>, ()>,
        templates: &'a BTreeMap<String, Option<Source>>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let nothing = || Table::new(0..0, toml::de::DeTable::new());
        let (settings, defaults) = match main {
            Ok(Some(source)) => main_file(host, sources, source, problems),
            // No file at all is a configuration: everything by default.
            Ok(None) => {
                let mut report = Report::default();
                (Some(meant::settings(host, &mut report, MainFile::default())), Some(nothing()))
            }
            Err(()) => (None, None),
        };
        let templates = templates
            .iter()
            .map(|(stem, source)| {
                let table = source.as_ref().and_then(|source| template(sources, source, problems));
                (stem.as_str(), table)
            })
            .collect();
        Self { settings, defaults, templates }
    }
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
        Some(toml::de::DeValue::Table(defaults)) => defaults,
        _ => toml::de::DeTable::new(),
    };
    (good.then_some(settings), trusted.then(|| Table::new(span, defaults)))
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

/// A tenant that was read, before it was compared with the others.
struct Draft {
    tenant: Option<Box<Tenant>>,
    problems: Vec<Problem>,
    /// With a problem ready for each path, should it turn out to be another's ground.
    claims: Vec<(PathBuf, Use, Problem)>,
}

impl Draft {
    fn broken(problem: Problem) -> Self {
        Self { tenant: None, problems: vec![problem], claims: Vec::new() }
    }
}

struct Loader<'a> {
    layout: &'a Layout,
    host: &'a Host,
    grounds: &'a Grounds,
    sources: Sources<'a>,
    base: &'a Base<'a>,
}

impl Loader<'_> {
    fn file(
        &self,
        stem: &str,
        drafts: &mut BTreeMap<TenantId, Draft>,
        problems: &mut Vec<Problem>,
    ) {
        let name = format!("{TENANTS}/{}.toml", quotable(stem));
        let id = match TenantId::parse(stem) {
            Ok(id) => id,
            Err(error) => {
                let what = format!("the file's name before .toml is the tenant id, and {error}");
                problems.push(Problem::whole(name, what, "rename the file"));
                return;
            }
        };
        match Source::read(&self.layout.tenant_file(&id), &name, self.layout.mode) {
            // Gone since it was listed.
            Ok(None) => {}
            Ok(Some(source)) => {
                let draft = self.draft(&id, &source);
                drafts.insert(id, draft);
            }
            Err(problem) => {
                let draft = Draft::broken(problem.of(&id));
                drafts.insert(id, draft);
            }
        }
    }

    fn draft(&self, id: &TenantId, source: &Source) -> Draft {
        let mut sources: Sources<'_> = self.sources.clone();
        let mut report = Report::default();
        let mut own = layer::parse(source, &mut sources, &mut report);
        // The file by itself first: what is wrong here is told here, whatever lies under it.
        let written: TenantFile = layer::read(&mut own, &sources, &mut report);
        let root = own.span();
        let mut merged =
            self.base.defaults.clone().unwrap_or_else(|| Table::new(0..0, Default::default()));
        if let Some(template) = written.template.as_ref() {
            match self.base.templates.get(template.value.as_str()) {
                Some(Some(table)) => merged = layer::merge(merged, table.clone()),
                Some(None) => {
                    let what = format!("template \"{}\" has problems of its own", template.value);
                    report.add(&template.span, what, "correct them first");
                }
                None => self.no_such_template(&mut report, &template.span, &template.value),
            }
        }
        let mut merged = layer::merge(merged, own);
        let written: TenantFile = layer::read(&mut merged, &sources, &mut report);
        let (host, grounds) = (self.host, self.grounds);
        let mut case = Case { id, host, grounds, report: &mut report, claims: Vec::new() };
        let mut tenant = meant::tenant(&mut case, written, &root);
        let claims = std::mem::take(&mut case.claims);
        tenant.not_enforced = enforced::tenant(merged.get_ref());
        digest::stamp(&mut tenant);
        let tenant = report.is_clean().then(|| Box::new(tenant));
        let claims = claims.into_iter().map(|(path, how, span)| {
            let problem = at(&sources, &span).of(id);
            (path, how, problem)
        });
        Draft { tenant, claims: claims.collect(), problems: report.problems(&sources, Some(id)) }
    }

    fn no_such_template(&self, report: &mut Report, span: &Range<usize>, name: &str) {
        let known: Vec<&str> = self.base.templates.keys().copied().collect();
        let cure = match known.as_slice() {
            [] => format!("add {TEMPLATES}/{}.toml, or remove the key", quotable(name)),
            known => format!("there are: {}", known.join(", ")),
        };
        let what = format!("there is no template \"{}\"", quotable(name));
        report.add(span, what, cure);
    }
}

/// A problem at a place, still without words.
fn at(sources: &Sources<'_>, span: &Range<usize>) -> Problem {
    let empty = Problem::whole("", "", "");
    match sources.place(span.start) {
        Some(at) => Problem { file: at.file.to_owned(), line: at.line, column: at.column, ..empty },
        None => empty,
    }
}

/// Compares the paths of all tenants and tells who stands on another's ground.
fn compare(drafts: &mut BTreeMap<TenantId, Draft>) {
    let flat: Vec<(Claim<'_>, &Problem)> = drafts
        .iter()
        .flat_map(|(tenant, draft)| {
            let claims = draft.claims.iter();
            claims.map(move |(path, how, place)| (Claim { tenant, path, how: *how }, place))
        })
        .collect();
    let (claims, places): (Vec<Claim<'_>>, Vec<&Problem>) = flat.into_iter().unzip();
    let found: Vec<(TenantId, Problem)> = territory::conflicts(&claims)
        .into_iter()
        .map(|(told, other)| {
            let (mine, theirs) = (&claims[told], &claims[other]);
            let path = quotable(&theirs.path.display().to_string());
            let what =
                format!("this path and {path} of tenant {} contain one another", theirs.tenant);
            let cure = "no two tenants may share files: choose another".to_owned();
            (mine.tenant.clone(), Problem { what, cure, ..places[told].clone() })
        })
        .collect();
    for (tenant, problem) in found {
        if let Some(draft) = drafts.get_mut(&tenant) {
            draft.problems.push(problem);
        }
    }
}

fn settle(
    drafts: BTreeMap<TenantId, Draft>,
    base: &Base<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<TenantId, Result<Tenant, Vec<Problem>>> {
    let mut tenants = BTreeMap::new();
    for (id, mut draft) in drafts {
        problems.extend(draft.problems.iter().cloned());
        // Told with the tenant alone: in the list of all problems the cause itself stands once.
        if base.defaults.is_none() {
            let what = "[defaults] have a problem, and they are part of every tenant";
            draft.problems.push(Problem::whole(MAIN, what, "correct it first").of(&id));
        }
        let tenant = match draft.tenant {
            Some(tenant) if draft.problems.is_empty() => Ok(*tenant),
            _ => Err(draft.problems),
        };
        tenants.insert(id, tenant);
    }
    tenants
}
