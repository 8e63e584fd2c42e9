//! The control groups that a killed supervisor of root's leaves, once nobody is in them: the next one of its
//! home would remove them, and there is none.

use std::fs;
use std::path::{Path, PathBuf};

/// Removes what is empty of them, wherever v1 controllers are mounted as usual.
pub(crate) fn remove_groups(state: &Path) {
    let digest = blake3::hash(state.as_os_str().as_encoded_bytes()).to_hex();
    let name = format!("tenantd-{}", &digest[..12]);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            let tree = PathBuf::from("/sys/fs/cgroup").join(controllers);
            remove(&tree.join(path.trim_start_matches('/')).join(&name));
        }
    }
}

fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    // One that somebody is still in stays.
    let _ = fs::remove_dir(directory);
}
