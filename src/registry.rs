//! Which tenants there are: the last good version of each, and its problems.
//!
//! The registry takes in what `config::load` found and says what changed. A file that broke changes
//! nothing but the list of problems: the version that ran goes on. Pure, no I/O; the supervisor owns
//! it and acts on the changes.
//!
//! ```text
//!            good file           broken file
//! (none) ───────────────► good ◄──────────────► good, with problems
//!    │                     │ ▲                    │
//!    │ broken file         │ │ good file          │ file removed
//!    ▼                     ▼ │                    ▼
//!  broken ──────────────► (none: removed)      (none: removed)
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::tenant::{Settings, Tenant};
use crate::config::{Loaded, Problem};
use crate::names::TenantId;

/// What a change of a tenant asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It can be given to what runs.
    Live,
    /// What runs was started with the old: a drained restart.
    Restart,
}

/// What one reading of the files changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tenants that are new, or good for the first time.
    pub added: Vec<TenantId>,
    /// Tenants that mean something else than before.
    pub changed: Vec<(TenantId, ChangeKind)>,
    /// Tenants whose file is gone.
    pub removed: Vec<TenantId>,
    /// Whether the supervisor's own settings changed.
    pub settings: bool,
    /// Every problem of every file.
    pub problems: Vec<Problem>,
}

#[derive(Debug, Default)]
struct Entry {
    good: Option<Arc<Tenant>>,
    /// Boxed: nearly every tenant has none.
    problems: Option<Box<[Problem]>>,
}

/// Every tenant that has a file.
#[derive(Debug, Default)]
pub struct Registry {
    settings: Option<Arc<Settings>>,
    tenants: BTreeMap<TenantId, Entry>,
    problems: Vec<Problem>,
    /// The list of files that was read last may lack some.
    incomplete: bool,
}

impl Registry {
    /// One without tenants and settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what was loaded; says what is different now.
    pub fn apply(&mut self, loaded: Loaded) -> Changes {
        let mut changes = Changes { problems: loaded.problems, ..Changes::default() };
        changes.settings = self.settle(loaded.settings);
        self.incomplete = !loaded.complete;
        if loaded.complete {
            changes.removed = self.remove_all_but(&loaded.tenants);
        }
        let kept = self.kept(&loaded.tenants);
        for (id, tenant) in loaded.tenants {
            let tenant = tenant.and_then(|tenant| hold_back(tenant, &kept, &mut changes.problems));
            self.take_in(id, tenant, &mut changes);
        }
        self.problems.clone_from(&changes.problems);
        changes
    }

    /// The tenants whose old version goes on, because their file is broken or was not seen.
    fn kept(&self, loaded: &BTreeMap<TenantId, Result<Tenant, Vec<Problem>>>) -> Vec<Arc<Tenant>> {
        let goes_on = |id: &TenantId| !matches!(loaded.get(id), Some(Ok(_)));
        self.iter().filter(|tenant| goes_on(&tenant.id)).cloned().collect()
    }

    fn settle(&mut self, settings: Option<Settings>) -> bool {
        let Some(new) = settings else { return false };
        let same = self.settings.as_deref() == Some(&new);
        if !same {
            self.settings = Some(Arc::new(new));
        }
        !same
    }

    fn remove_all_but<T>(&mut self, present: &BTreeMap<TenantId, T>) -> Vec<TenantId> {
        let mut removed = Vec::new();
        self.tenants.retain(|id, entry| {
            let stays = present.contains_key(id);
            if !stays && entry.good.is_some() {
                removed.push(id.clone());
            }
            stays
        });
        removed
    }

    fn take_in(
        &mut self,
        id: TenantId,
        tenant: Result<Tenant, Vec<Problem>>,
        changes: &mut Changes,
    ) {
        let entry = self.tenants.entry(id.clone()).or_default();
        let new = match tenant {
            Ok(tenant) => tenant,
            Err(problems) => {
                entry.problems = Some(problems.into_boxed_slice());
                return;
            }
        };
        entry.problems = None;
        match &entry.good {
            None => changes.added.push(id),
            // Nothing that means anything changed; the Arc that others hold stays the one.
            Some(old) if old.digest == new.digest && old.not_enforced == new.not_enforced => return,
            Some(old) if old.start_digest == new.start_digest => {
                changes.changed.push((id, ChangeKind::Live));
            }
            Some(_) => changes.changed.push((id, ChangeKind::Restart)),
        }
        entry.good = Some(Arc::new(new));
    }

    /// The last good version of a tenant.
    pub fn get(&self, id: &TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(id)?.good.as_ref()
    }

    /// The last good version of every tenant, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values().filter_map(|entry| entry.good.as_ref())
    }

    /// Tenants that have a file and never had a good one, by id.
    pub fn broken(&self) -> impl Iterator<Item = (&TenantId, &[Problem])> {
        let broken = self.tenants.iter().filter(|(_, entry)| entry.good.is_none());
        broken.map(|(id, entry)| (id, entry.problems.as_deref().unwrap_or_default()))
    }

    /// The problems of a tenant that has a file and never had a good one.
    pub fn broken_one(&self, id: &TenantId) -> Option<&[Problem]> {
        let entry = self.tenants.get(id).filter(|entry| entry.good.is_none())?;
        Some(entry.problems.as_deref().unwrap_or_default())
    }

    /// Whether a tenant has a file, good or not.
    pub fn has(&self, id: &TenantId) -> bool {
        self.tenants.contains_key(id)
    }

    /// Whether a tenant surely has no file: not where the list of files could not be read whole.
    pub fn has_surely_not(&self, id: &TenantId) -> bool {
        !self.has(id) && !self.incomplete
    }

    /// What is wrong with a tenant's file as it stands; empty where nothing is.
    pub fn problems_of(&self, id: &TenantId) -> &[Problem] {
        self.tenants.get(id).and_then(|entry| entry.problems.as_deref()).unwrap_or_default()
    }

    /// Every problem of every file, by file and place.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The last good settings; `None` if there never were any.
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        self.settings.as_ref()
    }

    /// How many tenants have a good version.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether no tenant has a good version.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// Refuses a tenant that would stand on the ground of one that goes on with an older version.
///
/// `config::load` compares what the files say now; a broken file says nothing, and its tenant runs.
fn hold_back(
    tenant: Tenant,
    kept: &[Arc<Tenant>],
    problems: &mut Vec<Problem>,
) -> Result<Tenant, Vec<Problem>> {
    let other = kept.iter().find(|old| old.id != tenant.id && share_ground(old, &tenant));
    let Some(other) = other else { return Ok(tenant) };
    let problem = Problem {
        file: format!("tenants.d/{}.toml", tenant.id),
        line: 0,
        column: 0,
        what: format!("reaches files of tenant {}, whose last good version goes on", other.id),
        cure: format!("correct tenants.d/{}.toml first, or choose other paths", other.id),
        tenant: Some(tenant.id),
    };
    problems.push(problem.clone());
    Err(vec![problem])
}

/// Whether one of the two could touch what the other writes.
fn share_ground(a: &Tenant, b: &Tenant) -> bool {
    let meet = |one: &Path, other: &Path| one.starts_with(other) || other.starts_with(one);
    let clash = |a: &Tenant, b: &Tenant| {
        written(a).any(|mine| written(b).chain(read(b)).any(|theirs| meet(mine, theirs)))
    };
    clash(a, b) || clash(b, a)
}

fn written(tenant: &Tenant) -> impl Iterator<Item = &Path> {
    let extra = tenant.servers.iter().flat_map(|server| &server.sandbox.write);
    tenant.data.iter().chain(extra).map(PathBuf::as_path)
}

fn read(tenant: &Tenant) -> impl Iterator<Item = &Path> {
    tenant.servers.iter().flat_map(|server| &server.sandbox.read).map(PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::paths::{Layout, Mode};

    /// What `files` load to, from a real directory: a tenant by hand would be a page of fields.
    fn loaded(files: &[(&str, &str)]) -> Loaded {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        std::fs::create_dir_all(layout.tenants()).expect("mkdir");
        for (name, text) in files {
            std::fs::write(layout.config.join(name), text).expect("a file");
        }
        load(&layout)
    }

    const ACME: &str = "data = \"/srv/acme\"\n[server]\ncommand = \"sh\"\n";

    fn id(text: &str) -> TenantId {
        TenantId::parse(text).expect("a tenant id")
    }

    #[test]
    fn a_new_file_is_a_new_tenant_and_a_removed_one_is_gone() {
        let mut registry = Registry::new();
        let changes = registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        assert_eq!(changes.added, [id("acme")]);
        assert!(changes.settings && registry.len() == 1);
        let changes = registry.apply(loaded(&[]));
        assert_eq!(changes.removed, [id("acme")]);
        assert!(registry.is_empty());
    }

    #[test]
    fn the_same_files_again_change_nothing() {
        let mut registry = Registry::new();
        registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        let before = registry.get(&id("acme")).cloned().expect("acme");
        let changes = registry.apply(loaded(&[("tenants.d/acme.toml", &format!("# x\n{ACME}"))]));
        assert_eq!(changes, Changes::default());
        assert!(Arc::ptr_eq(&before, registry.get(&id("acme")).expect("acme")));
    }

    #[test]
    fn a_half_written_file_keeps_the_last_good_version() {
        let mut registry = Registry::new();
        registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        let changes = registry.apply(loaded(&[("tenants.d/acme.toml", &ACME[..ACME.len() - 5])]));
        assert!(changes.changed.is_empty() && changes.removed.is_empty());
        assert_eq!(changes.problems.len(), 1, "{:?}", changes.problems);
        assert!(registry.get(&id("acme")).is_some());
        assert_eq!(registry.problems_of(&id("acme")).len(), 1);
        assert_eq!(registry.broken().count(), 0);
        let changes = registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        assert!(changes.problems.is_empty() && registry.problems_of(&id("acme")).is_empty());
    }

    #[test]
    fn a_file_that_never_was_good_is_broken() {
        let mut registry = Registry::new();
        registry.apply(loaded(&[("tenants.d/acme.toml", "")]));
        assert!(registry.get(&id("acme")).is_none());
        let broken: Vec<_> = registry.broken().collect();
        assert!(matches!(&broken[..], [(acme, [_])] if **acme == id("acme")), "{broken:?}");
    }

    #[test]
    fn a_change_is_live_unless_a_running_server_holds_the_old() {
        let mut registry = Registry::new();
        registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        let live = format!("{ACME}[quota]\nsessions = 1\n");
        let changes = registry.apply(loaded(&[("tenants.d/acme.toml", &live)]));
        assert_eq!(changes.changed, [(id("acme"), ChangeKind::Live)]);
        let restart = format!("{ACME}args = [\"-c\", \"true\"]\n[quota]\nsessions = 1\n");
        let changes = registry.apply(loaded(&[("tenants.d/acme.toml", &restart)]));
        assert_eq!(changes.changed, [(id("acme"), ChangeKind::Restart)]);
    }

    #[test]
    fn broken_defaults_keep_every_tenant_as_it_was() {
        let mut registry = Registry::new();
        registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        let files = [
            ("tenantd.toml", "[defaults.quota]\nmemory = \"lots\"\n"),
            ("tenants.d/acme.toml", ACME),
        ];
        let changes = registry.apply(loaded(&files));
        assert_eq!(changes.problems.len(), 1);
        assert!(!changes.settings && registry.get(&id("acme")).is_some());
        assert_eq!(registry.problems_of(&id("acme")).len(), 1);
    }

    #[test]
    fn nobody_takes_the_ground_of_a_tenant_that_goes_on() {
        let mut registry = Registry::new();
        registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        let files = [("tenants.d/acme.toml", "broken"), ("tenants.d/globex.toml", ACME)];
        let changes = registry.apply(loaded(&files));
        assert_eq!(changes.problems.len(), 2, "{:?}", changes.problems);
        assert!(registry.get(&id("acme")).is_some() && registry.get(&id("globex")).is_none());
        let changes = registry.apply(loaded(&[("tenants.d/globex.toml", ACME)]));
        assert_eq!((changes.removed, changes.added), (vec![id("acme")], vec![id("globex")]));
    }

    #[test]
    fn a_list_that_may_be_incomplete_removes_nobody() {
        let mut registry = Registry::new();
        registry.apply(loaded(&[("tenants.d/acme.toml", ACME)]));
        let changes = registry.apply(Loaded { complete: false, ..loaded(&[]) });
        assert!(changes.removed.is_empty() && registry.len() == 1);
    }
}
