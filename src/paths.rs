//! Where everything lives: one [`Layout`] for system mode, one for user mode, one for a `TENANTD_HOME`.
//!
//! User-mode paths come from the uid (passwd and `/run/user/UID`), not from the client's environment:
//! desktop clients start servers with hardly any, and snaps with another runtime directory. Only
//! `TENANTD_HOME` and `TENANTD_RUNTIME` override. This room computes paths; it opens and makes nothing
//! but the one check that a runtime directory is ours.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::names::TenantId;

/// The environment variable that gives one root for everything.
pub const HOME_VARIABLE: &str = "TENANTD_HOME";
/// The environment variable that gives the directory of the sockets.
pub const RUNTIME_VARIABLE: &str = "TENANTD_RUNTIME";

/// Who a supervisor works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Started by the system: grants only, tenants have uids of their own.
    System,
    /// Started by and for one user, who has every permission.
    User,
}

impl Mode {
    /// The name as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }
}

/// Why no layout could be made.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The uid has no passwd entry to take a home from.
    #[error(
        "uid {0} has no home directory in passwd (set {HOME_VARIABLE} to a directory of your own)"
    )]
    NoHome(u32),
    /// An override is not an absolute path.
    #[error("{0}={1} is not an absolute path (write the whole path)")]
    Relative(&'static str, PathBuf),
}

/// The directories of one supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Who it works for.
    pub mode: Mode,
    /// `tenantd.toml`, `tenants.d/`, `templates.d/`.
    pub config: PathBuf,
    /// The tenants' own directories and the supervisor's tables.
    pub state: PathBuf,
    /// The operational log, one directory per tenant below `tenants/`.
    pub log: PathBuf,
    /// The sockets and the lock.
    pub runtime: PathBuf,
}

impl Layout {
    /// The system-mode layout.
    pub fn system() -> Self {
        Self {
            mode: Mode::System,
            config: "/etc/tenantd".into(),
            state: "/var/lib/tenantd".into(),
            log: "/var/log/tenantd".into(),
            runtime: "/run/tenantd".into(),
        }
    }

    /// The user-mode layout of `uid`, whose home is `home`.
    pub fn user(uid: u32, home: &Path) -> Self {
        Self {
            mode: Mode::User,
            config: home.join(".config/tenantd"),
            state: home.join(".local/share/tenantd"),
            log: home.join(".local/state/tenantd"),
            runtime: user_runtime(uid),
        }
    }

    /// Everything below one directory, for tests, demos and side-by-side copies.
    pub fn rooted(mode: Mode, root: &Path) -> Self {
        Self {
            mode,
            config: root.join("config"),
            state: root.join("state"),
            log: root.join("log"),
            runtime: root.join("run"),
        }
    }

    /// The layout of `mode` for this process, after the two overrides.
    ///
    /// # Errors
    /// [`LayoutError`] if an override is relative, or the user has no home.
    pub fn of(mode: Mode) -> Result<Self, LayoutError> {
        let mut layout = match absolute(HOME_VARIABLE)? {
            Some(root) => Self::rooted(mode, &root),
            None if mode == Mode::System => Self::system(),
            None => {
                let uid = nix::unistd::getuid();
                let home = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.dir);
                Self::user(uid.as_raw(), &home.ok_or(LayoutError::NoHome(uid.as_raw()))?)
            }
        };
        if let Some(runtime) = absolute(RUNTIME_VARIABLE)? {
            layout.runtime = runtime;
        }
        Ok(layout)
    }

    /// This layout as a client that starts now finds it: `/run/user/UID` comes with a user's first login
    /// and goes with the last logout, and with it moves the runtime directory that depends on it.
    pub fn now(&self) -> Self {
        let uid = nix::unistd::getuid().as_raw();
        let moves = self.mode == Mode::User && user_runtimes(uid).contains(&self.runtime);
        let runtime = if moves { user_runtime(uid) } else { self.runtime.clone() };
        Self { runtime, ..self.clone() }
    }

    /// The door for descriptors (SOCK_SEQPACKET).
    pub fn session_socket(&self) -> PathBuf {
        self.runtime.join("session.sock")
    }

    /// The control API (Varlink over SOCK_STREAM).
    pub fn control_socket(&self) -> PathBuf {
        self.runtime.join("tenantd.sock")
    }

    /// The cell sockets, one for each mux: `cells/<n>.sock`.
    pub fn cells(&self) -> PathBuf {
        self.runtime.join("cells")
    }

    /// The lock that makes one supervisor per state directory.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// The table of the tenants' uids (system mode).
    pub fn uids(&self) -> PathBuf {
        self.state.join("uids.json")
    }

    /// The directory of the encrypted files, one for each tenant (`store = "encrypted-file"`).
    pub fn secrets(&self) -> PathBuf {
        self.state.join("secrets")
    }

    /// The key of the encrypted files where no service manager gives one. Not below the configuration: that
    /// is copied to other machines and kept under version control.
    pub fn secrets_key(&self) -> PathBuf {
        self.state.join("tenantd.key")
    }

    /// What is locked while a login of this tenant's is renewed.
    pub fn renewals(&self, tenant: &TenantId) -> PathBuf {
        self.state.join("credentials").join(format!("{tenant}.lock"))
    }

    /// The directory of the tenants' own directories.
    pub fn tenant_states(&self) -> PathBuf {
        self.state.join("tenants")
    }

    /// The main configuration file.
    pub fn main_file(&self) -> PathBuf {
        self.config.join("tenantd.toml")
    }

    /// The directory of tenant files.
    pub fn tenants(&self) -> PathBuf {
        self.config.join("tenants.d")
    }

    /// The directory of templates.
    pub fn templates(&self) -> PathBuf {
        self.config.join("templates.d")
    }

    /// The file of one tenant.
    pub fn tenant_file(&self, tenant: &TenantId) -> PathBuf {
        self.tenants().join(format!("{tenant}.toml"))
    }

    /// All that tenantd keeps for one tenant.
    pub fn tenant_state(&self, tenant: &TenantId) -> PathBuf {
        self.tenant_states().join(tenant.as_str())
    }

    /// The tenant's data directory, unless its file names another.
    pub fn tenant_data(&self, tenant: &TenantId) -> PathBuf {
        self.tenant_state(tenant).join("data")
    }

    /// The HOME of the tenant's servers.
    pub fn tenant_home(&self, tenant: &TenantId) -> PathBuf {
        self.tenant_state(tenant).join("home")
    }

    /// What the tenant's servers wrote to stderr.
    pub fn tenant_log(&self, tenant: &TenantId) -> PathBuf {
        self.log.join("tenants").join(tenant.as_str())
    }
}

fn absolute(variable: &'static str) -> Result<Option<PathBuf>, LayoutError> {
    match std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
        Some(path) if path.is_absolute() => Ok(Some(path)),
        Some(path) => Err(LayoutError::Relative(variable, path)),
        None => Ok(None),
    }
}

/// `/run/user/UID` if it is ours and private, else a directory below `/tmp` that the supervisor makes
/// 0700 and whose owner every client checks before it trusts a socket in it.
fn user_runtime(uid: u32) -> PathBuf {
    let [of_login, other] = user_runtimes(uid);
    let login = Path::new("/run/user").join(uid.to_string());
    if is_private(&login, uid) { of_login } else { other }
}

fn user_runtimes(uid: u32) -> [PathBuf; 2] {
    [format!("/run/user/{uid}/tenantd").into(), format!("/tmp/tenantd-{uid}").into()]
}

/// Whether `path` is a real directory of `uid` that nobody else can enter.
pub fn is_private(path: &Path, uid: u32) -> bool {
    path.symlink_metadata()
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rooted_layout_stays_below_its_root() {
        let layout = Layout::rooted(Mode::User, Path::new("/x"));
        let acme = TenantId::parse("acme").expect("a name");
        assert_eq!(layout.tenant_data(&acme), Path::new("/x/state/tenants/acme/data"));
        assert_eq!(layout.session_socket(), Path::new("/x/run/session.sock"));
        assert_eq!(layout.tenant_file(&acme), Path::new("/x/config/tenants.d/acme.toml"));
    }

    #[test]
    fn a_runtime_directory_that_others_can_enter_is_not_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let uid = nix::unistd::getuid().as_raw();
        let chmod = |mode| {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(dir.path(), permissions).expect("chmod");
        };
        chmod(0o700);
        assert!(is_private(dir.path(), uid));
        chmod(0o755);
        assert!(!is_private(dir.path(), uid));
        assert!(!is_private(dir.path(), uid + 1));
        assert!(!is_private(Path::new("/nonexistent"), uid));
    }
}
