//! The real servers and clients that `tests/run` fetched.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::home::as_test_user;

/// Where they are.
#[derive(Clone)]
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

    /// The text of a file of an npm package of the reference servers.
    pub(crate) fn npm_file(&self, path: &str) -> String {
        let scope = self.root.join("node/node_modules/@modelcontextprotocol");
        std::fs::read_to_string(scope.join(path)).expect("a file of the package")
    }

    /// A reference server of PyPI: the command.
    pub(crate) fn python_server(&self, name: &str, arguments: &[&str]) -> Vec<String> {
        let mut command = vec![text(&self.root.join("python/bin").join(name))];
        command.extend(arguments.iter().map(ToString::to_string));
        command
    }

    /// The TypeScript server of `tests/servers/modern.mjs`: the command.
    pub(crate) fn typescript_server(&self) -> Vec<String> {
        vec![text(&self.node()), script("servers/modern.mjs")]
    }

    /// This command, with a tee before it that writes down in `directory` what passes, and tells the
    /// reader of the FIFO `told` when a call was cancelled.
    pub(crate) fn tee(
        &self,
        directory: &str,
        told: Option<&str>,
        command: &[String],
    ) -> Vec<String> {
        let mut words = vec![text(&self.python()), script("clients/tee.py"), directory.to_owned()];
        words.extend(told.into_iter().flat_map(|fifo| ["--told".to_owned(), fifo.to_owned()]));
        words.extend_from_slice(command);
        words
    }

    /// The Inspector's command line client, which starts `server` itself, with this environment alone.
    pub(crate) fn inspector_command(
        &self,
        environment: &[(String, String)],
        era: &str,
        server: &[String],
        ask: &[String],
    ) -> Command {
        let mut command = Command::new(self.node());
        command.arg(self.inspector()).args(["--cli", "--quiet", "--format", "json"]);
        for (name, value) in environment {
            command.args(["-e", &format!("{name}={value}")]);
        }
        command.args(["--protocol-era", era]).args(server).args(ask);
        as_test_user(&mut command);
        command
    }

    /// The Python client of `tests/clients/session.py`, which starts `server` itself.
    pub(crate) fn python_command(&self, plan: &str, server: &[String]) -> Command {
        client(&self.python(), "clients/session.py", plan, server)
    }

    /// The TypeScript client of `tests/clients/session.mjs`, which starts `server` itself.
    pub(crate) fn typescript_command(&self, plan: &str, server: &[String]) -> Command {
        client(&self.node(), "clients/session.mjs", plan, server)
    }
}

fn client(interpreter: &Path, name: &str, plan: &str, server: &[String]) -> Command {
    let mut command = Command::new(interpreter);
    command.args([&script(name), plan]).args(server);
    as_test_user(&mut command);
    command
}

/// A script of these tests.
fn script(name: &str) -> String {
    format!("{}/tests/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    OsString::from(path).into_string().expect("a path of UTF-8")
}
