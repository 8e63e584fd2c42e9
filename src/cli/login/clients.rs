//! The clients that this user has registered, by issuer: no login registers what is registered already.
//!
//! Ids alone, which are no secrets; a client that was given a secret is not written down, and registers anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use crate::cli::rooms;
use crate::credential::oauth::Registration;
use crate::paths::Mode;
use crate::wire::credential::LoginPlan;

/// The largest file that is read, bytes: hundreds of servers.
const SIZE_MAX: u64 = 256 * 1024;

/// The file, as far as it can be had: without it each login registers anew.
pub(super) struct Clients {
    path: Option<PathBuf>,
    by_issuer: BTreeMap<String, String>,
}

impl Clients {
    /// What was written down. A file that cannot be understood is as good as none.
    pub(super) fn open() -> Self {
        let layout = rooms::layout(Mode::User).ok();
        let path = layout.map(|layout| layout.state.join("oauth-clients.json"));
        let by_issuer = path.as_ref().and_then(|path| {
            let mut options = File::options();
            let file = options.read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
            let mut text = Vec::new();
            file.take(SIZE_MAX).read_to_end(&mut text).ok()?;
            serde_json::from_slice(&text).ok()
        });
        Self { path, by_issuer: by_issuer.unwrap_or_default() }
    }

    /// The client at this server. Without an issuer there is none of ours.
    pub(super) fn of(&self, plan: &LoginPlan) -> Option<String> {
        self.by_issuer.get(plan.issuer.as_ref()?).cloned()
    }

    /// Writes a new one down.
    pub(super) fn keep(&mut self, plan: &LoginPlan, registration: &Registration) {
        if let (Some(issuer), None) = (&plan.issuer, &registration.client_secret) {
            self.by_issuer.insert(issuer.clone(), registration.client_id.clone());
            self.write();
        }
    }

    /// Forgets the one at this server, if it is of ours.
    pub(super) fn forget(&mut self, plan: &LoginPlan) {
        let ours = plan.issuer.as_ref().filter(|_| plan.client_id.is_none());
        if ours.is_some_and(|issuer| self.by_issuer.remove(issuer).is_some()) {
            self.write();
        }
    }

    fn write(&self) {
        // Where it cannot be written the next login registers anew.
        let _ = self.try_write();
    }

    fn try_write(&self) -> Option<()> {
        let path = self.path.as_ref()?;
        let directory = path.parent()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).ok()?;
        let mut file = tempfile::NamedTempFile::new_in(directory).ok()?;
        file.write_all(&serde_json::to_vec_pretty(&self.by_issuer).ok()?).ok()?;
        file.persist(path).ok().map(drop)
    }
}
