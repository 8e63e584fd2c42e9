//! Where this process is in the control groups: /proc/self/cgroup and /proc/self/mountinfo (proc(5),
//! cgroups(7)). Only reads; both files are the kernel's own words.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Both files, as they were in one moment.
#[derive(Debug)]
pub(super) struct Places {
    groups: Vec<Group>,
    mounts: Vec<Mount>,
}

/// A line of /proc/self/cgroup.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    /// Empty in the unified hierarchy.
    controllers: Vec<String>,
    path: PathBuf,
}

/// A cgroup line of /proc/self/mountinfo.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    unified: bool,
    /// The group that is mounted.
    root: PathBuf,
    place: PathBuf,
    /// v1: which controllers.
    options: Vec<String>,
}

impl Places {
    /// Reads them whole: they change as processes move.
    pub(super) fn read() -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::parse(&groups, &mounts))
    }

    fn parse(groups: &str, mounts: &str) -> Self {
        Self {
            groups: groups.lines().filter_map(group).collect(),
            mounts: mounts.lines().filter_map(mount).collect(),
        }
    }

    /// Our own group in the unified hierarchy.
    pub(super) fn unified(&self) -> Option<PathBuf> {
        let group = self.groups.iter().find(|group| group.controllers.is_empty())?;
        let mounts = self.mounts.iter().filter(|mount| mount.unified);
        mounts.filter_map(|mount| seen(mount, &group.path)).next()
    }

    /// Our own group in the hierarchy of a v1 controller.
    pub(super) fn of(&self, controller: &str) -> Option<PathBuf> {
        let names = |all: &[String]| all.iter().any(|one| one == controller);
        let group = self.groups.iter().find(|group| names(&group.controllers))?;
        let mounts = self.mounts.iter().filter(|mount| !mount.unified && names(&mount.options));
        mounts.filter_map(|mount| seen(mount, &group.path)).next()
    }
}

/// Where a group is seen through a mount, if it is below what is mounted.
fn seen(mount: &Mount, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(&mount.root).ok()?;
    // `/..` is what a group outside of the cgroup namespace looks like.
    let inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    // Without an empty last component, which would be a slash at the end.
    let whole =
        if below.as_os_str().is_empty() { mount.place.clone() } else { mount.place.join(below) };
    inside.then_some(whole)
}

fn group(line: &str) -> Option<Group> {
    let mut fields = line.splitn(3, ':');
    let controllers = fields.nth(1)?;
    let path = PathBuf::from(fields.next()?);
    let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    Some(Group { controllers: controllers.collect(), path })
}

fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, place) = (unescape(before.next()?), unescape(before.next()?));
    let mut after = after.split(' ');
    let unified = match after.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let options = after.nth(1)?.split(',').map(str::to_owned).collect();
    Some(Mount { unified, root, place, options })
}

/// Blank, tab, line feed and backslash are octal there.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let octal = more
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = octal.and_then(|_| more.get(3..)).unwrap_or(more);
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 /machine /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn each_hierarchy_is_found_where_it_is_mounted() {
        let groups = "4:memory:/machine/one\n2:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/user.slice\n";
        let places = Places::parse(groups, HYBRID);
        let unified = PathBuf::from("/sys/fs/cgroup/uni fied/user.slice");
        assert_eq!(places.unified(), Some(unified));
        assert_eq!(places.of("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/a".into()));
        assert_eq!(places.of("memory"), Some("/sys/fs/cgroup/memory/one".into()));
        assert_eq!(places.of("pids"), None);
    }

    #[test]
    fn the_mounted_group_itself_has_no_slash_at_its_end() {
        let places = Places::parse("4:memory:/machine\n", HYBRID);
        let found = places.of("memory").expect("found");
        assert_eq!(found.as_os_str(), "/sys/fs/cgroup/memory");
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_not_guessed() {
        let groups = "4:memory:/elsewhere\n0::/../outside\n";
        let places = Places::parse(groups, HYBRID);
        assert_eq!(places.of("memory"), None);
        assert_eq!(places.unified(), None);
    }
}
