//! Which file system a directory is on, as the lines to type must name it.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, statx};

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// `ext4`, `xfs` and so on.
    pub(super) kind: String,
    /// What is mounted.
    pub(super) device: String,
    /// Where.
    pub(super) point: String,
}

impl Mount {
    /// The mount that an open directory is on.
    pub(super) fn of(directory: impl AsFd) -> Option<Self> {
        let stat = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let id = stat.stx_mnt_id.to_string();
        mounts.lines().find(|line| line.split(' ').next() == Some(&id)).and_then(Self::parse)
    }

    fn parse(line: &str) -> Option<Self> {
        let (place, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (kind, device) = (system.next()?.to_owned(), plain(system.next()?));
        Some(Self { kind, device, point: plain(place.split(' ').nth(4)?) })
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        format!("{} at {}", self.kind, self.point)
    }
}

/// Spaces, tabs, line ends and backslashes stand there as \040 and so on.
fn plain(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, is)| text.replace(escape, is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_as_many_optional_fields_as_it_likes() {
        for optional in ["", "shared:1 ", "shared:1 master:2 "] {
            let line = format!(
                "36 35 98:0 /sub /srv/my\\040disk rw,noatime {optional}- ext4 /dev/vdb rw,prjquota"
            );
            let mount = Mount::parse(&line).expect("a mount");
            assert_eq!(mount.shown(), "ext4 at /srv/my disk");
            assert_eq!(mount.device, "/dev/vdb");
        }
    }

    #[test]
    fn a_directory_is_on_the_mount_that_holds_it() {
        let proc = Mount::of(std::fs::File::open("/proc/self").expect("opened")).expect("a mount");
        assert_eq!((&*proc.kind, &*proc.point), ("proc", "/proc"));
    }
}
