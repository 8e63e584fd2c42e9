//! The files themselves: read with care, and laid out in one address space so that every value of a
//! merged table knows where it was written.
//!
//! A file is opened without touching what a FIFO or a device would do at open; its size is bounded; a
//! symbolic link is followed (`/etc` of NixOS and Kubernetes is made of them), what it leads to must be
//! a regular file. Nothing here knows what a file means.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::problem::{Problem, quotable};
use crate::paths::Mode;

/// The largest file, bytes. A tenant file of a hundred servers has some 30 KB.
pub(super) const FILE_MAX: u64 = 1 << 20;
/// The most files of one directory.
pub(super) const FILES_MAX: usize = 10_000;

/// One file that was read.
#[derive(Debug)]
pub(super) struct Source {
    /// Seen from the configuration directory.
    pub(super) name: String,
    /// What it holds.
    pub(super) text: String,
}

impl Source {
    /// Reads `path`, which messages call `name`; `None` where there is no such file.
    pub(super) fn read(path: &Path, name: &str, mode: Mode) -> Result<Option<Self>, Problem> {
        let file = match open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(path) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(name, &error)),
        };
        check(&file, name, mode)?;
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(name, &error))?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(too_large(name));
        }
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(name, &error))?;
        Ok(Some(Self { name: name.to_owned(), text }))
    }
}

/// Opens a regular file for reading, and nothing else.
///
/// O_PATH first: a plain open of a FIFO waits and one of a device acts. The second open goes through
/// the descriptor, so it is the same file whatever happens to the path in between.
fn open(path: &Path) -> io::Result<File> {
    let place = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
    if !place.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
}

fn check(file: &File, name: &str, mode: Mode) -> Result<(), Problem> {
    let meta = file.metadata().map_err(|error| unreadable(name, &error))?;
    if meta.len() > FILE_MAX {
        return Err(too_large(name));
    }
    // Whoever can write the file chooses the commands that run.
    if meta.mode() & 0o002 != 0 {
        let what = "everybody on this machine may change the file";
        return Err(Problem::whole(name, what, "take that away: chmod o-w"));
    }
    let ours = [0, nix::unistd::geteuid().as_raw()];
    if mode == Mode::System && !ours.contains(&meta.uid()) {
        let what = format!("the file belongs to uid {}", meta.uid());
        return Err(Problem::whole(name, what, "in system mode it must be root's: chown root"));
    }
    Ok(())
}

fn unreadable(name: &str, error: &io::Error) -> Problem {
    let cure = match error.kind() {
        io::ErrorKind::PermissionDenied => "give the supervisor's user the right to read it",
        io::ErrorKind::NotFound => "the link leads nowhere: correct it or remove it",
        _ => "put a regular file in its place or remove it",
    };
    Problem::whole(name, format!("cannot be read: {error}"), cure)
}

fn too_large(name: &str) -> Problem {
    let what = format!("is larger than {} MiB", FILE_MAX >> 20);
    Problem::whole(name, what, "write a smaller file")
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Problem {
    let good = error.utf8_error().valid_up_to();
    let before = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
    let (line, column) = line_column(&before, good);
    let what = "a byte that is not UTF-8";
    Problem { line, column, ..Problem::whole(name, what, "save the file as UTF-8") }
}

/// The stems of the `.toml` files in `dir`, sorted; what cannot be one of ours is a problem, what is
/// hidden or ends otherwise (editors' leftovers) is passed over.
pub(super) fn stems(dir: &Path, name: &str) -> (Vec<String>, Vec<Problem>) {
    let mut stems = Vec::new();
    let mut problems = Vec::new();
    match names(dir) {
        Ok(names) => {
            let toml = names.iter().filter(|name| !name.starts_with('.'));
            stems.extend(toml.filter_map(|name| name.strip_suffix(".toml")).map(str::to_owned));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let cure =
                "make it a directory that the supervisor's user may read and not everybody write";
            problems.push(Problem::whole(name, format!("cannot be read: {error}"), cure));
        }
    }
    stems.sort_unstable();
    if stems.len() > FILES_MAX {
        let what = format!("holds {} files; {FILES_MAX} are read", stems.len());
        problems.push(Problem::whole(name, what, "remove the tenants that are no longer needed"));
        stems.truncate(FILES_MAX);
    }
    (stems, problems)
}

/// The names of what is in a directory that not everybody may add to.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(dir)?;
    if dir.metadata()?.mode() & 0o002 != 0 {
        return Err(io::Error::other("everybody on this machine may add files to it"));
    }
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The sources of one load side by side: a byte of any of them has one address.
#[derive(Debug, Default, Clone)]
pub(super) struct Sources<'a> {
    files: Vec<(usize, &'a Source)>,
}

/// Where a byte is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl<'a> Sources<'a> {
    /// Adds a file; returns the address of its first byte.
    pub(super) fn add(&mut self, source: &'a Source) -> usize {
        // One byte between files: the end of one is not the start of the next.
        let base = self.files.last().map_or(0, |(base, last)| base + last.text.len() + 1);
        self.files.push((base, source));
        base
    }

    fn find(&self, address: usize) -> Option<(&'a Source, usize)> {
        let after = self.files.partition_point(|(base, _)| *base <= address);
        let (base, source) = self.files.get(after.checked_sub(1)?)?;
        Some((source, (address - base).min(source.text.len())))
    }

    /// The file, line and column of a byte.
    pub(super) fn place(&self, address: usize) -> Option<Place<'a>> {
        let (source, offset) = self.find(address)?;
        let (line, column) = line_column(&source.text, offset);
        Some(Place { file: &source.name, line, column })
    }

    /// What is written there, fit to be quoted; `None` if it spans lines or files.
    pub(super) fn quote(&self, span: &Range<usize>) -> Option<String> {
        let (source, offset) = self.find(span.start)?;
        let text = source.text.get(offset..offset + span.len())?;
        (!text.is_empty() && !text.contains('\n')).then(|| quotable(text))
    }

    /// The addresses of the whole lines that hold `span`.
    pub(super) fn lines(&self, span: &Range<usize>) -> Range<usize> {
        let Some((source, offset)) = self.find(span.start) else { return span.clone() };
        let text = source.text.as_bytes();
        let base = span.start - offset;
        let end = (offset + span.len()).min(text.len());
        let first = text[..offset].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let last = text[end..].iter().position(|b| *b == b'\n').map_or(text.len(), |at| end + at);
        base + first..base + last + 1
    }
}

/// Line and column, from 1, of a byte offset.
fn line_column(text: &str, offset: usize) -> (u32, u32) {
    let offset = (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    let before = &text[..offset.unwrap_or(0)];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    #[test]
    fn every_byte_of_every_file_has_its_own_place() {
        let (a, b) = (source("a", "one\ntwö x\n"), source("b", "zwei"));
        let mut sources = Sources::default();
        let (first, second) = (sources.add(&a), sources.add(&b));
        let place = |address| sources.place(address).expect("a place");
        assert_eq!(place(first), Place { file: "a", line: 1, column: 1 });
        assert_eq!(place(first + 9), Place { file: "a", line: 2, column: 5 });
        assert_eq!(place(first + a.text.len()), Place { file: "a", line: 3, column: 1 });
        assert_eq!(place(second), Place { file: "b", line: 1, column: 1 });
        assert_eq!(sources.quote(&(second..second + 4)).as_deref(), Some("zwei"));
        assert_eq!(sources.lines(&(first + 5..first + 6)), first + 4..first + 11);
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("acme.toml");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let problem = Source::read(&fifo, "acme.toml", Mode::User).expect_err("a FIFO");
        assert!(problem.what.contains("not a regular file"), "{problem}");
    }
}
