//! All files of a configuration, read at once: what is good, and everything that is wrong.
//!
//! One broken file never touches another tenant, with two exceptions that must not be guessed away: a
//! template is part of each tenant that names it, and `[defaults]` are part of every tenant. What
//! cannot be trusted is held back; the registry then keeps the last good version.

use std::collections::BTreeMap;

use super::base::{Base, MAIN, Texts};
use super::draft::{Desk, Draft, TENANTS};
use super::host::Host;
use super::problem::{Problem, quotable, shown};
use super::source::{self, Sources};
use super::surroundings::Known;
use super::tenant::{Settings, Tenant};
use super::territory::{self, Claim, Grounds, Use};
use crate::names::TenantId;
use crate::paths::Layout;

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
    let texts = Texts::read(layout, &mut problems);
    let mut sources = Sources::default();
    let base = Base::of(&texts, &host, &mut sources, &mut problems);
    let known = Known::default();
    let desk = Desk { layout, host: &host, grounds: &grounds, sources, base: &base, known: &known };

    let (stems, listing) = source::stems(&layout.tenants(), TENANTS);
    let complete = listing.is_empty();
    problems.extend(listing);
    let mut drafts = BTreeMap::new();
    for stem in stems {
        desk.file(&stem, &mut drafts, &mut problems);
    }
    compare(&mut drafts);
    let tenants = settle(drafts, &base, &mut problems);
    problems.sort();
    problems.dedup_by(|b, a| {
        (&a.file, a.line, a.column, &a.what) == (&b.file, b.line, b.column, &b.what)
    });
    Loaded { settings: base.settings, tenants, problems, complete }
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
            let own = match mine.how {
                Use::Need => {
                    format!("{}, which this command needs,", shown(mine.path))
                }
                _ => "this path".to_owned(),
            };
            let theirs = match theirs.how {
                Use::Need => {
                    format!("{path}, which the command of tenant {} needs,", theirs.tenant)
                }
                _ => format!("{path} of tenant {}", theirs.tenant),
            };
            let what = format!("{own} and {theirs} contain one another");
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
