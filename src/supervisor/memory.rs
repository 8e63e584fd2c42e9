//! What a tenant's muxes remember of its servers' handshakes, one file for each tenant: opened here, read
//! and written by the mux alone.
//!
//! The supervisor never reads it. It outlives the mux, so that a server that was met before greets its
//! client at once while it starts.

use std::fs::File;
use std::io;

use super::ground::appending;
use crate::names::TenantId;
use crate::paths::Layout;

/// Beyond this the file starts anew, bytes: what is remembered is learned again.
const SIZE: u64 = 1024 * 1024;

/// The memory of a tenant's muxes, for reading and appending.
pub(super) fn open(layout: &Layout, tenant: &TenantId) -> io::Result<File> {
    let directory = layout.tenant_state(tenant);
    let file = appending(&directory)?.read(true).open(directory.join("handshakes.jsonl"))?;
    if file.metadata()?.len() > SIZE {
        file.set_len(0)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Mode;
    use std::io::{Read, Write};

    #[test]
    fn what_was_written_is_there_for_the_next_mux_until_it_is_too_much() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        let acme = TenantId::parse("acme").expect("an id");
        let read = |mut file: File| {
            let mut text = String::new();
            file.read_to_string(&mut text).expect("read");
            text
        };
        open(&layout, &acme).expect("opened").write_all(b"one").expect("written");
        open(&layout, &acme).expect("opened").write_all(b" two").expect("written");
        assert_eq!(read(open(&layout, &acme).expect("opened")), "one two");
        open(&layout, &acme).expect("opened").set_len(SIZE + 1).expect("grown");
        assert_eq!(read(open(&layout, &acme).expect("opened")), "");
    }
}
