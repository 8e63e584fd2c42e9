//! What a server child is started with: its plan and its directories.
//!
//! [`prepare`] touches file systems that may hang, so it runs on a blocking thread; what comes of it is
//! started on the loop ([`birth`](super::birth)). Nothing here is kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::credentials::{self, Handover};
use super::estate::{Estate, EstateError, Ground};
use super::identities::{GroupError, Standing};
use super::ways;
use crate::config::expand::Values;
use crate::config::links_to;
use crate::config::tenant::{Limit, Server, Tenant};
use crate::paths::Layout;
use crate::sandbox::cgroup::Bounds;
use crate::sandbox::storage;
use crate::wire::egress::Way;
use crate::wire::stage::{Backend, CREDENTIALS, Limits, Seat, StagePlan, View};
use crate::wire::{self, Holder};

/// Where a server finds programs; nothing of the supervisor's own environment is inherited.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A child that can be started.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plan: StagePlan,
    /// A fingerprint of what is started.
    pub(super) program: String,
    pub(super) data: OwnedFd,
    /// What egress is told of it.
    pub(super) way: Option<Way>,
    /// What its control group may use.
    pub(super) bounds: Bounds,
    /// Its control group, made at the last moment.
    pub(super) seat: Option<Seat>,
    /// Where its secrets wait.
    pub(super) handover: Option<Handover>,
    /// Where those wait that egress puts into its requests.
    pub(super) injected: Option<Handover>,
    /// The authorities by which egress knows the hosts of those, where there are any.
    pub(super) authorities: Option<File>,
    /// For whom it is, where not for all.
    pub(super) holder: Option<Holder>,
}

impl Prepared {
    /// What its tenant's egress must know, where its network is an allowlist.
    pub(super) fn way(&self) -> Option<&Way> {
        self.way.as_ref()
    }
}

/// Why directories are not ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// A directory cannot be made or opened.
    #[error(
        "cannot use the directory {path}: {source} (it must be a real directory that this user can enter)"
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The authorities to trust.
    #[error("cannot use egress.ca_file {path}: {source}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory that is not the server's to use.
    #[error(transparent)]
    Estate(#[from] EstateError),
    /// A group that it cannot have.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A path that JSON cannot carry.
    #[error("{0} is not UTF-8 (rename it)")]
    NotText(PathBuf),
}

/// That a child is not started, as its mux hears it.
#[derive(Debug)]
pub(super) struct NotReady {
    pub(super) reason: String,
    /// Whether trying again without a change is pointless.
    pub(super) permanent: bool,
}

impl From<PrepareError> for NotReady {
    fn from(error: PrepareError) -> Self {
        // Whose a directory or a group is stays so until somebody changes it.
        let permanent = match &error {
            PrepareError::Directory { .. } | PrepareError::Authorities { .. } => false,
            PrepareError::Estate(error) => !matches!(error, EstateError::Directory(..)),
            PrepareError::Group(_) | PrepareError::NotText(_) => true,
        };
        Self { reason: error.to_string(), permanent }
    }
}

impl From<io::Error> for NotReady {
    fn from(error: io::Error) -> Self {
        Self { reason: error.to_string(), permanent: false }
    }
}

/// How the supervisor makes any child.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) layout: Layout,
    /// The user that the supervisor runs as.
    pub(super) owner: String,
    pub(super) backend: Backend,
    /// Whether a control group counts for its tenant.
    pub(super) bounded: bool,
    /// Who the child is to be (system mode).
    pub(super) standing: Option<Standing>,
    /// `egress.ca_file`.
    pub(super) ca_file: Option<PathBuf>,
}

/// Makes the directories of a child and its plan.
pub(super) fn prepare(
    means: &Means,
    tenant: &Tenant,
    server: &Server,
    holder: Option<&Holder>,
) -> Result<Prepared, PrepareError> {
    let Means { layout, owner, backend, bounded, standing, ca_file } = means;
    // A user of the tenant's own is called as the tenant.
    let owner = if standing.is_some() { tenant.id.as_str() } else { owner };
    let home = layout.tenant_home(&tenant.id);
    let data_path = data_directory(layout, tenant);
    let (identity, data) = match standing {
        None => (None, own_ground(&home, &data_path)?),
        Some(standing) => {
            let identity = standing.identity(&server.sandbox.groups)?;
            let range = standing.range;
            let data = grounds(layout, tenant, &Estate { identity: &identity, range })?;
            (Some(identity), data)
        }
    };
    let user = holder.map_or(owner, |holder| holder.user.as_str());
    let data_text = text(&data_path)?;
    let values = Values {
        tenant: tenant.id.as_str(),
        name: &tenant.name,
        data: &data_text,
        user: Some(user),
    };
    let (data_real, home_real) = (real(&data_path)?, real(&home)?);
    let plan = StagePlan {
        wire: wire::VERSION,
        command: text(&server.command)?,
        args: server.args.iter().map(|arg| values.expand(arg)).collect(),
        env: environment(tenant, server, &text(&home)?, &values, user),
        data: text(&data_real)?,
        home: text(&home_real)?,
        identity,
        keeper: standing.as_ref().map(Standing::keeper),
        backend: *backend,
        require: server.sandbox.require.clone(),
        view: View {
            data_owner: data.owner,
            data_shared: data.shared,
            ..view(server, [(&data_path, &data_real), (&home, &home_real)])?
        },
        network: ways::network(tenant, server),
        limits: limits(tenant, *backend, *bounded),
        seat: None,
        secrets: credentials::places(tenant, server),
    };
    let program = fingerprint(&plan);
    let (way, bounds) = (ways::way(tenant, server), Bounds::of(&tenant.quota));
    let project = plan.identity.as_ref().map(|identity| identity.uid);
    // Where it cannot be, the looks at what is stored find out and say so.
    let _ = storage::settle(&[&data_path, &home], project, at(tenant.quota.storage));
    let data = data.directory;
    let holder = holder.cloned();
    let mut prepared = Prepared {
        plan,
        program,
        data,
        way,
        bounds,
        seat: None,
        handover: None,
        injected: None,
        authorities: None,
        holder,
    };
    prepared.believe(ca_file.as_deref(), layout)?;
    Ok(prepared)
}

/// The directories of a server that runs as we do.
fn own_ground(home: &Path, data: &Path) -> Result<Ground, PrepareError> {
    open_private(home)?;
    Ok(Ground::its(open_private(data)?))
}

/// The directories of a server with a uid of its own.
fn grounds(layout: &Layout, tenant: &Tenant, estate: &Estate<'_>) -> Result<Ground, PrepareError> {
    let own = layout.tenant_state(&tenant.id);
    estate.own(&own, "home")?;
    Ok(match &tenant.data {
        None => Ground::its(estate.own(&own, "data")?),
        Some(data) => estate.lent(data)?,
    })
}

impl Prepared {
    /// With the escape probes in place of the server: the same sandbox around our own binary, which it sees
    /// beside what the server does.
    pub(super) fn probing(mut self, binary: &Path) -> Result<Self, PrepareError> {
        let binary = text(binary)?;
        self.plan.args = vec!["--role=probe".to_owned()];
        if !self.plan.view.read.contains(&binary) {
            self.plan.view.read.push(binary.clone());
        }
        self.plan.command = binary;
        // They need none, and what they find is told.
        self.plan.secrets.clear();
        if let Some(way) = &mut self.way {
            way.inject.clear();
        }
        Ok(self)
    }
}

/// A fingerprint of what is started: the plan, and the files that it names as they are now. A program or
/// script that was replaced has another one.
fn fingerprint(plan: &StagePlan) -> String {
    use std::os::unix::fs::MetadataExt;
    let mut hash = blake3::Hasher::new();
    // Fails only for maps whose keys are not text: there is none.
    hash.update(&serde_json::to_vec(plan).unwrap_or_default());
    for path in std::iter::once(&plan.command).chain(&plan.args).filter(|a| a.starts_with('/')) {
        if let Ok(file) = std::fs::metadata(path) {
            let seen = (file.ino(), file.mtime(), file.mtime_nsec(), file.size());
            hash.update(format!("{seen:?}").as_bytes());
        }
    }
    hash.finalize().to_hex().to_string()
}

/// What the server sees of the file system; `named` are its own directories, by name and where they are.
fn view(server: &Server, named: [(&Path, &Path); 2]) -> Result<View, PrepareError> {
    let (sandbox, needs) = (&server.sandbox, &server.needs);
    let texts =
        |paths: &[PathBuf]| paths.iter().map(|path| text(path)).collect::<Result<Vec<_>, _>>();
    let mut links = needs.links.clone();
    for (name, real) in named.iter().filter(|(name, real)| name != real) {
        links.extend(links_to(name).into_iter().filter(|(link, _)| !link.starts_with(real)));
    }
    let links = links.iter().map(|(place, says)| Ok((text(place)?, text(says)?)));
    Ok(View {
        read: texts(&[sandbox.read.as_slice(), &needs.read].concat())?,
        write: texts(&sandbox.write)?,
        links: links.collect::<Result<_, PrepareError>>()?,
        tmp_bytes: sandbox.tmp,
        data_exec: sandbox.data_exec,
        ..View::default()
    })
}

/// Without a control group each process is bounded by itself, and its uid's tasks in their namespace. With
/// one these would only be in the way: RLIMIT_DATA counts what is reserved and never used, as threads and
/// runtimes do.
fn limits(tenant: &Tenant, backend: Backend, bounded: bool) -> Limits {
    let quota = &tenant.quota;
    // Outside of a user namespace the kernel would count whatever else this user runs.
    let counted = matches!(backend, Backend::UserNamespace | Backend::Bubblewrap);
    Limits {
        open_files: at(quota.open_files).map(u64::from),
        data_bytes: at(quota.memory).filter(|_| !bounded),
        processes: at(quota.processes).map(u64::from).filter(|_| !bounded && counted),
        file_bytes: at(quota.storage),
    }
}

/// The directory that a tenant's data is in.
pub(super) fn data_directory(layout: &Layout, tenant: &Tenant) -> PathBuf {
    tenant.data.clone().unwrap_or_else(|| layout.tenant_data(&tenant.id))
}

fn at<T>(limit: Limit<T>) -> Option<T> {
    match limit {
        Limit::At(most) => Some(most),
        Limit::Unlimited => None,
    }
}

/// Where the directory is, links followed: what is bound has no link in its name.
fn real(path: &Path) -> Result<PathBuf, PrepareError> {
    let failed = |source| PrepareError::Directory { path: path.to_owned(), source };
    path.canonicalize().map_err(failed)
}

pub(super) fn text(path: &Path) -> Result<String, PrepareError> {
    path.to_str().map(str::to_owned).ok_or_else(|| PrepareError::NotText(path.to_owned()))
}

/// Makes the directory 0700 where there is none and opens it, a link at its end refused.
fn open_private(path: &Path) -> Result<OwnedFd, PrepareError> {
    let failed = |source| PrepareError::Directory { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))
}

fn environment(
    tenant: &Tenant,
    server: &Server,
    home: &str,
    values: &Values<'_>,
    user: &str,
) -> BTreeMap<String, String> {
    let found = server.needs.path.iter().map(|path| path.to_string_lossy());
    let path = found.chain([PATH.into()]).collect::<Vec<_>>().join(":");
    let mut env: BTreeMap<String, String> = [
        ("PATH", path.as_str()),
        ("HOME", home),
        ("LANG", "C.UTF-8"),
        ("USER", user),
        ("LOGNAME", user),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    env.extend(server.needs.env.clone());
    env.extend(ways::environment(&ways::network(tenant, server)));
    env.extend(server.env.iter().map(|(key, value)| (key.clone(), values.expand(value))));
    if credentials::has_files(tenant, server) {
        env.insert("CREDENTIALS_DIRECTORY".to_owned(), CREDENTIALS.to_owned());
    }
    // Ours come last: what a tenant's file says cannot pretend to be another tenant.
    let ours = [
        ("TENANTD_TENANT", tenant.id.as_str()),
        ("TENANTD_TENANT_NAME", tenant.name.as_str()),
        ("TENANTD_SERVER", server.name.as_str()),
        ("TENANTD_DATA_DIR", values.data),
    ];
    env.extend(ours.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    env.extend(tenant.features.iter().map(|(name, on)| {
        let name = name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        (format!("TENANTD_FEATURE_{name}"), if *on { "1" } else { "0" }.to_owned())
    }));
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Mode as Way;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn directories_are_made_private_and_links_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Way::User, dir.path());
        let path = layout.state.join("tenants/acme/data");
        open_private(&path).expect("made");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let error = open_private(&link).expect_err("refused").to_string();
        assert!(error.contains("link") && error.contains("real directory"), "{error}");
    }
}
