//! What `tenantd check` can say of a system's tenants only by looking: whether there are uids for them, and how
//! their servers come to data that belongs to somebody. As root, because nobody else can tell.
//!
//! Tries what the stage will do, on the very directories, and leaves nothing behind.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User, geteuid};

use crate::auth::Ids;
use crate::auth::uids::{Care, Uids};
use crate::config::tenant::{Server, Tenant};
use crate::config::{Loaded, Problem};
use crate::paths::{Layout, Mode};
use crate::sandbox::idmap;
use crate::supervisor::estate::{Estate, Ground};
use crate::supervisor::identities;
use crate::wire::Identity;
use crate::wire::stage::Owner;

/// How long a thread that has ended may still be counted as one of ours.
const THREAD_LEAVES: Duration = Duration::from_secs(1);

/// Adds what is wrong to the problems; returns a line for each tenant whose data is somebody's.
pub(super) fn look(layout: &Layout, loaded: &mut Loaded) -> Vec<String> {
    if layout.mode != Mode::System || !geteuid().is_root() {
        return Vec::new();
    }
    let Some(range) = loaded.settings.as_ref().map(|settings| settings.uid_range) else {
        return Vec::new();
    };
    let uids = identities::given(layout, loaded, range, Care::Look);
    let (mut problems, mut lines) = (Vec::new(), Vec::new());
    for tenant in loaded.tenants.values().filter_map(|tenant| tenant.as_ref().ok()) {
        match way(tenant, &uids, range) {
            Ok(line) => lines.extend(line),
            Err(what) => problems.push(problem(tenant, what)),
        }
    }
    loaded.problems.extend(problems);
    lines
}

fn problem(tenant: &Tenant, what: String) -> Problem {
    let (file, cure) = (format!("tenants.d/{}.toml", tenant.id), String::new());
    Problem { file, line: 0, column: 0, what, cure, tenant: Some(tenant.id.clone()) }
}

/// How the servers of a tenant come to its data, where that is somebody's; else what keeps one of them away.
fn way(tenant: &Tenant, uids: &Uids, range: (u32, u32)) -> Result<Option<String>, String> {
    let Some(data) = &tenant.data else { return Ok(None) };
    // Without one, that is told already.
    let Some(uid) = uids.known(&tenant.id).map(|its| its.server) else { return Ok(None) };
    let mut line = None;
    for server in &tenant.servers {
        let identity = identity(server, uid, range)?;
        let estate = Estate { identity: &identity, range };
        let ground = estate.look(data).map_err(|error| error.to_string())?;
        let Some(Ground { directory, owner: Some(owner), shared }) = ground else { continue };
        let shown = data.display();
        alone();
        line = Some(match idmap::map(directory.as_fd(), owner, &identity) {
            Ok(_) => {
                let whose = whose(owner);
                format!(
                    "{}: {shown} stays {whose}'s, and so does what its servers write (idmapped mount)",
                    tenant.id
                )
            }
            Err(error) if shared => format!(
                "{}: {shown} is reached by group; what its servers write is uid {uid}'s (no idmapped mount: {error})",
                tenant.id
            ),
            Err(error) => {
                return Err(idmap::refusal(&shown.to_string(), owner, uid, &error.to_string()));
            }
        });
    }
    Ok(line)
}

fn identity(server: &Server, uid: u32, range: (u32, u32)) -> Result<Identity, String> {
    let mut ids = Ids::default();
    for name in &server.sandbox.groups {
        if let Ok(Some(group)) = nix::unistd::Group::from_name(name) {
            ids.groups.insert(name.clone(), group.gid.as_raw());
        }
    }
    let identity = identities::shared(uid, &server.sandbox.groups, range, &ids);
    identity.map_err(|error| error.to_string())
}

fn whose(owner: Owner) -> String {
    let user = User::from_uid(Uid::from_raw(owner.uid)).ok().flatten();
    user.map_or_else(|| format!("uid {}", owner.uid), |user| user.name)
}

/// Waits until the last thread that looked is gone: the trial forks.
pub(super) fn alone() {
    let since = Instant::now();
    let several = || std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1);
    while several() && since.elapsed() < THREAD_LEAVES {
        std::thread::sleep(Duration::from_millis(1));
    }
}
