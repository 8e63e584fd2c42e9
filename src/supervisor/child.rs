//! What a server child is started with: its plan, its directories, its pipes.
//!
//! [`prepare`] touches file systems that may hang, so it runs on a blocking thread; [`birth`] makes the
//! descriptors and starts the stage, on the loop. Nothing here is kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::spawn::{Binary, Born};
use super::ways;
use crate::config::expand::Values;
use crate::config::tenant::{Limit, Server, Tenant};
use crate::paths::Layout;
use crate::post;
use crate::sandbox::cgroup::Bounds;
use crate::sys;
use crate::wire::egress::Way;
use crate::wire::stage::{Backend, Limits, Seat, StagePlan, View};
use crate::wire::{self, Birth, Holder};

/// Where a server finds programs; nothing of the supervisor's own environment is inherited.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A child that can be started.
#[derive(Debug)]
pub(super) struct Prepared {
    plan: StagePlan,
    program: String,
    data: OwnedFd,
    /// What egress is told of it.
    way: Option<Way>,
    /// What its control group may use.
    pub(super) bounds: Bounds,
    /// Its control group, made at the last moment.
    pub(super) seat: Option<Seat>,
}

impl Prepared {
    /// What its tenant's egress must know, where its network is an allowlist.
    pub(super) fn way(&self) -> Option<&Way> {
        self.way.as_ref()
    }

    /// Lets it trust the authorities in this file besides the system's.
    pub(super) fn trust(&mut self, ca_file: &Path, layout: &Layout) -> Result<(), PrepareError> {
        let failed = |source| PrepareError::Authorities { path: ca_file.to_owned(), source };
        let bundle = text(&ways::bundle(ca_file, &layout.state).map_err(failed)?)?;
        for (name, value) in ways::trust(&self.plan.network, &bundle) {
            self.plan.env.entry(name).or_insert(value);
        }
        self.plan.view.read.push(bundle);
        Ok(())
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
    /// A path that JSON cannot carry.
    #[error("{0} is not UTF-8 (rename it)")]
    NotText(PathBuf),
}

/// Makes the directories of a child and its plan; `bounded` where a control group counts for its tenant.
pub(super) fn prepare(
    layout: &Layout,
    owner: &str,
    backend: Backend,
    tenant: &Tenant,
    server: &Server,
    holder: Option<&Holder>,
    bounded: bool,
) -> Result<Prepared, PrepareError> {
    let home = layout.tenant_home(&tenant.id);
    open_private(&home)?;
    let data_path = data_directory(layout, tenant);
    let data = open_private(&data_path)?;
    let user = holder.map_or(owner, |holder| holder.user.as_str());
    let data_text = text(&data_path)?;
    let values = Values {
        tenant: tenant.id.as_str(),
        name: &tenant.name,
        data: &data_text,
        user: Some(user),
    };
    let plan = StagePlan {
        wire: wire::VERSION,
        command: text(&server.command)?,
        args: server.args.iter().map(|arg| values.expand(arg)).collect(),
        env: environment(tenant, server, &text(&home)?, &values, user),
        data: data_text.clone(),
        home: text(&home)?,
        identity: None,
        backend,
        require: server.sandbox.require.clone(),
        view: view(server)?,
        network: ways::network(server),
        limits: limits(tenant, backend, bounded),
        seat: None,
    };
    let program = fingerprint(&plan);
    let (way, bounds) = (ways::way(server), Bounds::of(&tenant.quota));
    Ok(Prepared { plan, program, data, way, bounds, seat: None })
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

/// What the server sees of the file system.
fn view(server: &Server) -> Result<View, PrepareError> {
    let sandbox = &server.sandbox;
    let texts =
        |paths: &[PathBuf]| paths.iter().map(|path| text(path)).collect::<Result<Vec<_>, _>>();
    let mut read = texts(&sandbox.read)?;
    let mut links = BTreeMap::new();
    // A command by another name is a link to what it means.
    let program = std::fs::canonicalize(&server.command).unwrap_or(server.command.clone());
    if program != server.command {
        links.insert(text(&server.command)?, text(&program)?);
    }
    read.push(text(&program)?);
    Ok(View {
        read,
        links,
        write: texts(&sandbox.write)?,
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

fn text(path: &Path) -> Result<String, PrepareError> {
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
    let mut env: BTreeMap<String, String> =
        [("PATH", PATH), ("HOME", home), ("LANG", "C.UTF-8"), ("USER", user), ("LOGNAME", user)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
    env.extend(ways::environment(&ways::network(server)));
    env.extend(server.env.iter().map(|(key, value)| (key.clone(), values.expand(value))));
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

/// A started child, with what the mux gets of it.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) born: Born,
    pub(super) program: String,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    lifeline: OwnedFd,
}

impl Delivered {
    /// In the order of [`wire::ToMux::Started`].
    pub(super) fn into_descriptors(self) -> Vec<OwnedFd> {
        vec![self.stdin, self.stdout, self.stderr, self.lifeline, self.born.pidfd]
    }
}

/// Starts the stage, which begins where the mux is: there its keeper stays. `doors` is where egress takes
/// listeners. The server's ends block, as programs expect; the mux's ends do not.
pub(super) fn birth(
    binary: &Binary,
    prepared: &Prepared,
    doors: Option<OwnedFd>,
    log: &File,
    mux: &[PathBuf],
) -> io::Result<Delivered> {
    let plan = StagePlan { seat: prepared.seat.clone(), ..prepared.plan.clone() };
    let plan = post::seal(&plan).map_err(io::Error::other)?;
    let (stdin, feed) = pipe()?;
    let (stdout, out) = pipe()?;
    let (stderr, err) = pipe()?;
    let (lifeline, leash) = sys::seqpacket_pair()?;
    for ours in [&feed, &stdout, &stderr, &leash] {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    let mut theirs = vec![
        plan.as_fd(),
        stdin.as_fd(),
        out.as_fd(),
        err.as_fd(),
        lifeline.as_fd(),
        prepared.data.as_fd(),
    ];
    theirs.extend(doors.as_ref().map(AsFd::as_fd));
    let born = binary.start(&Birth::Stage, &theirs, log, mux)?;
    let program = prepared.program.clone();
    Ok(Delivered { born, program, stdin: feed, stdout, stderr, lifeline: leash })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
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
