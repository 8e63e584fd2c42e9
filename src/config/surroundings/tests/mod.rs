//! Made-up homes, laid out as version managers and installers lay them out.

mod node;
mod python;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::paths::Mode;

/// A home directory below a temporary one.
struct Home {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("a path").join("home/alice");
        fs::create_dir_all(&path).expect("a home");
        Self { _dir: dir, path }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.at(path)).expect("mkdir");
        self
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        fs::create_dir_all(self.at(path).parent().expect("a parent")).expect("mkdir");
        fs::write(self.at(path), text.replace('~', self.path.to_str().expect("UTF-8")))
            .expect("a file");
        fs::set_permissions(self.at(path), Permissions::from_mode(0o755)).expect("chmod");
        self
    }

    /// Machine code, by its first bytes.
    fn elf(&self, path: &str) -> &Self {
        self.file(path, "\x7fELF\x02\x01")
    }

    fn link(&self, path: &str, says: &str) -> &Self {
        fs::create_dir_all(self.at(path).parent().expect("a parent")).expect("mkdir");
        symlink(says.replace('~', self.path.to_str().expect("UTF-8")), self.at(path))
            .expect("a link");
        self
    }

    fn host(&self) -> Host {
        Host { mode: Mode::User, home: Some(self.path.clone()), program: None }
    }

    fn find(&self, command: &str, args: &[&str]) -> Result<Needs, Wrong> {
        let args = args.iter().map(|arg| arg.replace('~', self.path.to_str().expect("UTF-8")));
        let args = args.collect();
        let command = if command.starts_with('/') { command.into() } else { self.at(command) };
        let asked = Asked { command, args, shut: vec![self.at("shut")], ..Asked::default() };
        Known::default().find(&self.host(), asked).map(|found| found.needs)
    }

    /// What a command reads, seen from the home.
    fn reads(&self, command: &str, args: &[&str]) -> Vec<String> {
        self.below(&self.find(command, args).expect("found").read)
    }

    fn below(&self, paths: &[PathBuf]) -> Vec<String> {
        let below = |path: &PathBuf| match path.strip_prefix(&self.path) {
            Ok(below) => below.display().to_string(),
            Err(_) => path.display().to_string(),
        };
        paths.iter().map(below).collect()
    }

    fn links(&self, needs: &Needs) -> Vec<String> {
        self.below(&needs.links.keys().cloned().collect::<Vec<_>>())
    }
}

const NVM: &str = ".nvm/versions/node/v22.1.0";

fn nvm() -> Home {
    let home = Home::new();
    home.elf(&format!("{NVM}/bin/node"))
        .dir(&format!("{NVM}/lib/node_modules"))
        .dir(&format!("{NVM}/include"));
    home.file(&format!("{NVM}/lib/node_modules/@mcp/files/dist/index.js"), "#!/usr/bin/env node\n");
    home.file(&format!("{NVM}/lib/node_modules/@mcp/files/package.json"), "{}");
    home.link(&format!("{NVM}/bin/mcp-files"), "../lib/node_modules/@mcp/files/dist/index.js");
    home
}

const UV: &str = ".local/share/uv/python/cpython-3.12.3-linux-x86_64-gnu";

fn uv() -> Home {
    let home = Home::new();
    home.elf(&format!("{UV}/bin/python3.12")).link(&format!("{UV}/bin/python3"), "python3.12");
    home.dir(&format!("{UV}/lib/python3.12/site-packages"));
    // uv names the minor version, and a link says which patch that is.
    home.link(".local/share/uv/python/cpython-3.12-linux", "cpython-3.12.3-linux-x86_64-gnu");
    let tool = ".local/share/uv/tools/mcp-git";
    home.file(
        &format!("{tool}/pyvenv.cfg"),
        "home = ~/.local/share/uv/python/cpython-3.12-linux/bin\nuv = 0.9\n",
    );
    home.link(
        &format!("{tool}/bin/python"),
        "~/.local/share/uv/python/cpython-3.12-linux/bin/python3.12",
    );
    home.file(&format!("{tool}/bin/mcp-git"), "#!~/.local/share/uv/tools/mcp-git/bin/python\n");
    home.dir(&format!("{tool}/lib/python3.12/site-packages"));
    home.link(".local/bin/mcp-git", "~/.local/share/uv/tools/mcp-git/bin/mcp-git");
    home.file(".local/share/keyrings/login.keyring", "secret");
    home
}

#[test]
fn a_home_is_never_brought_along() {
    let home = uv();
    home.file("pyvenv.cfg", "home = ~/.local/share/uv/python/cpython-3.12-linux/bin\n");
    home.link("bin/python", "~/.local/share/uv/python/cpython-3.12-linux/bin/python3.12");
    let wrong = home.find("bin/python", &["-m", "x"]).expect_err("a home");
    assert!(wrong.what.contains("holds more than a program"), "{wrong:?}");
    // A script in a home that is a package: itself, its manifest and its packages.
    let home = nvm();
    home.file("server.js", "").file("package.json", "{}").dir("node_modules").file("diary", "");
    let reads = home.reads(&format!("{NVM}/bin/node"), &["~/server.js"]);
    assert_eq!(reads, [NVM, "node_modules", "package.json", "server.js"]);
    // A program in ~/.local/bin comes alone.
    home.elf(".local/bin/tool").dir(".local/share");
    assert_eq!(home.reads(".local/bin/tool", &[]), [".local/bin/tool"]);
}

#[test]
fn nothing_that_the_tenant_can_write_is_looked_at() {
    let home = uv();
    home.link("bin/tool", "../shut/tool").elf("shut/tool");
    let wrong = home.find("bin/tool", &[]).expect_err("writable");
    assert!(wrong.what.contains("the tenant can write there"), "{wrong:?}");
    home.file("bin/script", "#!~/shut/tool\n");
    assert!(home.find("bin/script", &[]).is_err());
    // As an argument it is the server's own matter.
    home.file("shut/script.py", "");
    let python = format!("{UV}/bin/python3");
    assert_eq!(home.reads(&python, &["~/shut/script.py"]), [UV]);
}

#[test]
fn what_is_missing_on_the_way_is_named() {
    let home = Home::new();
    home.file("bin/a", "#!/no/such/interpreter\n")
        .file("bin/b", "#!/usr/bin/env no-such-program\n");
    home.file("bin/c", "#!python\n").link("bin/d", "gone");
    let what = |command: &str| home.find(command, &[]).expect_err(command).what;
    assert!(what("bin/a").contains("/no/such/interpreter"), "{}", what("bin/a"));
    assert!(what("bin/b").contains("runs by \"no-such-program\""), "{}", what("bin/b"));
    assert!(what("bin/c").contains("no absolute path"), "{}", what("bin/c"));
    assert!(what("bin/d").contains("bin/gone"), "{}", what("bin/d"));
    home.file("bin/e", "#!/usr/bin/env -S uv run --script\n");
    assert!(what("bin/e").contains("uv run would download"), "{}", what("bin/e"));
    home.file("venv/pyvenv.cfg", "home = /no/such/place\n").elf("venv/bin/python");
    assert!(what("venv/bin/python").contains("no Python any more"), "{}", what("venv/bin/python"));
}

#[test]
fn circles_end() {
    let home = Home::new();
    home.link("a", "b").link("b", "a").link("self", "self/self");
    assert!(home.find("a", &[]).is_err() && home.find("self", &[]).is_err());
    home.file("x", "#!~/y\n").file("y", "#!~/x\n").file("z", "#!~/z\n");
    assert!(home.find("x", &[]).expect_err("a circle").what.contains("interpreter"));
    assert!(home.find("z", &[]).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

    /// Names of three letters that are links to each other, directories, scripts of each other or settings.
    #[test]
    fn no_tangle_of_links_and_scripts_is_too_much(
        parts in proptest::collection::vec((0..4u8, "[abc](/[abc]){0,2}", "(\\.\\./){0,2}[abc](/[abc]){0,2}"), 1..24),
    ) {
        let home = Home::new();
        for (kind, name, other) in &parts {
            let at = home.at(name);
            let _ = fs::create_dir_all(at.parent().expect("a parent"));
            let _ = match kind {
                0 => symlink(other, &at),
                1 => fs::create_dir(&at),
                2 => fs::write(&at, format!("#!{}\n", home.at(other).display())),
                _ => fs::write(&at, format!("home = {}\n", home.at(other).display()))
                    .and_then(|()| fs::rename(&at, at.with_file_name("pyvenv.cfg"))),
            };
        }
        for (_, name, _) in &parts {
            if let Ok(needs) = home.find(name, &["~/a", "~/b"]) {
                let all = home.path.ancestors().nth(2).expect("the temporary directory");
                proptest::prop_assert!(needs.read.iter().all(|path| path.starts_with(all)));
                // Nothing that is above the home, nor the home itself.
                proptest::prop_assert!(!needs.read.iter().any(|path| home.path.starts_with(path)));
            }
        }
    }
}
