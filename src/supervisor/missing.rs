//! What a server that failed misses, by its own last words, and the line that shows it to the server.
//!
//! The words are a server's, and it may say anything: they are read for whole paths and names of
//! libraries alone, few and short ones, and [`Offers`] decides what may be offered. Reading is pure;
//! [`Failed::cure`] looks at file systems that may hang, on a thread for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::Offers;
use crate::config::tenant::{Server, Tenant};
use crate::names::ServerName;
use crate::paths::Layout;

/// How long a look may take before the answer goes without it.
const LOOK_TAKES: Duration = Duration::from_secs(1);
/// Things that are looked at for one server.
const WANTED_MAX: usize = 16;
/// The longest path that is believed, bytes.
const PATH_MAX: usize = 512;
/// Words for what is not there, or not allowed, in the languages that servers are written in.
const MARKS: [&str; 9] = [
    "ENOENT",
    "EACCES",
    "EPERM",
    "no such file or directory",
    "permission denied",
    "cannot find module",
    "not found",
    "operation not permitted",
    LIBRARY,
];
/// Words for what cannot be changed.
const READ_ONLY: [&str; 2] = ["EROFS", "read-only file system"];
const LIBRARY: &str = "cannot open shared object file";

/// Something that a server says it misses.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// To see this path.
    Read(PathBuf),
    /// To change it.
    Write(PathBuf),
    /// A library, by its file name.
    Library(String),
}

/// All that is needed to say what a server of a tenant misses, but its words.
pub(super) struct Missing {
    pub(super) layout: Layout,
    pub(super) tenant: Arc<Tenant>,
    /// What other tenants' files name as theirs.
    pub(super) others: Vec<PathBuf>,
    /// One look at a time: a file system that hangs holds one thread, however often somebody asks.
    pub(super) turn: Arc<Semaphore>,
}

impl Missing {
    /// The server, and the line that shows it what it misses by its last words, oldest first.
    pub(super) async fn of(
        self,
        failed: Option<(ServerName, Vec<String>)>,
    ) -> Option<(ServerName, String)> {
        let (server, words) = failed?;
        let turn = self.turn.try_acquire_owned().ok()?;
        let Self { layout, tenant, others, .. } = self;
        let name = server.clone();
        let look = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            Failed { layout, tenant, server, words, others }.cure()
        });
        let cure = tokio::time::timeout(LOOK_TAKES, look).await.ok()?.ok()??;
        Some((name, cure))
    }
}

/// A server that failed.
struct Failed {
    layout: Layout,
    tenant: Arc<Tenant>,
    server: ServerName,
    words: Vec<String>,
    others: Vec<PathBuf>,
}

impl Failed {
    /// What to add to the tenant's file, if there is something.
    fn cure(&self) -> Option<String> {
        let server = self.tenant.server(&self.server)?;
        let others: Vec<PathBuf> =
            self.others.iter().map(|path| path.canonicalize().unwrap_or(path.clone())).collect();
        let offers = Offers::new(&self.layout, &self.tenant, &others);
        wanted(&self.words).into_iter().find_map(|wanted| match wanted {
            Wanted::Read(path) => {
                let add = offers.to_read(server, &path)?;
                self.line(server, &path, "read", &server.sandbox.read, &add)
            }
            Wanted::Library(name) => {
                let path = offers.library(&name)?;
                let add = offers.to_read(server, &path)?;
                self.line(server, &path, "read", &server.sandbox.read, &add)
            }
            Wanted::Write(path) => {
                let add = offers.to_write(server, &path)?;
                self.line(server, &path, "write", &server.sandbox.write, &add)
            }
        })
    }

    fn line(
        &self,
        server: &Server,
        path: &Path,
        key: &str,
        before: &[PathBuf],
        add: &Path,
    ) -> Option<String> {
        let all: Option<Vec<String>> =
            before.iter().map(PathBuf::as_path).chain([add]).map(quoted).collect();
        let (all, path) = (all?.join(", "), quoted(path)?);
        let table = match self.tenant.servers.as_slice() {
            [_] => "sandbox".to_owned(),
            _ => format!("servers.{}.sandbox", server.name),
        };
        let misses = if key == "write" { "cannot change" } else { "does not see" };
        let deed = if before.is_empty() { "add to" } else { "set in" };
        Some(format!(
            "server {} {misses} {path}, which is outside of its sandbox; if it should, {deed} tenants.d/{}.toml: \
             [{table}] {key} = [{all}]",
            server.name, self.tenant.id
        ))
    }
}

/// A path as TOML quotes it; none that would need an escape.
fn quoted(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| is_plain(text))?;
    Some(format!("\"{text}\""))
}

fn is_plain(text: &str) -> bool {
    text.len() <= PATH_MAX && !text.contains(['"', '\\']) && !text.chars().any(char::is_control)
}

/// What the words name, the last ones first.
fn wanted(words: &[String]) -> Vec<Wanted> {
    let mut all = Vec::new();
    for line in words.iter().rev() {
        // As they were kept, quotes are escaped.
        let line =
            line.replace("\\'", "'").replace("\\\"", "\"").replace(['\u{2018}', '\u{2019}'], "'");
        let lower = line.to_lowercase();
        let says = |marks: &[&str]| marks.iter().any(|mark| lower.contains(&mark.to_lowercase()));
        let write = says(&READ_ONLY);
        if !write && !says(&MARKS) {
            continue;
        }
        for path in paths(&line) {
            all.push(if write { Wanted::Write(path) } else { Wanted::Read(path) });
        }
        if let Some((before, _)) = line.split_once(LIBRARY) {
            let name = before.split([':', ' ']).rfind(|word| word.contains(".so"));
            let name = name.filter(|name| !name.contains('/') && is_plain(name));
            all.extend(name.map(|name| Wanted::Library(name.to_owned())));
        }
        if all.len() >= WANTED_MAX {
            break;
        }
    }
    all.truncate(WANTED_MAX);
    all
}

/// The whole paths in a line: in quotes, else as words.
fn paths(line: &str) -> Vec<PathBuf> {
    let quoted =
        ['\'', '"', '`'].into_iter().flat_map(|quote| line.split(quote).skip(1).step_by(2));
    let bare = line
        .split_whitespace()
        .map(|word| word.trim_matches(['(', ')', '[', ']', '<', '>', ',', '.', ';', ':']));
    let mut found: Vec<PathBuf> = Vec::new();
    for text in quoted.chain(bare) {
        let path = PathBuf::from(text);
        let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
        if text.len() > 1
            && text.starts_with('/')
            && is_plain(text)
            && !climbs
            && !found.contains(&path)
        {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(line: &str) -> Vec<Wanted> {
        wanted(&[line.escape_debug().to_string()])
    }

    #[test]
    fn every_languages_words_are_understood() {
        let read = |path: &str| vec![Wanted::Read(path.into())];
        for (line, path) in [
            ("Error: ENOENT: no such file or directory, open '/opt/x/y z'", "/opt/x/y z"),
            ("Error: EACCES: permission denied, scandir '/srv/z'", "/srv/z"),
            ("PermissionError: [Errno 13] Permission denied: '/srv/z'", "/srv/z"),
            ("FileNotFoundError: [Errno 2] No such file or directory: '/srv/z'", "/srv/z"),
            ("Error: Cannot find module '/srv/app/index.js'", "/srv/app/index.js"),
            ("open /srv/z: no such file or directory", "/srv/z"),
            ("ls: cannot access \u{2018}/srv/z\u{2019}: No such file or directory", "/srv/z"),
            ("/bin/sh: 1: /opt/x/run: not found", "/opt/x/run"),
        ] {
            assert!(of(line).contains(&read(path)[0]), "{line}: {:?}", of(line));
        }
        let library =
            "ImportError: libfoo.so.1: cannot open shared object file: No such file or directory";
        assert_eq!(of(library), [Wanted::Library("libfoo.so.1".to_owned())]);
        assert_eq!(
            of("EROFS: read-only file system, mkdir '/srv/z'"),
            [Wanted::Write("/srv/z".into())]
        );
        for line in ["  File \"/srv/app.py\", line 3", "listening on /srv/sock", "", "ENOENT 'x/y'"]
        {
            assert_eq!(of(line), [], "{line}");
        }
    }

    #[test]
    fn few_and_plain_paths_are_believed() {
        assert_eq!(of("ENOENT '/srv/../etc/shadow'"), []);
        assert_eq!(of("ENOENT '/srv/\u{1b}[2J'"), []);
        assert_eq!(of(&format!("ENOENT '/{}'", "x".repeat(PATH_MAX))), []);
        let many: Vec<String> = (0..100).map(|n| format!("ENOENT '/srv/{n}'")).collect();
        let all = wanted(&many);
        assert_eq!(all.len(), WANTED_MAX);
        assert_eq!(all[0], Wanted::Read("/srv/99".into()), "the last words count most");
    }

    proptest! {
        #[test]
        fn no_words_are_too_strange(words in proptest::collection::vec(".{0,80}", 0..8)) {
            let marked: Vec<String> = words.iter().map(|word| format!("ENOENT {word}")).collect();
            for wanted in wanted(&marked) {
                if let Wanted::Read(path) | Wanted::Write(path) = wanted {
                    prop_assert!(path.is_absolute() && quoted(&path).is_some());
                }
            }
        }
    }
}
