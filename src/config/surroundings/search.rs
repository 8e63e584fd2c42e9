//! The search itself: what a program is, what that brings along, and where it leads next.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::super::command;
use super::super::host::{Host, Wrong, real};
use super::super::problem::{quotable, shown};
use super::interpreter::{self, Kind};
use super::readable::Access;
use super::script::{self, Opening};
use super::trail::Trail;
use super::{Asked, Found, Needs, elf, node, prefix, python, shell, shim};
use crate::paths::Mode as Way;

/// Scripts that are each other's interpreter, one more than the kernel follows.
const DEPTH_MAX: u32 = 6;
/// Where `env` looks in a sandbox, after what is put in front.
const FIXED: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// A search for one command.
pub(super) struct Search<'a> {
    pub(super) home: Option<&'a Path>,
    mode: Way,
    pub(super) asked: &'a Asked,
    pub(super) looks: u32,
    read: Vec<PathBuf>,
    pub(super) needs: Needs,
    programs: BTreeMap<PathBuf, Access>,
}

/// What the command needs.
pub(super) fn find(host: &Host, asked: &Asked) -> Result<Found, Wrong> {
    let mut search = Search::new(host.home.as_deref(), host.mode, asked);
    let args: Vec<&str> = asked.args.iter().map(String::as_str).collect();
    search.invocation(&asked.command, &args)?;
    for directory in &asked.libraries {
        if directory.exists() && !search.is_shut(&real(directory)) {
            let directory = search.walk(directory)?.real;
            search.take(&directory)?;
        }
    }
    search.finish()
}

/// A file to be read at load: regular, and nothing that opening waits for or that acts on being opened. A
/// system supervisor is root, and others may change what is there while it looks.
pub(super) fn open(path: &Path) -> Option<File> {
    let name = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&name).ok()?.st_mode);
    if kind != FileType::RegularFile {
        return None;
    }
    let same = format!("/proc/self/fd/{}", name.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Some(File::from(rustix::fs::open(same, flags, Mode::empty()).ok()?))
}

/// The first `most` bytes of a file as text; empty where there is none.
pub(super) fn text(path: &Path, most: u64) -> String {
    let mut bytes = Vec::new();
    let read = open(path).map(|file| file.take(most).read_to_end(&mut bytes));
    if matches!(read, Some(Ok(_))) {
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        String::new()
    }
}

impl<'a> Search<'a> {
    /// A search that has found nothing yet.
    pub(super) fn new(home: Option<&'a Path>, mode: Way, asked: &'a Asked) -> Self {
        let (needs, programs) = (Needs::default(), BTreeMap::new());
        Self { home, mode, asked, looks: 0, read: Vec::new(), needs, programs }
    }
}

impl Search<'_> {
    /// A program and its arguments.
    fn invocation(&mut self, command: &Path, args: &[&str]) -> Result<(), Wrong> {
        if script::is_env(command)
            && let Some((name, rest)) = script::env_program(args)
        {
            let trail = self.program(command, 0)?;
            let program = self.seek(name, &trail)?;
            return self.given(&program, &rest);
        }
        self.given(command, args)
    }

    fn given(&mut self, command: &Path, args: &[&str]) -> Result<(), Wrong> {
        let trail = self.program(command, 0)?;
        let kind = trail.names.iter().chain([&trail.real]).find_map(|name| Kind::of(name));
        let Some(kind) = kind else { return Ok(()) };
        for file in interpreter::files(kind, args) {
            let path: PathBuf = Path::new(file).components().collect();
            if path.is_file() && !self.is_shut(&real(&path)) {
                let script = self.walk(&path)?;
                self.script(kind, &script, &trail)?;
            }
        }
        Ok(())
    }

    /// Follows a program by its name; `depth` scripts led here.
    pub(super) fn program(&mut self, name: &Path, depth: u32) -> Result<Trail, Wrong> {
        if depth >= DEPTH_MAX {
            let what = format!("{} is an interpreter's interpreter's interpreter", shown(name));
            return Err(Wrong::new(what, "name the program that it comes to"));
        }
        let trail = self.walk(name)?;
        shim::refuse(&trail)?;
        self.programs.entry(trail.real.clone()).or_insert(Access::Execute);
        match Opening::of(&trail.real) {
            Opening::Script(interpreter, argument) => {
                self.programs.insert(trail.real.clone(), Access::ExecuteScript);
                self.line(&trail, &interpreter, argument.as_deref(), depth)?;
            }
            Opening::Elf if python::is_python(&trail) => python::interpreter(self, &trail)?,
            Opening::Elf => {
                if let Some(loader) = elf::loader(&trail.real) {
                    self.loader(&trail, &loader)?;
                }
                self.take_with_prefix(&trail.real)?;
            }
            Opening::Other => self.take_with_prefix(&trail.real)?,
        }
        Ok(trail)
    }

    /// The first line of the script at the end of `trail`.
    fn line(
        &mut self,
        trail: &Trail,
        interpreter: &Path,
        argument: Option<&str>,
        depth: u32,
    ) -> Result<(), Wrong> {
        if !interpreter.is_absolute() {
            let what = format!(
                "{} begins with #!{}, which is no absolute path",
                shown(&trail.real),
                quotable(&interpreter.to_string_lossy())
            );
            return Err(Wrong::new(what, "correct its first line, or install it again"));
        }
        let asked = argument.filter(|_| script::is_env(interpreter)).and_then(script::env_of_line);
        let interpreter = match asked {
            Some((name, rest)) => {
                command::refuse_launcher(name, &rest)?;
                self.program(interpreter, depth + 1)?;
                self.seek(name, trail)?
            }
            None => interpreter.to_owned(),
        };
        if !interpreter.exists() {
            let what = format!(
                "{} begins with #!{}, and there is no such program",
                shown(&trail.real),
                shown(&interpreter)
            );
            return Err(Wrong::new(what, "install it, or install the server again"));
        }
        let by = self.program(&interpreter, depth + 1)?;
        match by.names.iter().chain([&by.real]).find_map(|name| Kind::of(name)) {
            Some(kind) => self.script(kind, trail, &by),
            None => self.take_with_prefix(&trail.real),
        }
    }

    /// A script of a known interpreter.
    fn script(&mut self, kind: Kind, script: &Trail, by: &Trail) -> Result<(), Wrong> {
        self.programs.entry(script.real.clone()).or_insert(Access::Read);
        match kind {
            Kind::Node => node::package(self, &script.real),
            Kind::Python => python::script(self, script, by),
            Kind::Shell => shell::script(self, script),
            Kind::Other => self.take_with_prefix(&script.real),
        }
    }

    /// The file that `name` in the first line of a script means, as env(1) will find it in the sandbox.
    pub(super) fn seek(&mut self, name: &str, trail: &Trail) -> Result<PathBuf, Wrong> {
        if name.contains('/') {
            return Ok(PathBuf::from(name));
        }
        let own = self.asked.path.as_deref();
        let mut places: Vec<PathBuf> = match own {
            Some(path) => std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect(),
            None => trail.places().map(Path::to_owned).collect(),
        };
        if own.is_none() {
            // P/lib/node_modules/PACKAGE/...: what is installed in P has its programs in P/bin.
            let tree = trail.real.ancestors().filter(|above| above.ends_with("lib/node_modules"));
            places.extend(tree.filter_map(|t| Some(t.parent()?.parent()?.join("bin"))));
            places.extend(FIXED.iter().map(PathBuf::from));
            if let (Way::User, Some(home)) = (self.mode, self.home) {
                places.push(home.join(".local/bin"));
            }
        }
        let shims = |place: &&PathBuf| !place.ends_with("shims");
        let place = places.iter().filter(shims).find(|place| is_executable(&place.join(name)));
        let Some(place) = place else { return Err(not_found(name, trail, own.is_some())) };
        if own.is_none() && !FIXED.iter().any(|fixed| place == Path::new(fixed)) {
            self.in_front(place);
        }
        Ok(place.join(name))
    }

    /// Puts a directory in front of the server's PATH.
    fn in_front(&mut self, place: &Path) {
        if !self.needs.path.iter().any(|known| known == place) {
            self.needs.path.push(place.to_owned());
        }
    }

    /// Adds a variable of the environment.
    pub(super) fn set(&mut self, name: &str, value: &Path) {
        self.needs.env.insert(name.to_owned(), value.to_string_lossy().into_owned());
    }

    /// The loader that a program's machine code asks for, where it is not the system's.
    fn loader(&mut self, trail: &Trail, loader: &Path) -> Result<(), Wrong> {
        if prefix::is_base(loader) && !loader.exists() {
            let what = format!(
                "{} needs the loader {}, which this machine has not",
                shown(&trail.real),
                shown(loader)
            );
            return Err(Wrong::new(what, "install a build of it for this machine"));
        }
        let loader = self.walk(loader)?.real;
        // The libraries of a system of its own lie beside its loader.
        let beside = loader.parent().filter(|_| !prefix::is_base(&loader));
        let beside =
            beside.filter(|beside| !prefix::is_wide(self.home, beside)).map(Path::to_owned);
        match beside {
            Some(beside) if !loader.starts_with("/nix") && !loader.starts_with("/gnu") => {
                self.take(&beside)
            }
            _ => self.take_with_prefix(&loader),
        }
    }

    /// Adds a file or directory (links followed) by itself.
    pub(super) fn take(&mut self, path: &Path) -> Result<(), Wrong> {
        if prefix::is_base(path) {
            return Ok(());
        }
        if prefix::is_wide(self.home, path) {
            let what = format!(
                "{} needs all of {}, which holds more than a program",
                shown(&self.asked.command),
                shown(path)
            );
            return Err(Wrong::new(what, "install it into a directory of its own"));
        }
        self.read.push(path.to_owned());
        Ok(())
    }

    /// Adds a file (links followed) and the prefix that it belongs to, if there is one.
    pub(super) fn take_with_prefix(&mut self, path: &Path) -> Result<(), Wrong> {
        if prefix::is_base(path) {
            return Ok(());
        }
        prefix::of(self.home, path).iter().try_for_each(|part| self.take(part))
    }

    /// Whether what was taken so far holds this.
    pub(super) fn has(&self, path: &Path) -> bool {
        prefix::is_base(path) || self.read.iter().any(|read| path.starts_with(read))
    }

    fn finish(mut self) -> Result<Found, Wrong> {
        self.needs.read = self.read;
        self.needs.reduce(&[]);
        let links = self.needs.links.iter().flat_map(|(place, says)| [place, says]);
        let paths = self.needs.read.iter().chain(links).chain(&self.needs.path);
        if let Some(strange) = paths.into_iter().find(|path| path.to_str().is_none()) {
            let what = format!("{} is not UTF-8", shown(strange));
            return Err(Wrong::new(what, "rename it"));
        }
        Ok(Found { needs: self.needs, programs: self.programs })
    }
}

fn not_found(name: &str, trail: &Trail, own: bool) -> Wrong {
    let places =
        if own { "its env.PATH" } else { "beside it nor in /usr/local/bin, /usr/bin, /bin" };
    let neither = if own { "is not in" } else { "is neither" };
    let script = shown(&trail.real);
    let what = format!("{script} runs by \"{}\", which {neither} {places}", quotable(name));
    let cure =
        format!("write the whole path of {} as command and {script} first in args", quotable(name));
    Wrong::new(what, cure)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
