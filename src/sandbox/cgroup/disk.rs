//! The disk that a directory is on, as the kernel's limits name it: `MAJOR:MINOR` of the whole disk.
//!
//! A file system of several or no disks (btrfs, a network's) has a number of its own: then its mount says
//! what it is made of. A partition cannot be bounded, its disk can. Looks at the file system of a
//! directory that a tenant chooses, so never on the loop.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    major: u32,
    minor: u32,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Disk {
    /// The disk that `path`, or the nearest directory above it, is on.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn of(path: &Path) -> Result<Self, String> {
        let there = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
        let (there, meta) =
            there.ok_or_else(|| format!("{} cannot be looked at", path.display()))?;
        let device = match Self::numbered(meta.dev()) {
            device if device.major != 0 => device,
            _ => Self::mounted(there).ok_or_else(|| format!("{} is on no disk", path.display()))?,
        };
        Ok(device.whole(Path::new("/sys/dev/block")))
    }

    fn numbered(device: u64) -> Self {
        Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
    }

    /// The device that the mount around `path` names as its source.
    fn mounted(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let around = mounts.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let place = before.split(' ').nth(4)?;
            path.starts_with(place)
                .then(|| (place.len(), after.split(' ').nth(1).map(str::to_owned)))
        });
        // The last of the longest: it is mounted over the others.
        let (_, source) = around.max_by_key(|(length, _)| *length)?;
        let meta = fs::metadata(source.filter(|source| source.starts_with("/dev/"))?).ok()?;
        meta.file_type().is_block_device().then(|| Self::numbered(meta.rdev()))
    }

    /// A partition's disk; another device itself. `devices` is /sys/dev/block.
    fn whole(self, devices: &Path) -> Self {
        let own = devices.join(self.to_string());
        if !own.join("partition").exists() {
            return self;
        }
        let disk = fs::canonicalize(own).ok();
        let text = disk.and_then(|path| fs::read_to_string(path.parent()?.join("dev")).ok());
        let numbers = text.as_deref().and_then(|text| text.trim().split_once(':'));
        let parse = |(major, minor): (&str, &str)| {
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        numbers.and_then(parse).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_bounded_by_its_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let partition = dir.path().join("devices/sda/sda1");
        fs::create_dir_all(&partition).expect("made");
        fs::write(partition.join("partition"), "1\n").expect("written");
        fs::write(dir.path().join("devices/sda/dev"), "8:0\n").expect("written");
        let block = dir.path().join("block");
        fs::create_dir(&block).expect("made");
        std::os::unix::fs::symlink(&partition, block.join("8:1")).expect("a link");
        let disk = |minor| Disk { major: 8, minor };
        assert_eq!(disk(1).whole(&block), disk(0));
        assert_eq!(disk(16).whole(&block), disk(16), "what is no partition is itself");
    }

    #[test]
    fn what_is_on_no_disk_says_so() {
        let said = Disk::of(Path::new("/proc/self")).expect_err("no disk");
        assert!(said.contains("/proc/self is on no disk"), "{said}");
    }
}
