//! `logs`: what a tenant's servers wrote to stderr, from the files that its mux writes; with `--network`
//! their connections, from those that its egress writes.
//!
//! `servers.log` is the newest; at its size it becomes `servers.log.1`, that becomes `.2`, and so on. A
//! line is `TIME SERVER TEXT`. Following waits on inotify(7), not on a clock. This room reads; it never
//! writes, moves or removes a log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::args::{Logs, Which};
use super::failure::{DONE, Failure};
use super::print;
use super::rooms;
use crate::names::TenantId;
use crate::paths::Mode;

/// The newest file.
const SERVERS: &str = "servers.log";
/// The newest file of connections.
const NETWORK: &str = "network.log";
/// How many rotated files there can be.
const ROTATED: usize = 3;
/// The longest line that is shown whole, bytes; the mux cuts shorter.
const LINE: u64 = 64 * 1024;

/// `tenantd logs`
pub(super) fn run(args: &Logs) -> anyhow::Result<u8> {
    let Some(tenant) = &args.target.tenant else {
        return Err(Failure::usage("logs needs a tenant").into());
    };
    let newest = if args.network { NETWORK } else { SERVERS };
    let mut logs = Reader {
        directory: directory(args.which, tenant, newest)?,
        newest,
        server: args.target.server.as_ref().map(ToString::to_string),
        out: io::stdout().lock(),
    };
    // Watched before it is read, so that nothing falls between the two.
    let watch = if args.follow { Some(logs.watch()?) } else { None };
    let lines = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let newest = logs.last(lines)?;
    if let Some(watch) = watch {
        logs.follow(&watch, newest)?;
    }
    Ok(DONE)
}

/// The directory of the tenant's logs: the user's, else the system's.
fn directory(which: Which, tenant: &TenantId, newest: &str) -> anyhow::Result<PathBuf> {
    let mut looked = Vec::new();
    for (mode, wanted) in [(Mode::User, !which.system), (Mode::System, !which.user)] {
        if !wanted {
            continue;
        }
        let directory = rooms::layout(mode)?.tenant_log(tenant);
        match directory.join(newest).symlink_metadata() {
            Ok(_) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let shown = directory.display();
                return Err(error).context(format!("cannot read the logs in {shown}"));
            }
        }
        looked.push(directory.display().to_string());
    }
    looked.dedup();
    Err(Failure::unavailable(format!(
        "tenant {tenant} has no log in {} (its servers have not run yet, or it is another user's)",
        looked.join(" or ")
    ))
    .into())
}

/// The logs of one tenant, and where they go.
struct Reader<W> {
    directory: PathBuf,
    newest: &'static str,
    server: Option<String>,
    out: W,
}

impl<W: Write> Reader<W> {
    fn path(&self, age: usize) -> PathBuf {
        match age {
            0 => self.directory.join(self.newest),
            age => self.directory.join(format!("{}.{age}", self.newest)),
        }
    }

    fn open(&self, age: usize) -> anyhow::Result<Option<BufReader<File>>> {
        let path = self.path(age);
        match File::open(&path) {
            Ok(file) => Ok(Some(BufReader::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Prints the last `most` lines; gives back the newest file, read to its end.
    fn last(&mut self, most: usize) -> anyhow::Result<Option<BufReader<File>>> {
        let mut kept: VecDeque<String> = VecDeque::new();
        let mut newest = None;
        for age in (0..=ROTATED).rev() {
            let Some(mut file) = self.open(age)? else { continue };
            while let Some(line) = whole_line(&mut file)? {
                if self.wants(&line) {
                    kept.push_back(line);
                }
                if kept.len() > most {
                    kept.pop_front();
                }
            }
            if age == 0 {
                newest = Some(file);
            }
        }
        for line in kept {
            writeln!(self.out, "{}", print::text(&line))?;
        }
        self.out.flush()?;
        Ok(newest)
    }

    fn wants(&self, line: &str) -> bool {
        let Some(server) = &self.server else { return true };
        line.split(' ').nth(1) == Some(server)
    }

    fn watch(&self) -> anyhow::Result<Inotify> {
        let shown = self.directory.display();
        let watch = Inotify::init(InitFlags::IN_CLOEXEC).context("cannot watch files")?;
        let events = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF;
        watch.add_watch(&self.directory, events).with_context(|| {
            format!("cannot watch {shown} (is fs.inotify.max_user_watches used up?)")
        })?;
        Ok(watch)
    }

    /// Prints what comes, until the directory goes.
    fn follow(
        &mut self,
        watch: &Inotify,
        mut newest: Option<BufReader<File>>,
    ) -> anyhow::Result<()> {
        loop {
            newest = self.catch_up(newest)?;
            let events = match watch.read_events() {
                Ok(events) => events,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error).context("cannot wait for the log"),
            };
            if events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_DELETE_SELF)) {
                return Ok(());
            }
        }
    }

    /// Prints what was written since; where the file was rotated, also what came between. A file that was
    /// removed is let go, so that the kernel can tell when the directory is.
    fn catch_up(
        &mut self,
        newest: Option<BufReader<File>>,
    ) -> anyhow::Result<Option<BufReader<File>>> {
        let mut behind = 1;
        let mut kept = None;
        if let Some(file) = newest {
            let age = self.age_of(file.get_ref());
            let file = self.print_new(file)?;
            behind = age.unwrap_or(behind);
            kept = age.map(|_| file);
        }
        for age in (0..behind).rev() {
            if let Some(next) = self.open(age)? {
                kept = Some(self.print_new(next)?);
            }
        }
        Ok(kept)
    }

    /// How often this file was rotated; nothing where it is gone.
    fn age_of(&self, file: &File) -> Option<usize> {
        let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let ours = file.metadata().ok().map(identity);
        let at = |age: &usize| Path::metadata(&self.path(*age)).ok().map(identity) == ours;
        (0..=ROTATED).find(at)
    }

    fn print_new(&mut self, mut file: BufReader<File>) -> anyhow::Result<BufReader<File>> {
        while let Some(line) = whole_line(&mut file)? {
            if self.wants(&line) {
                writeln!(self.out, "{}", print::text(&line))?;
            }
        }
        self.out.flush()?;
        Ok(file)
    }
}

/// The next line, without its end; nothing at the end of the file. A line that is not finished yet is
/// left for later, one that is longer than allowed comes in pieces.
fn whole_line(file: &mut BufReader<File>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = file.by_ref().take(LINE).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if (read as u64) < LINE {
        file.seek_relative(-i64::try_from(read).unwrap_or(0))?;
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::{OpenOptions, rename};

    use super::*;

    fn reader(directory: &Path, server: Option<&str>) -> Reader<Vec<u8>> {
        let server = server.map(str::to_owned);
        Reader { directory: directory.to_owned(), newest: SERVERS, server, out: Vec::new() }
    }

    fn append(directory: &Path, text: &str) {
        let path = directory.join(SERVERS);
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("open");
        file.write_all(text.as_bytes()).expect("write");
    }

    fn rotate(directory: &Path) {
        for age in (0..ROTATED).rev() {
            let name = |age| match age {
                0 => directory.join(SERVERS),
                age => directory.join(format!("{SERVERS}.{age}")),
            };
            let _ = rename(name(age), name(age + 1));
        }
    }

    fn shown(reader: &mut Reader<Vec<u8>>) -> String {
        String::from_utf8(std::mem::take(&mut reader.out)).expect("UTF-8")
    }

    #[test]
    fn the_last_lines_reach_back_over_rotation() {
        let dir = tempfile::tempdir().expect("a directory");
        append(dir.path(), "t main one\nt git two\n");
        rotate(dir.path());
        append(dir.path(), "t main three\n");
        let mut all = reader(dir.path(), None);
        all.last(2).expect("read");
        assert_eq!(shown(&mut all), "t git two\nt main three\n");
        let mut main = reader(dir.path(), Some("main"));
        main.last(100).expect("read");
        assert_eq!(shown(&mut main), "t main one\nt main three\n");
    }

    #[test]
    fn following_loses_nothing_over_two_rotations_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        append(dir.path(), "t main one\n");
        let mut logs = reader(dir.path(), None);
        let newest = logs.last(100).expect("read");
        append(dir.path(), "t main two\n");
        rotate(dir.path());
        append(dir.path(), "t main three\n");
        rotate(dir.path());
        append(dir.path(), "t main four\nt main unfin");
        let newest = logs.catch_up(newest).expect("read");
        append(dir.path(), "ished\n");
        logs.catch_up(newest).expect("read");
        let expected = "t main one\nt main two\nt main three\nt main four\nt main unfinished\n";
        assert_eq!(shown(&mut logs), expected);
    }

    #[test]
    fn a_line_cannot_drive_the_terminal_and_a_long_one_comes_in_pieces() {
        let dir = tempfile::tempdir().expect("a directory");
        append(dir.path(), "t main \x1b[2J\n");
        append(dir.path(), &format!("{}\n", "x".repeat(150_000)));
        let mut logs = reader(dir.path(), None);
        logs.last(100).expect("read");
        let shown = shown(&mut logs);
        assert!(shown.starts_with("t main \\u{1b}[2J\n"), "{}", &shown[..40]);
        assert_eq!(shown.lines().count(), 4);
        assert_eq!(shown.matches('x').count(), 150_000);
    }
}
