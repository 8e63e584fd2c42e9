//! One tenant file on its way to a tenant: read, laid over what lies under it, and understood.
//!
//! A draft knows everything about its own file and nothing about other tenants.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::base::{Base, TEMPLATES};
use super::digest;
use super::enforced;
use super::host::Host;
use super::layer::{self, Table};
use super::meant::{self, Case};
use super::problem::{Problem, quotable};
use super::report::Report;
use super::source::{Source, Sources};
use super::surroundings::Known;
use super::tenant::Tenant;
use super::territory::{Grounds, Use};
use super::written::TenantFile;
use crate::names::TenantId;
use crate::paths::Layout;

/// The directory of tenant files, seen from the configuration directory.
pub(super) const TENANTS: &str = "tenants.d";

/// A tenant that was read, before it is compared with the others.
pub(super) struct Draft {
    /// `None` if there is any problem.
    pub(super) tenant: Option<Box<Tenant>>,
    pub(super) problems: Vec<Problem>,
    /// With a problem ready for each path, should it turn out to be another's ground.
    pub(super) claims: Vec<(PathBuf, Use, Problem)>,
}

impl Draft {
    fn broken(problem: Problem) -> Self {
        Self { tenant: None, problems: vec![problem], claims: Vec::new() }
    }
}

/// What every draft of one load needs.
pub(super) struct Desk<'a> {
    pub(super) layout: &'a Layout,
    pub(super) host: &'a Host,
    pub(super) grounds: &'a Grounds,
    pub(super) sources: Sources<'a>,
    pub(super) base: &'a Base<'a>,
    pub(super) known: &'a Known,
}

impl Desk<'_> {
    /// Reads the tenant file with this stem.
    pub(super) fn file(
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

    pub(super) fn draft(&self, id: &TenantId, source: &Source) -> Draft {
        let mut sources = self.sources.clone();
        let mut report = Report::default();
        let (mut merged, root) = self.merged(source, &mut sources, &mut report);
        let written: TenantFile = layer::read(&mut merged, &sources, &mut report);
        let mut case = Case {
            id,
            host: self.host,
            grounds: self.grounds,
            known: self.known,
            report: &mut report,
            claims: Vec::new(),
            links: BTreeMap::new(),
        };
        let mut tenant = meant::tenant(&mut case, written, &root);
        let claims = std::mem::take(&mut case.claims).into_iter();
        tenant.not_enforced = enforced::tenant(merged.get_ref());
        digest::stamp(&mut tenant);
        Draft {
            tenant: report.is_clean().then(|| Box::new(tenant)),
            claims: claims
                .map(|(path, how, at)| (path, how, place(&sources, &at).of(id)))
                .collect(),
            problems: report.problems(&sources, Some(id)),
        }
    }

    /// The file's table over what lies under it, and where the file begins.
    pub(super) fn merged<'s>(
        &'s self,
        source: &'s Source,
        sources: &mut Sources<'s>,
        report: &mut Report,
    ) -> (Table<'s>, Range<usize>) {
        let mut own = layer::parse(source, sources, report);
        // The file by itself first: what is wrong here is told here, whatever lies under it.
        let written: TenantFile = layer::read(&mut own, sources, report);
        let mut under = self.base.defaults.clone().unwrap_or_else(|| {
            report.doubt();
            layer::empty()
        });
        if let Some(template) = &written.template {
            match self.base.templates.get(template.value.as_str()) {
                Some(Some(table)) => under = layer::merge(under, table.clone()),
                Some(None) => {
                    let what = format!("template \"{}\" has problems of its own", template.value);
                    report.add(&template.span, what, "correct them first");
                    report.doubt();
                }
                None => self.no_such_template(report, &template.span, &template.value),
            }
        }
        let root = own.span();
        (layer::merge(under, own), root)
    }

    fn no_such_template(&self, report: &mut Report, span: &Range<usize>, name: &str) {
        let known: Vec<&str> = self.base.templates.keys().copied().collect();
        let cure = match known.as_slice() {
            [] => format!("add {TEMPLATES}/{}.toml, or remove the key", quotable(name)),
            known => format!("there are: {}", known.join(", ")),
        };
        let what = format!("there is no template \"{}\"", quotable(name));
        report.add(span, what, cure);
        report.doubt();
    }
}

/// A problem at a place, still without words.
fn place(sources: &Sources<'_>, span: &Range<usize>) -> Problem {
    let empty = Problem::whole("", "", "");
    match sources.place(span.start) {
        Some(at) => Problem { file: at.file.to_owned(), line: at.line, column: at.column, ..empty },
        None => empty,
    }
}
