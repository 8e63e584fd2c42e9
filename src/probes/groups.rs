//! Control groups: whether the one that a server was put into holds it, and whether it can be left, changed or
//! seen. Limits that a process has by itself (getrlimit(2)) are none of this: they are in `limits`.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc::SYS_fsopen;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, getrlimit};

use super::attempt::{Attempt, deed, with};
use super::limits::{PROCESSES, processes};
use super::run::Scene;
use super::{Probe, probe};
use crate::sys::{Argument, attempt};

/// Files by which a group is bounded, in version 2 and 1.
const BOUNDS: [&str; 4] = ["pids.max", "memory.max", "memory.limit_in_bytes", "cpu.max"];

pub(super) const PROBES: &[Probe] = &[
    probe(
        "groups.processes",
        "more processes are started than the control group allows",
        "fork",
        |s| with(s.brief.groups.processes, "a control group that bounds it", bomb),
    ),
    probe("groups.left", "the control group is left", "write cgroup.procs", |s| {
        // 0 is who writes (cgroups(7)).
        each(s, |group| std::fs::write(group.join("cgroup.procs"), "0"))
    }),
    probe("groups.raised", "a limit of a control group is opened", "open O_WRONLY", |s| {
        each(s, |group| {
            let open = |name: &&str| OpenOptions::new().write(true).open(group.join(name)).is_ok();
            let found = BOUNDS.iter().any(open);
            if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        })
    }),
    probe("groups.made", "a control group is made", "mkdir", |s| {
        each(s, |group| {
            let made = group.join(format!("tenantd-probe-{}", std::process::id()));
            std::fs::create_dir(&made)?;
            std::fs::remove_dir(&made)
        })
    }),
    probe("groups.mounted", "control groups are mounted", "mount cgroup2", |_| {
        mounted("cgroup2", None)
    }),
    probe("groups.mounted-older", "control groups are mounted", "mount cgroup", |_| {
        mounted("cgroup", Some("pids"))
    }),
    probe("groups.prepared", "control groups are made ready to be mounted", "fsopen", |_| {
        deed(attempt(SYS_fsopen, &[Argument::Bytes(b"cgroup2\0"), Argument::Number(0)]))
    }),
    probe("groups.named", "the group's place on the host is shown", "open cgroup", |_| named()),
];

/// In the groups that hold the server on the host, whatever their names are here. The first that works.
fn each(s: &Scene<'_>, mut attempt: impl FnMut(&Path) -> io::Result<()>) -> Attempt {
    let places = &s.brief.groups.places;
    with((!places.is_empty()).then_some(places), "the control group", |places| {
        let mut last = Err(io::ErrorKind::NotFound.into());
        for place in places.iter().map(PathBuf::from) {
            last = attempt(&place);
            if last.is_ok() {
                break;
            }
        }
        deed(last)
    })
}

/// As many as the group allows and more, if nothing but the group would refuse them.
fn bomb(most: u32) -> Attempt {
    if most > PROCESSES {
        return Attempt::failed("the limit is too high to be tried");
    }
    match getrlimit(Resource::RLIMIT_NPROC) {
        Ok((soft, _)) if soft <= u64::from(most) => {
            Attempt::failed("its own limit (RLIMIT_NPROC) would refuse them first")
        }
        _ => processes(most),
    }
}

fn mounted(kind: &str, data: Option<&str>) -> Attempt {
    let done = mount(Some("probe"), "/tmp", Some(kind), MsFlags::MS_RDONLY, data);
    if done.is_ok() {
        // As it was.
        let _ = umount2("/tmp", MntFlags::MNT_DETACH);
    }
    deed(done)
}

/// In a namespace of its own each line ends with the root of it (cgroup_namespaces(7)).
fn named() -> Attempt {
    match std::fs::read_to_string("/proc/self/cgroup") {
        Ok(groups) => {
            let foreign = groups.lines().find(|line| !line.ends_with(":/"));
            Attempt::open_if(foreign.is_some(), foreign.unwrap_or("none but its own root"))
        }
        Err(error) => deed(Err::<(), _>(error)),
    }
}
