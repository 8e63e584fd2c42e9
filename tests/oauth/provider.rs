//! The authorization server and the person at the browser, each a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Packages, as_test_user};

/// How long a start of Node or of a browser, or a way through some pages, may take.
const WITHIN: Duration = Duration::from_secs(60);

/// A process that says a JSON document a line.
struct Teller {
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
}

impl Teller {
    fn start(mut command: Command) -> Self {
        as_test_user(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("a process");
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("its output"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            let documents = lines.map(|line| serde_json::from_str(&line).expect("a document"));
            documents.take_while(|document| sender.send(Value::clone(document)).is_ok()).count();
        });
        Self { process, stdin, lines }
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(WITHIN).expect("a line in time")
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // Both leave when their input ends.
        drop(self.stdin.take());
        let deadline = std::time::Instant::now() + WITHIN;
        while self
            .lines
            .recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()))
            .is_ok()
        {}
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A real authorization server.
pub(crate) struct Provider {
    teller: Teller,
    pub(crate) issuer: String,
}

impl Provider {
    /// One with these settings over those of `provider.mjs`; `None` where the packages are not here.
    pub(crate) fn start(settings: &Value) -> Option<Self> {
        let packages = Packages::find()?;
        let mut command = Command::new(packages.node());
        command
            .arg(script("provider.mjs"))
            .arg(packages.root().join("node"))
            .arg(settings.to_string());
        let teller = Teller::start(command);
        let issuer = teller.next()["issuer"].as_str().expect("its issuer").to_owned();
        Some(Self { teller, issuer })
    }

    /// Everything that it has said, once it is gone.
    pub(crate) fn end(mut self) -> Vec<Value> {
        drop(self.teller.stdin.take());
        std::iter::from_fn(|| self.teller.lines.recv_timeout(WITHIN).ok()).collect()
    }
}

/// How many grants of this type were given.
pub(crate) fn granted(said: &[Value], kind: &str) -> usize {
    said.iter().filter(|line| line["granted"] == kind).count()
}

/// A person at a real browser.
pub(crate) struct Person(Teller);

impl Person {
    pub(crate) fn new() -> Option<Self> {
        let packages = Packages::find()?;
        let mut command = Command::new(packages.node());
        command
            .arg(script("person.mjs"))
            .arg(packages.root().join("node"))
            .arg("/usr/bin/chromium");
        // A browser wants a home, and the user of the tests has none.
        let home = tempfile::tempdir().expect("a directory").keep();
        crate::support::own(&home);
        command.env("HOME", &home).env("XDG_CONFIG_HOME", &home).env("XDG_CACHE_HOME", &home);
        Some(Self(Teller::start(command)))
    }

    /// Sends the person to a page.
    pub(crate) fn open(&mut self, url: &str) {
        self.tell(&json!({ "open": url }));
    }

    /// Sends the person to a page, to say no there.
    pub(crate) fn refuse(&mut self, url: &str) {
        self.tell(&json!({ "open": url, "refuse": true }));
    }

    /// Sends the person to a page that wants this code.
    pub(crate) fn confirm(&mut self, url: &str, code: &str) {
        self.tell(&json!({ "open": url, "code": code }));
    }

    fn tell(&mut self, what: &Value) {
        let stdin = self.0.stdin.as_mut().expect("its input");
        writeln!(stdin, "{what}").expect("told");
    }

    /// What the person sees at the end of the way.
    pub(crate) fn sees(&self) -> String {
        let seen = self.0.next();
        seen["shown"].as_str().unwrap_or_else(|| panic!("{seen}")).to_owned()
    }
}

fn script(name: &str) -> String {
    format!("{}/tests/oauth/{name}", env!("CARGO_MANIFEST_DIR"))
}
