//! A home with an encrypted file for secrets, commands at a terminal and at a pipe, and a look at everything
//! that was written.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::Value;

use crate::support::{DEADLINE, Home, documents_tenant, own, readable, tenantd, wait_until};

/// `[credentials]` of every test here.
const STORE: &str = "[credentials]\nstore = \"encrypted-file\"\n";

/// Gives a home a store that needs no desktop, and its key.
pub(crate) fn with_store(home: &Home) {
    home.settings(STORE);
    home.directory("state");
    // Not made by root in a home of root's: Home::file gives it to who runs the supervisor.
    let key = home.file("state/tenantd.key", &"k".repeat(32));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("chmod");
}

/// A user's home with that.
pub(crate) fn home() -> Home {
    let home = Home::new();
    with_store(&home);
    home
}

/// A tenant on the documents server with these lines after it.
pub(crate) fn tenant_with(more: &str) -> String {
    format!("{}{more}", documents_tenant())
}

/// `[[credential]]` that becomes an environment variable.
pub(crate) fn credential(name: &str, variable: &str) -> String {
    format!("[[credential]]\nname = {name:?}\nenv = {variable:?}\n")
}

/// Runs a command with this on its stdin.
pub(crate) fn piped(mut command: Command, stdin: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // One that refuses before it reads closes its end.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin);
    child.wait_with_output().expect("ended")
}

/// The binary as somebody else, in a home.
pub(crate) fn command_as(home: &Home, uid: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new(tenantd());
    command.args(arguments).env("TENANTD_HOME", home.path()).current_dir("/");
    command.uid(uid).gid(uid);
    command
}

/// Everything that a command printed.
pub(crate) fn printed(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Runs it and expects success.
#[track_caller]
pub(crate) fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", printed(output));
    printed(output)
}

/// `credential list --json`, by name.
pub(crate) fn listed(home: &Home, name: &str) -> Option<Value> {
    let output = home.run(&["credential", "list", "--json"]);
    let list: Value = serde_json::from_str(&done(&output)).expect("JSON");
    let lines = list["credentials"].as_array().expect("a list");
    lines.iter().find(|line| line["name"] == name).cloned()
}

/// No file below a directory holds these bytes.
#[track_caller]
pub(crate) fn assert_nowhere(directory: &Path, planted: &str) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("there").file_type();
        if kind.is_dir() {
            assert_nowhere(&path, planted);
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("read");
            let found = bytes.windows(planted.len()).any(|part| part == planted.as_bytes());
            assert!(!found, "{} holds {planted}", path.display());
        }
    }
}

/// A command at a terminal of its own.
pub(crate) struct AtTerminal {
    pub(crate) child: Child,
    master: OwnedFd,
    /// Held, so that the terminal outlives the command.
    _slave: OwnedFd,
    /// Everything that was shown.
    pub(crate) shown: String,
}

impl AtTerminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let terminal = openpty(None, None).expect("a terminal");
        let end = || Stdio::from(terminal.slave.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("started");
        drop(command);
        Self { child, master: terminal.master, _slave: terminal.slave, shown: String::new() }
    }

    /// Reads until this was shown.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: &str) {
        let deadline = Instant::now() + DEADLINE;
        let from = self.shown.len();
        while !self.shown.get(from..).is_some_and(|shown| shown.contains(wanted)) {
            assert!(readable(&self.master, deadline), "no {wanted:?} in {:?}", self.shown);
            let mut bytes = [0; 4096];
            let count = rustix::io::read(&self.master, &mut bytes).expect("read");
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    /// What a person types, byte for byte.
    pub(crate) fn types(&self, text: &str) {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            let count = rustix::io::write(&self.master, bytes).expect("written");
            bytes = &bytes[count..];
        }
    }

    /// Whether the terminal shows what is typed.
    pub(crate) fn echoes(&self) -> bool {
        let state = tcgetattr(self._slave.as_fd()).expect("a terminal");
        state.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// Its end, with everything that was shown until then.
    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        wait_until("the command ended", || matches!(self.child.try_wait(), Ok(Some(_))));
        let now = Instant::now();
        while readable(&self.master, now) {
            let mut bytes = [0; 4096];
            let count = rustix::io::read(&self.master, &mut bytes).expect("read");
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        self.child.wait().expect("ended")
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a file of whoever runs the commands.
pub(crate) fn owned(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    own(path);
}
