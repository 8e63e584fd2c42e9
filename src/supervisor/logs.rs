//! The servers' own logs, one file for each tenant: opened, and rotated when a mux asks.
//!
//! What is in them is never read here.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::ground::appending;
use crate::names::TenantId;
use crate::paths::Layout;

/// Old files that are kept.
const KEPT: u32 = 3;

/// The log of a tenant's servers, for appending.
pub(super) fn open(layout: &Layout, tenant: &TenantId) -> io::Result<File> {
    appending(&layout.tenant_log(tenant))?.open(current(layout, tenant))
}

/// Moves the log aside, the oldest out of the way, and opens a new one.
pub(super) fn rotate(layout: &Layout, tenant: &TenantId) -> io::Result<File> {
    let name = |n: u32| match n {
        0 => current(layout, tenant),
        n => layout.tenant_log(tenant).join(format!("servers.log.{n}")),
    };
    for n in (0..KEPT).rev() {
        match std::fs::rename(name(n), name(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    open(layout, tenant)
}

fn current(layout: &Layout, tenant: &TenantId) -> PathBuf {
    layout.tenant_log(tenant).join("servers.log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Mode;
    use std::io::Write;

    #[test]
    fn a_rotated_log_keeps_three_old_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        let acme = TenantId::parse("acme").expect("an id");
        let mut log = open(&layout, &acme).expect("opened");
        for n in 0..5 {
            write!(log, "{n}").expect("written");
            log = rotate(&layout, &acme).expect("rotated");
        }
        let read = |name: &str| std::fs::read_to_string(layout.tenant_log(&acme).join(name));
        assert_eq!(read("servers.log").expect("there"), "");
        assert_eq!(read("servers.log.1").expect("there"), "4");
        assert_eq!(read("servers.log.3").expect("there"), "2");
        assert!(read("servers.log.4").is_err());
    }
}
