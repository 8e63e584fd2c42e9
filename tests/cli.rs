//! The command line as a shell sees it: the real binary, its output, its exit codes. No supervisor runs.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use tempfile::TempDir;
use tenantd::cli::args::Cli;

const README: &str = include_str!("../README.md");

/// A home of its own, and the binary in it.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.args(args).env("TENANTD_HOME", self.path()).env_remove("TENANTD_RUNTIME");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().expect("it runs"))
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        Ran::of(&child.wait_with_output().expect("it ends"))
    }

    fn log(&self, tenant: &str, name: &str, text: &str) {
        let dir = self.path().join("log/tenants").join(tenant);
        fs::create_dir_all(&dir).expect("mkdir");
        let file = dir.join(name);
        let mut file = fs::File::options().create(true).append(true).open(file).expect("open");
        file.write_all(text.as_bytes()).expect("write");
    }
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let code = output.status.code().expect("an exit code, not a signal");
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// A failure with this code says so on stderr, and nothing on stdout.
    #[track_caller]
    fn fails(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(self.err.starts_with("tenantd: ") && self.err.contains(words), "{self:?}");
    }

    #[track_caller]
    fn holds(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }
}

fn commands() -> Vec<String> {
    let table = Cli::command();
    let shown = table.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).collect()
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let home = Home::new();
    let ran = home.run(&["--help"]);
    let help = ran.holds();
    for command in commands() {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is missing");
        let ran = home.run(&[&command, "--help"]);
        let own = ran.holds();
        assert!(own.contains(&format!("Usage: tenantd {command}")), "{own}");
    }
    assert!(help.contains("77 no permission") && !help.contains("builtin"), "{help}");
}

#[test]
fn without_a_command_the_help_is_an_error() {
    let ran = Home::new().run(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (64, ""));
    assert!(ran.err.contains("Usage: tenantd <COMMAND>"), "{}", ran.err);
}

#[test]
fn the_version_is_the_crates() {
    let ran = Home::new().run(&["--version"]);
    assert_eq!(ran.holds(), format!("tenantd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_64_and_says_what_is_wrong() {
    let home = Home::new();
    home.run(&["sttus"]).fails(64, "'status'");
    home.run(&["status", "--user", "--system"]).fails(64, "cannot be used with");
    home.run(&["restart"]).fails(64, "TENANT");
    home.run(&["restart", "Acme"]).fails(64, "is not a tenant id");
    home.run(&["logs", "../etc"]).fails(64, "is not a tenant id");
    home.run(&["serve", "--idle-exit", "soon"]).fails(64, "is not a duration");
    home.run(&["entry", "emacs", "acme"]).fails(64, "claude-code");
}

#[test]
fn what_is_quoted_back_cannot_drive_the_terminal() {
    let ran = Home::new().run(&["restart", "\u{1b}[2Jx"]);
    ran.fails(64, "is not a tenant id");
    assert!(!ran.err.contains('\u{1b}'), "{:?}", ran.err);
}

#[test]
fn completions_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = home.run(&["completions", shell]);
        let script = ran.holds();
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
    }
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let home = Home::new();
    let ran = home.run(&["man"]);
    assert!(ran.holds().contains(".TH tenantd 1"), "{}", ran.out);
    let dir = home.path().join("man/man1");
    home.run(&["man", dir.to_str().expect("UTF-8")]).holds();
    assert!(dir.join("tenantd.1").is_file());
    for command in commands() {
        let page = dir.join(format!("tenantd-{command}.1"));
        assert!(page.is_file(), "{} is missing", page.display());
    }
}

#[test]
fn an_entry_is_json_alone_and_starts_this_binary() {
    let home = Home::new();
    for (client, key) in [
        ("claude-desktop", "mcpServers"),
        ("claude-code", "mcpServers"),
        ("cursor", "mcpServers"),
        ("vscode", "servers"),
        ("zed", "context_servers"),
    ] {
        let ran = home.run(&["entry", client, "acme"]);
        let entry: Value = serde_json::from_str(ran.holds()).expect("JSON");
        let acme = &entry[key]["acme"];
        let binary = Path::new(acme["command"].as_str().expect("a command"));
        assert!(binary.is_absolute() && binary.is_file(), "{binary:?}");
        assert_eq!(acme["args"], serde_json::json!(["connect", "acme"]), "{client}");
        assert!(ran.err.starts_with("# "), "{client} does not say where: {}", ran.err);
    }
}

#[test]
fn without_a_supervisor_admin_commands_are_69_and_say_how_to_start_one() {
    let home = Home::new();
    let socket = home.path().join("run/tenantd.sock").display().to_string();
    for args in [&["status"][..], &["reload"], &["stop"], &["restart", "acme"]] {
        let ran = home.run(args);
        ran.fails(69, &socket);
        ran.fails(69, "tenantd serve --user");
    }
}

#[test]
fn a_user_mode_directory_that_others_can_enter_is_77() {
    let home = Home::new();
    let runtime = home.path().join("run");
    fs::create_dir(&runtime).expect("mkdir");
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).expect("chmod");
    home.run(&["status", "--user"]).fails(77, "not a private directory");
}

#[test]
fn a_relative_home_is_78() {
    let home = Home::new();
    let output = home.command(&["status"]).env("TENANTD_HOME", "here").output().expect("it runs");
    Ran::of(&output).fails(78, "TENANTD_HOME=here is not an absolute path");
}

#[test]
fn arguments_that_are_no_object_are_64_before_anybody_is_asked() {
    let home = Home::new();
    home.run(&["call", "acme", "echo", "{"]).fails(64, "not JSON");
    home.run(&["call", "acme", "echo", "[1]"]).fails(64, "not a JSON object");
    home.run_with_input(&["call", "acme", "echo", "-"], "[1]").fails(64, "not a JSON object");
    home.run_with_input(&["call", "acme", "echo", "-"], "").fails(64, "not JSON");
}

#[test]
fn logs_reach_back_over_rotation_and_can_be_one_servers() {
    let home = Home::new();
    home.log(
        "acme",
        "servers.log.1",
        "2026-01-01T00:00:00Z main one\n2026-01-01T00:00:01Z git two\n",
    );
    home.log("acme", "servers.log", "2026-01-01T00:00:02Z main three\n");
    let ran = home.run(&["logs", "acme"]);
    assert_eq!(ran.holds().lines().count(), 3);
    let ran = home.run(&["logs", "acme", "-n", "1"]);
    assert_eq!(ran.holds(), "2026-01-01T00:00:02Z main three\n");
    let ran = home.run(&["logs", "acme/git"]);
    assert_eq!(ran.holds(), "2026-01-01T00:00:01Z git two\n");
    home.run(&["logs", "globex"]).fails(69, "has no log");
}

/// A child that is killed with the test.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn followed_logs_go_on_over_a_rotation_and_end_with_the_tenant() {
    let home = Home::new();
    home.log("acme", "servers.log", "t main one\n");
    let mut command = home.command(&["logs", "acme", "-f"]);
    let mut child = Following(command.stdout(Stdio::piped()).spawn().expect("it runs"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("UTF-8");
    assert_eq!(next(), "t main one");
    home.log("acme", "servers.log", "t main two\n");
    assert_eq!(next(), "t main two");
    let dir = home.path().join("log/tenants/acme");
    fs::rename(dir.join("servers.log"), dir.join("servers.log.1")).expect("rotated");
    home.log("acme", "servers.log", "t main three\n");
    assert_eq!(next(), "t main three");
    fs::remove_dir_all(&dir).expect("removed");
    assert!(child.0.wait().expect("it ends").success());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = Home::new();
    let long = format!("t main {}\n", "x".repeat(1000)).repeat(1000);
    home.log("acme", "servers.log", &long);
    let mut command = home.command(&["logs", "acme", "-n", "1000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(child.stdout.take());
    let ran = Ran::of(&child.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

/// The shim has a parser of its own, for speed; the table is what help and completions show.
#[test]
fn connect_takes_the_options_of_the_table_and_no_other() {
    let home = Home::new();
    let table = Cli::command();
    let connect = table.find_subcommand("connect").expect("in the table");
    let options: Vec<String> = connect
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
        .collect();
    assert_eq!(options, ["--user", "--system", "--strict"]);
    for option in &options {
        let ran = home.run(&["connect", option, "acme"]);
        // There is no such tenant: refused, but understood.
        assert!(matches!(ran.code, 69 | 77 | 78), "{option}: {ran:?}");
        assert!(Cli::try_parse_from(["tenantd", "connect", "acme/git", option]).is_ok());
    }
    for bad in [&["--json"][..], &["--user", "--system"], &["a", "b"], &["Acme"]] {
        let args = [&["connect"], bad].concat();
        home.run(&args).fails(64, "");
        assert!(Cli::try_parse_from([&["tenantd"], &args[..]].concat()).is_err());
    }
}

/// Words as a shell splits them; README quotes with `'` alone.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Every command line of README: those of its shell blocks, and those in backquotes that have no
/// placeholder.
fn readme_commands() -> Vec<String> {
    let line = |line: &str| line.strip_prefix("sudo ").unwrap_or(line).to_owned();
    let mut found = Vec::new();
    for (at, block) in README.split("```").enumerate() {
        if at % 2 == 1 {
            found.extend(block.lines().map(line));
        } else {
            found.extend(block.split('`').skip(1).step_by(2).map(line));
        }
    }
    let placeholder = |word: &str| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase());
    found.retain(|line| line.starts_with("tenantd ") && !line.split(' ').any(placeholder));
    found
}

#[test]
fn every_command_in_readme_is_one() {
    let found = readme_commands();
    assert!(found.len() > 25, "the commands were not found: {found:?}");
    for line in &found {
        if line.starts_with("tenantd --") {
            continue;
        }
        if let Err(error) = Cli::try_parse_from(words(line)) {
            panic!("README says {line}: {error}");
        }
    }
    for command in commands() {
        let begins = format!("tenantd {command}");
        assert!(found.iter().any(|line| line.starts_with(&begins)), "README lacks {command}");
    }
}

#[test]
fn the_samples_in_readme_are_what_they_say() {
    for block in README.split("```").skip(1).step_by(2) {
        match block.split_once('\n') {
            Some(("toml", text)) => {
                toml::from_str::<toml::Table>(text).expect("TOML");
            }
            Some(("json", text)) => {
                let sample: Value = serde_json::from_str(text).expect("JSON");
                let args = &sample["mcpServers"]["acme"]["args"];
                assert_eq!(*args, serde_json::json!(["connect", "acme"]));
            }
            Some(("sh" | "", _)) => {}
            other => panic!("an unknown block: {other:?}"),
        }
    }
}
