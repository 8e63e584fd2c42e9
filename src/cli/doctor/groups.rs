//! Where the control groups of a process are on this machine, in each hierarchy that is mounted.

use std::path::{Path, PathBuf};

/// The directories of the groups that a process is in; none where it is gone.
pub(super) fn of(pid: i32) -> Vec<PathBuf> {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    places(&read(format!("/proc/{pid}/cgroup")), &read("/proc/self/mountinfo".to_owned()))
}

/// From /proc/PID/cgroup and /proc/self/mountinfo (cgroups(7), proc_pid_mountinfo(5)).
fn places(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let place = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        mounts.lines().find_map(|mount| below(mount, controllers, path))
    };
    groups.lines().filter_map(place).collect()
}

/// The group's directory, if this is the mount of its hierarchy: of version 2 where no controllers are named.
fn below(mount: &str, controllers: &str, path: &str) -> Option<PathBuf> {
    let (place, system) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut system = system.split(' ');
    let (kind, _, options) = (system.next()?, system.next(), system.next()?);
    let mounted = match controllers {
        "" => kind == "cgroup2",
        some => {
            let has = |name: &str| options.split(',').any(|option| option == name);
            kind == "cgroup" && some.split(',').all(has)
        }
    };
    let below = Path::new(path).strip_prefix(root).ok()?;
    mounted.then(|| Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        36 31 0:33 /box /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn each_hierarchy_that_is_mounted_has_its_place() {
        let groups = "4:memory:/a/b\n3:cpu,cpuacct:/box/c\n2:pids:/a\n1:cpu,cpuacct:/else\n0::/d\n";
        let found = places(groups, MOUNTS);
        let expected = ["memory/a/b", "cpu,cpuacct/c", "unified/d"];
        assert_eq!(found, expected.map(|path| Path::new("/sys/fs/cgroup").join(path)));
    }
}
