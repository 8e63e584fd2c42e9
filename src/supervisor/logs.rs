//! The logs of each tenant, of its servers and of its network: opened, and rotated when who writes one
//! asks.
//!
//! What is in them is never read here.

use std::fs::File;
use std::io;

use super::ground::appending;
use crate::names::TenantId;
use crate::paths::Layout;

/// Old files that are kept.
const KEPT: u32 = 3;

/// What a tenant's servers wrote to stderr; its mux writes it.
pub(super) const SERVERS: &str = "servers.log";
/// A line for each connection of its servers; its egress writes it.
pub(super) const NETWORK: &str = "network.log";

/// A log of a tenant, for appending.
pub(super) fn open(layout: &Layout, tenant: &TenantId, log: &str) -> io::Result<File> {
    appending(&layout.tenant_log(tenant))?.open(layout.tenant_log(tenant).join(log))
}

/// Moves the log aside, the oldest out of the way, and opens a new one.
pub(super) fn rotate(layout: &Layout, tenant: &TenantId, log: &str) -> io::Result<File> {
    let name = |n: u32| match n {
        0 => layout.tenant_log(tenant).join(log),
        n => layout.tenant_log(tenant).join(format!("{log}.{n}")),
    };
    for n in (0..KEPT).rev() {
        match std::fs::rename(name(n), name(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    open(layout, tenant, log)
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
        let mut log = open(&layout, &acme, SERVERS).expect("opened");
        for n in 0..5 {
            write!(log, "{n}").expect("written");
            log = rotate(&layout, &acme, SERVERS).expect("rotated");
        }
        let read = |name: &str| std::fs::read_to_string(layout.tenant_log(&acme).join(name));
        assert_eq!(read("servers.log").expect("there"), "");
        assert_eq!(read("servers.log.1").expect("there"), "4");
        assert_eq!(read("servers.log.3").expect("there"), "2");
        assert!(read("servers.log.4").is_err());
    }
}
