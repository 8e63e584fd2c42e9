//! The real servers and clients that `tests/run` fetched.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::home::{Home, as_test_user};

/// Where they are.
pub(crate) struct Packages {
    root: PathBuf,
}

impl Packages {
    /// The packages; `None`, said loudly, where they were not fetched. In CI that is a failure.
    pub(crate) fn find() -> Option<Self> {
        let default = || concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-deps").into();
        let root = PathBuf::from(std::env::var_os("TENANTD_TEST_CACHE").unwrap_or_else(default));
        let packages = Self { root };
        let all = [packages.node(), packages.python(), packages.inspector()];
        if let Some(missing) = all.iter().find(|path| !path.exists()) {
            let missing = missing.display();
            assert!(std::env::var_os("CI").is_none(), "{missing} is missing (run tests/run)");
            eprintln!("SKIPPED: {missing} is missing (run tests/run, which fetches it)");
            return None;
        }
        Some(packages)
    }

    /// The directory that they are in.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A Node that is new enough for every package.
    pub(crate) fn node(&self) -> PathBuf {
        self.root.join("node/node_modules/node/bin/node")
    }

    /// The Python with the official client.
    pub(crate) fn python(&self) -> PathBuf {
        self.root.join("python/bin/python")
    }

    fn inspector(&self) -> PathBuf {
        let package = "node/node_modules/@modelcontextprotocol/inspector";
        self.root.join(package).join("clients/launcher/build/index.js")
    }

    /// A reference server of npm: the command.
    pub(crate) fn npm_server(&self, name: &str, arguments: &[&str]) -> Vec<String> {
        let package =
            format!("node/node_modules/@modelcontextprotocol/server-{name}/dist/index.js");
        let mut command = vec![text(&self.node()), text(&self.root.join(package))];
        command.extend(arguments.iter().map(ToString::to_string));
        command
    }

    /// A reference server of PyPI: the command.
    pub(crate) fn python_server(&self, name: &str, arguments: &[&str]) -> Vec<String> {
        let mut command = vec![text(&self.root.join("python/bin").join(name))];
        command.extend(arguments.iter().map(ToString::to_string));
        command
    }

    /// The Inspector's command line client, which starts `server` itself.
    /// It hands its own environment on only by `-e`.
    pub(crate) fn inspector_command(
        &self,
        home: &Home,
        era: &str,
        server: &[String],
        ask: &[&str],
    ) -> Command {
        let mut command = Command::new(self.node());
        command.arg(self.inspector()).args(["--cli", "--quiet", "--format", "json"]);
        command.args(["-e", &format!("TENANTD_HOME={}", home.path().display())]);
        command.args(["--protocol-era", era]).args(server).args(ask);
        as_test_user(&mut command);
        command
    }

    /// The Python client of `tests/clients/session.py`, which starts `server` itself.
    pub(crate) fn python_command(&self, plan: &str, server: &[String]) -> Command {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/session.py");
        let mut command = Command::new(self.python());
        command.args([script, plan]).args(server);
        as_test_user(&mut command);
        command
    }
}

fn text(path: &Path) -> String {
    OsString::from(path).into_string().expect("a path of UTF-8")
}
