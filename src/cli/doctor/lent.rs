//! Whether a person's directory could be lent to a server here: by an idmapped mount of it, attached nowhere,
//! as the stage makes one.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc::{ENOSPC, EPERM};
use nix::unistd::geteuid;

use super::machine::Fact;
use super::mount::Mount;
use crate::cli::lending;
use crate::config::Loaded;
use crate::paths::{Layout, Mode};
use crate::sandbox::{idmap, storage};
use crate::wire::Identity;
use crate::wire::stage::Owner;

const NAME: &str = "idmapped mounts";
/// Where people's files are, unless a tenant's file says otherwise.
const HOMES: &str = "/home";
/// Somebody: whether there can be such a mount does not depend on who it is.
const PERSON: Owner = Owner { uid: 1000, gid: 1000 };

/// Finds out; `number` is a uid like the tenants', which no tenant has.
pub(super) fn mounts(layout: &Layout, loaded: Option<&Loaded>, number: Option<u32>) -> Fact {
    if layout.mode == Mode::User {
        return Fact::good(NAME, "not needed: a user's servers have the user's own uid");
    }
    if !geteuid().is_root() {
        return Fact::poor(NAME, "only root can try it", "sudo tenantd doctor --system");
    }
    let uid = number.unwrap_or(PERSON.uid + 1);
    let server = Identity { uid, gid: uid, groups: Vec::new() };
    lending::alone();
    let tried = places(layout, loaded).into_iter().map(|(path, directory)| {
        let mount = Mount::of(&directory);
        let shown = mount.map_or_else(|| path.display().to_string(), |mount| mount.shown());
        (path, shown, idmap::map(directory.as_fd(), PERSON, &server).map(drop))
    });
    judge(tried.collect())
}

/// The tenants' own directories of data, one of each file system; else where people's are.
fn places(layout: &Layout, loaded: Option<&Loaded>) -> Vec<(PathBuf, OwnedFd)> {
    let tenants = loaded.into_iter().flat_map(|loaded| loaded.tenants.values());
    let mut paths: Vec<_> = tenants.flatten().filter_map(|tenant| tenant.data.clone()).collect();
    if paths.is_empty() {
        paths.extend([HOMES.into(), layout.state.clone()]);
    }
    let mut seen = BTreeSet::new();
    let mut opened = paths.into_iter().filter_map(|path| {
        let there = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        let directory = storage::open_top(there).ok().flatten()?;
        let device = rustix::fs::fstat(&directory).ok()?.st_dev;
        seen.insert(device).then(|| (there.to_owned(), directory))
    });
    opened.by_ref().collect()
}

fn judge(tried: Vec<(PathBuf, String, io::Result<()>)>) -> Fact {
    let good: Vec<_> = tried.iter().filter(|it| it.2.is_ok()).map(|it| &*it.1).collect();
    let refused = tried.iter().find_map(|(path, at, done)| Some((path, at, done.as_ref().err()?)));
    let Some((path, at, error)) = refused else {
        let found = format!("can be made: a person's data stays theirs ({})", good.join(", "));
        return Fact::good(NAME, found);
    };
    let cure = match error.raw_os_error() {
        Some(ENOSPC | EPERM) => "sysctl -w user.max_user_namespaces=15000".to_owned(),
        _ => {
            let path = path.display();
            format!(
                "chgrp -R GROUP {path} && chmod -R g+rwX {path} (and sandbox.groups = [\"GROUP\"] in the tenant's file)"
            )
        }
    };
    Fact::poor(
        NAME,
        format!("not of {at}: {error}; a person's data is reached by group only"),
        cure,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_system_that_cannot_is_named_with_its_way_out() {
        let error = |number| Err(io::Error::from_raw_os_error(number));
        let at = |path: &str, done| (PathBuf::from(path), format!("nfs at {path}"), done);
        let fact = judge(vec![at("/home", Ok(())), at("/srv", error(nix::libc::EINVAL))]);
        assert!(!fact.good && fact.found.contains("nfs at /srv"), "{fact:?}");
        assert!(fact.cure.as_deref().is_some_and(|cure| cure.starts_with("chgrp -R GROUP /srv")));
        let fact = judge(vec![at("/home", error(ENOSPC))]);
        assert!(fact.cure.as_deref().is_some_and(|cure| cure.contains("max_user_namespaces")));
        assert!(judge(vec![at("/home", Ok(()))]).good);
    }

    #[test]
    fn a_users_servers_need_none() {
        let layout = Layout::rooted(Mode::User, Path::new("/nonexistent"));
        assert!(mounts(&layout, None, None).good);
    }
}
