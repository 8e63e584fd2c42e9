//! A real server, directly and behind tenantd, on the same data directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::home::Home;
use super::packages::Packages;
use super::tenantd;
use super::tenants::tenant_with;

/// A tenant `acme` on one real server, with its data directory made ready before each run.
pub(crate) struct SideBySide {
    pub(crate) home: Home,
    server: Vec<String>,
    pub(crate) data: PathBuf,
    ready: fn(&Path),
}

impl SideBySide {
    /// `{data}` in the command stands for the data directory, as in a tenant file.
    pub(crate) fn new(server: Vec<String>, lines: &str, ready: fn(&Path)) -> Self {
        let home = Home::new();
        let data = home.directory("state/tenants/acme/data");
        let arguments: Vec<_> = server[1..].iter().map(String::as_str).collect();
        home.tenant("acme", &tenant_with(server[0].as_ref(), &arguments, lines));
        Self { home, server, data, ready }
    }

    /// The data directory as it is before anybody came.
    pub(crate) fn reset(&self) {
        for entry in std::fs::read_dir(&self.data).expect("the data directory") {
            let path = entry.expect("an entry").path();
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.expect("removed");
        }
        (self.ready)(&self.data);
    }

    /// The server itself.
    pub(crate) fn direct(&self) -> Vec<String> {
        let data = self.data.to_str().expect("a path of UTF-8");
        self.server.iter().map(|word| word.replace("{data}", data)).collect()
    }

    /// The same server behind tenantd.
    pub(crate) fn through(&self) -> Vec<String> {
        connect("acme")
    }

    /// What the Python client sees: direct, then through tenantd.
    pub(crate) fn compare(&self, packages: &Packages, plan: &Value) -> (Value, Value) {
        self.reset();
        let direct = python(&self.home, &self.data, packages, plan, &self.direct());
        self.reset();
        let supervisor = self.home.start();
        let through = python(&self.home, &self.data, packages, plan, &self.through());
        supervisor.stop();
        (direct, through)
    }
}

/// The command that a client's configuration names.
pub(crate) fn connect(tenant: &str) -> Vec<String> {
    let binary = tenantd().to_str().expect("a path of UTF-8");
    [binary, "connect", tenant].map(str::to_owned).into()
}

/// A command at home in the data directory, with the environment that a server needs.
pub(crate) fn at_home(mut command: Command, home: &Home, data: &Path) -> Command {
    command.current_dir(data).env("TENANTD_HOME", home.path()).env("HOME", data);
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end and returns its stdout; a failure fails the test.
pub(crate) fn output(mut command: Command) -> String {
    let output = command.output().expect("started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn python(home: &Home, data: &Path, packages: &Packages, plan: &Value, server: &[String]) -> Value {
    let command = packages.python_command(&plan.to_string(), server);
    let mut seen: Value =
        serde_json::from_str(&output(at_home(command, home, data))).expect("JSON");
    // When a server asks for roots, it does so some time after the handshake: before or after the end.
    seen["asked"].as_array_mut().expect("a list").retain(|asked| asked[0] != "roots");
    seen
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
