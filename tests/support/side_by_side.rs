//! A real server, directly and behind tenantd, on the same data directory, with every line written down.
//!
//! ```text
//! direct:   client <-> tee <-> server
//! through:  client <-> tee <-> tenantd connect <=> mux <-> tee <-> server
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use super::home::{Home, own};
use super::packages::Packages;
use super::tenantd;
use super::tenants::tenant_with;
use super::transcript::{Transcript, transcripts};

/// A server for a tenant, as a test describes it. `{data}` stands for the data directory, as in a tenant
/// file, and in the environment `{nonce}` for what only this server can know; it works in `{data}/work`.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Further lines of `[server]`.
    pub(crate) lines: String,
}

/// A tenant `acme` on one real server, with its data directory made ready before each run.
pub(crate) struct SideBySide {
    pub(crate) home: Home,
    data: PathBuf,
    setup: Setup,
    packages: Packages,
}

/// What a client is to start, and what is in its environment.
pub(crate) struct Way {
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    home: PathBuf,
}

/// What a client does with what it is to start; returns its report.
pub(crate) type Speak<'a> = &'a dyn Fn(&Way) -> Value;

/// What came of a run: the client's own report, and what its connections and the server's were.
/// On a direct run they are the same.
pub(crate) struct Run {
    pub(crate) report: Value,
    pub(crate) client: Vec<Transcript>,
    pub(crate) server: Vec<Transcript>,
}

impl SideBySide {
    /// A home with a tenant that nobody has come to yet.
    pub(crate) fn new(packages: &Packages, mut setup: Setup) -> Self {
        let home = Home::new();
        let data = home.directory("state/tenants/acme/data");
        for (_, value) in &mut setup.environment {
            *value = value.replace("{nonce}", nonce(&home));
        }
        let stage = Self { home, data, setup, packages: packages.clone() };
        let command = packages.tee("{data}/log", Some("{data}/told"), &stage.setup.command);
        let arguments: Vec<_> = command[1..].iter().map(String::as_str).collect();
        let pairs = stage.setup.environment.iter();
        let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name} = {value:?}")).collect();
        let lines = format!("env = {{ {} }}\n{}", pairs.join(", "), stage.setup.lines);
        let tenant = tenant_with(command[0].as_ref(), &arguments, &lines);
        // To tenantd the tee is the server: what the one behind it needs has to be named.
        let root = stage.packages.root().canonicalize().expect("the packages");
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
        let read = [root.as_path(), Path::new(tests), tenantd()];
        stage.home.tenant("acme", &format!("{tenant}read = {read:?}\n"));
        stage
    }

    /// What nobody but this tenant's server can know: it is in its environment and its files.
    pub(crate) fn nonce(&self) -> &str {
        nonce(&self.home)
    }

    /// Where the server works.
    pub(crate) fn work(&self) -> PathBuf {
        self.data.join("work")
    }

    /// A path in the data directory.
    pub(crate) fn data(&self, name: &str) -> String {
        self.data.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// The client on the server itself.
    pub(crate) fn direct(&self, speak: Speak<'_>) -> Run {
        let data = self.data.to_str().expect("UTF-8");
        let expand = |word: &String| word.replace("{data}", data);
        let server: Vec<_> = self.setup.command.iter().map(expand).collect();
        let log = self.home.directory("direct");
        let told = self.data("told");
        let tee = self.packages.tee(log.to_str().expect("UTF-8"), Some(&told), &server);
        let mut way = self.way(tee);
        let pairs = self.setup.environment.iter();
        way.environment.extend(pairs.map(|(name, value)| ((*name).to_owned(), expand(value))));
        let report = speak(&way);
        Run { report, client: transcripts(&log), server: transcripts(&log) }
    }

    /// The client on `tenantd connect`.
    pub(crate) fn through(&self, speak: Speak<'_>) -> Run {
        let log = self.home.directory("through");
        let supervisor = self.home.start();
        let tee = self.packages.tee(log.to_str().expect("UTF-8"), None, &connect("acme"));
        let report = speak(&self.way(tee));
        supervisor.stop();
        Run { report, client: transcripts(&log), server: transcripts(&self.data.join("log")) }
    }

    fn way(&self, command: Vec<String>) -> Way {
        let environment = [("TENANTD_HOME", self.home.path()), ("HOME", &self.data)];
        let environment = environment
            .map(|(name, value)| (name.to_owned(), value.to_str().expect("UTF-8").to_owned()));
        Way { command, environment: environment.into(), home: self.data.clone() }
    }

    /// The data directory as it is before anybody came: an empty `work`, an empty `log`, and the two
    /// FIFOs by which a call that is cancelled is held and its cancellation told.
    pub(crate) fn reset(&self) {
        for entry in std::fs::read_dir(&self.data).expect("the data directory") {
            let path = entry.expect("an entry").path();
            let directory = path.is_dir();
            let removed = if directory {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.expect("removed");
        }
        for directory in ["work", "log"] {
            self.home.directory(&format!("state/tenants/acme/data/{directory}"));
        }
        for fifo in ["told", "gate"] {
            let path = self.data.join(fifo);
            mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("a FIFO");
            own(&path);
        }
    }
}

impl Way {
    /// A command at home in the data directory, with the environment that is meant for the server.
    pub(crate) fn at_home(&self, mut command: Command) -> Command {
        command.current_dir(&self.home).envs(self.environment.iter().map(|(n, v)| (n, v)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a client to its end and returns what it printed.
    pub(crate) fn output(&self, command: Command) -> Value {
        let mut command = self.at_home(command);
        let output = command.output().expect("started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", output.status);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for SideBySide {
    /// Where a test fails, what was said last on each connection says more than the client does.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let home = self.home.path();
        for log in [home.join("direct"), home.join("through"), self.data.join("log")] {
            for (number, transcript) in transcripts(&log).iter().enumerate() {
                eprintln!("{}, connection {number}:\n{}", log.display(), transcript.end());
            }
        }
    }
}

/// The name of a home is drawn by lot.
fn nonce(home: &Home) -> &str {
    let name = home.path().file_name().expect("a directory of its own");
    name.to_str().expect("UTF-8")
}

/// The command that a client's configuration names.
pub(crate) fn connect(tenant: &str) -> Vec<String> {
    let binary = tenantd().to_str().expect("a path of UTF-8");
    [binary, "connect", tenant].map(str::to_owned).into()
}

/// A command at home in a tenant's data directory.
pub(crate) fn at_home(mut command: Command, home: &Home, data: &Path) -> Command {
    command.current_dir(data).env("TENANTD_HOME", home.path()).env("HOME", data);
    command.stdin(Stdio::null());
    command
}

/// Fails with each place where two JSON values differ, and not with the values whole.
#[track_caller]
pub(crate) fn assert_same(through: &Value, direct: &Value, what: &str) {
    let mut found = Vec::new();
    differences(through, direct, String::new(), &mut found);
    assert!(found.is_empty(), "{what}, through tenantd against direct:\n{}", found.join("\n"));
}

fn differences(through: &Value, direct: &Value, place: String, found: &mut Vec<String>) {
    match (through, direct) {
        (Value::Object(left), Value::Object(right)) => {
            let more = right.keys().filter(|key| !left.contains_key(*key));
            for key in left.keys().chain(more) {
                let (left, right) = (&through[key], &direct[key]);
                differences(left, right, format!("{place}/{key}"), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (number, (left, right)) in left.iter().zip(right).enumerate() {
                differences(left, right, format!("{place}/{number}"), found);
            }
        }
        _ if through == direct => {}
        _ => found.push(format!("{place}: {} against {}", short(through), short(direct))),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
