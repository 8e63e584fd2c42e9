//! A person's home with servers in it, laid out as nvm, npm, uv and pyenv lay them out. What is in it is what
//! `tests/run` fetched: real interpreters, real servers.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, Packages};

/// A home directory, below the directory that tenantd has for a test.
pub(crate) struct Person {
    pub(crate) home: PathBuf,
    packages: Packages,
}

impl Person {
    pub(crate) fn new(home: &Home, packages: &Packages) -> Self {
        Self { home: home.directory("person"), packages: packages.clone() }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    /// A directory and those above it, for everybody to read as installers leave them.
    fn directory(&self, path: &str) -> PathBuf {
        fs::create_dir_all(self.at(path)).expect("mkdir");
        self.at(path)
    }

    /// A file that may be executed.
    fn program(&self, path: &str, text: &str) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    pub(crate) fn link(&self, path: &str, says: impl AsRef<Path>) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        symlink(says, &path).expect("a link");
        path
    }

    /// nvm's Node, with the reference servers installed globally; gives the version's directory.
    pub(crate) fn nvm(&self) -> &'static str {
        const VERSION: &str = ".nvm/versions/node/v22";
        for part in ["bin", "include", "share"] {
            self.directory(&format!("{VERSION}/{part}"));
        }
        self.directory(&format!("{VERSION}/lib"));
        let program = self.packages.node().canonicalize().expect("a Node");
        copy(&program, &self.at(&format!("{VERSION}/bin/node")));
        let modules = self.packages.root().join("node/node_modules");
        copy(&modules, &self.at(&format!("{VERSION}/lib/node_modules")));
        for server in ["everything", "filesystem"] {
            let target =
                format!("../lib/node_modules/@modelcontextprotocol/server-{server}/dist/index.js");
            self.link(&format!("{VERSION}/bin/mcp-server-{server}"), target);
        }
        VERSION
    }

    /// A Python that lies in a directory of its own, as uv and pyenv install them; gives its version.
    fn python(&self, prefix: &str) -> String {
        let program = fs::canonicalize("/usr/bin/python3").expect("a Python of the system");
        let name = program.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let library = Path::new("/usr/lib").join(&name);
        copy(&program, &self.directory(&format!("{prefix}/bin")).join(&name));
        run(Command::new("cp")
            .arg("-a")
            .arg(&library)
            .arg(self.directory(&format!("{prefix}/lib"))));
        self.link(&format!("{prefix}/bin/python3"), &name);
        name
    }

    /// The packages of the fetched virtual environment, for the Python of this prefix.
    fn python_packages(&self, prefix: &str, version: &str) {
        let packages = self.packages.root().join("python/lib").join(version).join("site-packages");
        self.directory(&format!("{prefix}/lib/{version}"));
        copy(&packages, &self.at(&format!("{prefix}/lib/{version}/site-packages")));
    }

    /// The program of a server of PyPI, run by the interpreter at `python`.
    fn python_program(&self, path: &str, server: &str, python: &Path) -> PathBuf {
        let script = self.packages.root().join("python/bin").join(server);
        let text = fs::read_to_string(script).expect("a script");
        let (_, rest) = text.split_once('\n').expect("a first line");
        self.program(path, &format!("#!{}\n{rest}", python.display()))
    }

    /// `uv tool install mcp-server-git`; gives the link in ~/.local/bin.
    pub(crate) fn uv(&self) -> PathBuf {
        let version = self.python(".local/share/uv/python/cpython-3.11.2-linux-x86_64-gnu");
        // uv names the minor version, and a link says which patch that is.
        self.link(".local/share/uv/python/cpython-3.11-linux", "cpython-3.11.2-linux-x86_64-gnu");
        let base = self.at(".local/share/uv/python/cpython-3.11-linux/bin");
        let tool = ".local/share/uv/tools/mcp-server-git";
        let python = self.link(&format!("{tool}/bin/python"), base.join(&version));
        self.program(
            &format!("{tool}/pyvenv.cfg"),
            &format!("home = {}\nuv = 0.9.0\n", base.display()),
        );
        self.python_packages(tool, &version);
        let program =
            self.python_program(&format!("{tool}/bin/mcp-server-git"), "mcp-server-git", &python);
        self.link(".local/bin/mcp-server-git", program)
    }

    /// `pip install mcp-server-time` into a version of pyenv's; gives the program.
    pub(crate) fn pyenv(&self) -> PathBuf {
        const PREFIX: &str = ".pyenv/versions/3.11.2";
        let version = self.python(PREFIX);
        self.python_packages(PREFIX, &version);
        let python = self.at(&format!("{PREFIX}/bin/{version}"));
        self.program(
            ".pyenv/shims/mcp-server-time",
            "#!/usr/bin/env bash\nexec pyenv exec \"$0\"\n",
        );
        self.program(".pyenv/version", "3.11.2\n");
        self.python_program(&format!("{PREFIX}/bin/mcp-server-time"), "mcp-server-time", &python)
    }

    /// A checkout whose packages are links, as `npm link` makes them; gives its script.
    pub(crate) fn checkout(&self) -> PathBuf {
        let modules = self.at(".nvm/versions/node/v22/lib/node_modules");
        let package = "@modelcontextprotocol/server-everything";
        self.directory("src");
        copy(&modules, &self.at("src/node_modules"));
        fs::rename(self.at(&format!("src/node_modules/{package}")), self.at("src/everything"))
            .expect("moved");
        self.link(&format!("work/node_modules/{package}"), "../../../src/everything");
        self.program("work/package.json", "{\"type\": \"module\"}");
        self.program("work/dist/index.js", &format!("import \"{package}/dist/index.js\";\n"))
    }
}

/// The same tree, by hard links where the file system has them: nobody writes to it.
fn copy(from: &Path, to: &Path) {
    if let Ok(true) = from.symlink_metadata().map(|meta| meta.is_file()) {
        if fs::hard_link(from, to).is_err() {
            fs::copy(from, to).expect("copied");
        }
        return;
    }
    let linked = Command::new("cp").arg("-al").arg(from).arg(to).output().expect("cp");
    if !linked.status.success() {
        let _ = fs::remove_dir_all(to);
        run(Command::new("cp").arg("-a").arg(from).arg(to));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
