//! A run of the official suite: its command, the bridge that it needs, and what its checks said.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Home, Packages, Session, as_test_user, at_home};

/// The suite gives up on a scenario after this long, in milliseconds: twice what the longest takes here.
const SCENARIO_MS: &str = "15000";
/// The suite says something at least once a scenario.
const SILENCE: Duration = Duration::from_secs(30);
/// The time that ends the name of a directory of results: `-2026-11-21T17-55-54-000Z`.
const STAMP: usize = 25;

/// What each check said, by `scenario/check`: a check may be made more than once in a scenario.
pub(crate) type Checks = BTreeMap<String, Vec<Check>>;

/// One check.
#[derive(Debug)]
pub(crate) struct Check {
    /// `SUCCESS`, `FAILURE`, `WARNING`, `SKIPPED`, or `INFO` for a note that is no check of anything.
    pub(crate) status: String,
    /// What the suite saw: mostly whole results. What is another in each run is left out.
    pub(crate) saw: Value,
}

/// The suite, where it was fetched.
pub(crate) struct Suite {
    node: PathBuf,
    program: PathBuf,
}

impl Suite {
    /// The suite; `None`, said loudly, where it was not fetched. In CI that is a failure.
    pub(crate) fn find() -> Option<Self> {
        let packages = Packages::find()?;
        let package = "node/node_modules/@modelcontextprotocol/conformance/dist/index.js";
        let program = packages.root().join(package);
        if !program.exists() {
            let missing = program.display();
            assert!(std::env::var_os("CI").is_none(), "{missing} is missing (run tests/run)");
            eprintln!("SKIPPED: {missing} is missing (run tests/run, which fetches it)");
            return None;
        }
        Some(Self { node: packages.node(), program })
    }

    fn command(&self, home: &Home, program: &Path) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(program);
        as_test_user(&mut command);
        at_home(command, home, home.path())
    }

    /// Runs everything that a revision of the protocol requires on the server that `server` starts.
    pub(crate) fn run(&self, home: &Home, revision: &str, server: &[OsString]) -> Checks {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/bridge.mjs");
        let mut bridge = self.command(home, &script);
        bridge.args(server);
        let mut bridge = Session::spawn(bridge);
        let url = bridge.recv().unwrap_or_else(|| panic!("no bridge: {}", bridge.stderr()));
        let results = tempfile::Builder::new().prefix("results-").tempdir_in(home.path());
        let results = results.expect("a directory");
        crate::support::own(results.path());
        let mut suite = self.command(home, &self.program);
        suite.args(["server", "--url", &url, "--requirements", revision]);
        suite.args(["--timeout", SCENARIO_MS, "--output-dir"]).arg(results.path());
        let mut suite = Session::spawn(suite);
        let mut log = String::new();
        while let Some(line) = suite.recv_within(SILENCE) {
            log.push_str(&line);
            log.push('\n');
        }
        suite.wait();
        let checks = read(results.path());
        let told = bridge.stderr();
        assert!(checks.len() > 20, "hardly a check was made:\n{log}\n{}\n{told}", suite.stderr());
        assert!(bridge.close().success(), "the bridge failed: {told}");
        checks
    }
}

/// All results: `server-SCENARIO-STAMP/checks.json` for each scenario.
fn read(results: &Path) -> Checks {
    let mut all = Checks::new();
    for entry in fs::read_dir(results).expect("the results") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let scenario = name.strip_prefix("server-").expect("a scenario of a server");
        let scenario = &scenario[..scenario.len() - STAMP];
        // A scenario that the suite gave up on leaves no checks: each of them is missing then.
        let Ok(text) = fs::read(path.join("checks.json")) else { continue };
        let checks: Vec<Value> = serde_json::from_slice(&text).expect("a list");
        for check in checks {
            let text = |member: &str| check[member].as_str().expect("a text").to_owned();
            let mut saw = check["details"].clone();
            blot(&mut saw);
            let made = all.entry(format!("{scenario}/{}", text("id"))).or_default();
            made.push(Check { status: text("status"), saw });
        }
    }
    all
}

/// Takes out what is another in each run: ports, times, random names, and how often the suite asked while
/// it waited. And what is tenantd's own to say: how long a result that it gives again still holds, and its
/// words to a `requestState` that nobody was given.
fn blot(value: &mut Value) {
    // No name that the suite or the server gives to anything has as many digits.
    const RANDOM: usize = 12;
    let random = |text: &str| text.bytes().filter(u8::is_ascii_digit).count() >= RANDOM;
    match value {
        Value::Object(members) => {
            members.remove("messagesValidated");
            members.remove("tamperedResponse");
            if let Some(left) = members.get_mut("ttlMs") {
                *left = left.as_u64().is_some_and(|left| left > 0).into();
            }
            members.values_mut().for_each(blot);
        }
        Value::Array(items) => items.iter_mut().for_each(blot),
        Value::Number(number) if random(&number.to_string()) => *value = Value::Null,
        Value::String(text) if random(text) || text.contains("127.0.0.1:") => *value = Value::Null,
        _ => {}
    }
}
