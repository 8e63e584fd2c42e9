//! The loader that a dynamic program of 64 bits asks for (elf(5), PT_INTERP).
//!
//! A file that is not quite right gives nothing: what it needs is then not added, and its start says so.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::search;

/// Size of the header, and of one entry of the program header table, bytes.
const HEADER: usize = 64;
const ENTRY: usize = 56;
/// More entries than any linker writes.
const ENTRIES_MAX: u16 = 64;
/// The longest name of a loader, bytes (PATH_MAX).
const NAME_MAX: u64 = 4096;
/// `e_ident`: 64 bits, little end first, as on every machine that this program is built for.
const IDENT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const PT_INTERP: u32 = 3;

/// The loader of the program `path`; none for a static one.
pub(super) fn loader(path: &Path) -> Option<PathBuf> {
    let file = search::open(path)?;
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).ok()?;
    if !header.starts_with(&IDENT) {
        return None;
    }
    let table = u64::from_le_bytes(header[32..40].try_into().ok()?);
    let size = u16::from_le_bytes(header[54..56].try_into().ok()?);
    let count = u16::from_le_bytes(header[56..58].try_into().ok()?);
    if usize::from(size) != ENTRY || count > ENTRIES_MAX {
        return None;
    }
    for index in 0..u64::from(count) {
        let mut entry = [0; ENTRY];
        file.read_exact_at(&mut entry, table.checked_add(index * ENTRY as u64)?).ok()?;
        if u32::from_le_bytes(entry[..4].try_into().ok()?) == PT_INTERP {
            let at = u64::from_le_bytes(entry[8..16].try_into().ok()?);
            let length = u64::from_le_bytes(entry[32..40].try_into().ok()?);
            return name(&file, at, length);
        }
    }
    None
}

fn name(file: &std::fs::File, at: u64, length: u64) -> Option<PathBuf> {
    let mut bytes = vec![0; usize::try_from(length.min(NAME_MAX)).ok()?];
    file.read_exact_at(&mut bytes, at).ok()?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let path = PathBuf::from(OsStr::from_bytes(&bytes[..end]));
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_program_of_this_machine_names_its_loader() {
        let shell = Path::new("/bin/sh").canonicalize().expect("a shell");
        let loader = loader(&shell).expect("it is dynamic");
        assert!(loader.to_string_lossy().contains("ld-"), "{loader:?}");
        assert!(loader.exists());
    }

    proptest! {
        #[test]
        fn a_broken_header_gives_nothing_or_a_path(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = IDENT.to_vec();
            bytes.extend(tail);
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), &bytes).expect("written");
            prop_assert!(loader(file.path()).is_none_or(|path| path.is_absolute()));
        }
    }
}
