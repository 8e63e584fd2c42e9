//! Who would hold a tenant to its `quota.storage` here: the kernel, or the watcher. Found by giving a directory
//! beside the tenants' own to a project, as the supervisor does before a server starts.

use std::fs::File;
use std::path::Path;

use nix::libc::ENOSYS;

use super::machine::Fact;
use super::mount::Mount;
use crate::paths::{Layout, Mode};
use crate::sandbox::storage::{self, NoProject};
use crate::sys::{self, Project};

const NAME: &str = "storage quota";
/// Nobody writes to a tenant's directory while its file system is away.
const STOP: &str = "systemctl stop tenantd.socket tenantd.service";

/// What a file system lacks to limit projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    /// The kernel has no quotas.
    Kernel,
    /// Its files belong to no projects.
    Projects,
    /// It is mounted without the option.
    Option,
}

/// Finds out; `number` is a uid like the tenants', which no tenant has.
pub(super) fn quota(layout: &Layout, number: Option<u32>) -> Fact {
    if layout.mode == Mode::User {
        let found =
            "watcher (a project quota goes by a uid of the tenant's own, which user mode has not)";
        return Fact::good(NAME, found);
    }
    if !nix::unistd::geteuid().is_root() {
        return Fact::poor(NAME, "only root can try it", "sudo tenantd doctor --system");
    }
    let state = layout.tenant_states();
    let there = state.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let place = File::open(there).ok();
    let mount = place.as_ref().and_then(Mount::of);
    let shown = mount.as_ref().map_or_else(|| there.display().to_string(), Mount::shown);
    let ext4 = mount.as_ref().is_some_and(|mount| mount.kind == "ext4");
    match attempt(there, number, ext4) {
        Ok(()) => Fact::good(NAME, format!("project quota ({shown})")),
        Err((NoProject::NoNumber, _)) => {
            Fact::poor(NAME, "not tried: the tenants have no uids", "tenantd check --system")
        }
        Err((_, Some(lacks))) => {
            let what = match lacks {
                Lacks::Kernel => "this kernel has no quotas",
                Lacks::Projects => "its files belong to none",
                Lacks::Option => "it is mounted without prjquota",
            };
            let found = format!("watcher: {shown} limits no projects, {what}");
            Fact::poor(NAME, found, cure(mount.as_ref(), &layout.state, lacks))
        }
        Err((why, None)) => {
            let cure = format!("ls -ld {} (it must be a directory of root's)", there.display());
            Fact::poor(NAME, format!("watcher: {shown}: {why}"), cure)
        }
    }
}

/// Gives a new directory to the project; where the file system limits none, also what it lacks.
fn attempt(at: &Path, number: Option<u32>, ext4: bool) -> Result<(), (NoProject, Option<Lacks>)> {
    let refused = |error: std::io::Error| (NoProject::from(error), None);
    let trial = tempfile::Builder::new().prefix(".doctor-").tempdir_in(at).map_err(refused)?;
    storage::settle(&[trial.path()], number, None).map_err(|why| {
        let unlimited = matches!(why, NoProject::Unlimited);
        let lacks = number.filter(|_| unlimited).map(|number| lacks(trial.path(), number, ext4));
        (why, lacks)
    })
}

fn lacks(trial: &Path, number: u32, ext4: bool) -> Lacks {
    let Ok(trial) = File::open(trial) else { return Lacks::Option };
    let used = sys::project_use(&trial, number);
    // Of any other file system this number says that it has none, or has them switched off.
    if ext4 && used.is_err_and(|error| error.raw_os_error() == Some(ENOSYS)) {
        return Lacks::Kernel;
    }
    match sys::set_project(&trial, Project { id: number, inherits: true }) {
        Ok(()) => Lacks::Option,
        Err(_) => Lacks::Projects,
    }
}

/// The line to type. What a root file system needs is done before it is mounted.
fn cure(mount: Option<&Mount>, state: &Path, lacks: Lacks) -> String {
    let own = || {
        let state = state.display();
        format!(
            "mkfs.ext4 -O quota,project DISK && {STOP} && mount -o prjquota DISK {state} (DISK: one to spare)"
        )
    };
    let Some(Mount { kind, device, point }) = mount else { return own() };
    let root = point == "/";
    match (lacks, &**kind) {
        (Lacks::Kernel, _) => "boot a kernel with CONFIG_QUOTA and CONFIG_QFMT_V2".to_owned(),
        // A kernel without this format cannot mount what has the feature.
        (Lacks::Projects, "ext4") if root => format!(
            "modprobe quota_v2 && reboot into a rescue system; there: tune2fs -O project,quota {device}; \
             then boot with rootflags=prjquota"
        ),
        (Lacks::Projects, "ext4") => format!(
            "modprobe quota_v2 && {STOP} && umount {point} && tune2fs -O project,quota {device} && \
             mount -o prjquota {device} {point}"
        ),
        (Lacks::Option, "ext4" | "xfs") if root => "boot with rootflags=prjquota".to_owned(),
        (Lacks::Option, "ext4" | "xfs") => {
            format!("{STOP} && umount {point} && mount -o prjquota {device} {point}")
        }
        _ => own(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(kind: &str, point: &str, lacks: Lacks) -> String {
        let mount = Mount { kind: kind.into(), device: "/dev/vdc".into(), point: point.to_owned() };
        cure(Some(&mount), Path::new("/var/lib/tenantd"), lacks)
    }

    #[test]
    fn the_line_is_of_this_file_system() {
        let state = "/var/lib/tenantd";
        let line = typed("ext4", state, Lacks::Projects);
        assert!(line.contains("umount /var/lib/tenantd && tune2fs -O project,quota /dev/vdc"));
        assert!(line.ends_with("mount -o prjquota /dev/vdc /var/lib/tenantd"), "{line}");
        for kind in ["ext4", "xfs"] {
            let line = typed(kind, state, Lacks::Option);
            assert!(line.ends_with(
                "umount /var/lib/tenantd && mount -o prjquota /dev/vdc /var/lib/tenantd"
            ));
            assert!(!line.contains("tune2fs"), "{line}");
            assert_eq!(typed(kind, "/", Lacks::Option), "boot with rootflags=prjquota");
        }
        let root = typed("ext4", "/", Lacks::Projects);
        assert!(root.contains("rescue") && !root.contains("umount"), "{root}");
        for kind in ["btrfs", "tmpfs", "overlay"] {
            let line = typed(kind, "/", Lacks::Projects);
            assert!(line.contains("mkfs.ext4 -O quota,project"), "{line}");
        }
        assert!(typed("ext4", state, Lacks::Kernel).contains("CONFIG_QUOTA"));
    }

    #[test]
    fn a_users_tenants_are_watched_and_nothing_is_to_be_done() {
        let layout = Layout::rooted(Mode::User, Path::new("/nonexistent"));
        let fact = quota(&layout, None);
        assert!(fact.good && fact.found.starts_with("watcher"), "{fact:?}");
    }
}
