//! Real servers as people install them, under the default sandbox and without a hand-made `read` line: what
//! a command needs around it is found.
//!
//! The tenant files say the command and nothing of a sandbox: every layer is required, and there is no
//! network.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod install;

use std::fs;
use std::path::Path;
use std::process::Command;

use install::Person;
use serde_json::{Value, json};
use support::{Home, Packages, as_test_user, said, tenantd};

/// A tenant file of nothing but a command.
fn file(command: &Path, arguments: &[&str]) -> String {
    format!("[server]\ncommand = {command:?}\nargs = {arguments:?}\n")
}

/// What one call of a tool gives.
fn call(home: &Home, tool: &str, arguments: Value) -> String {
    let mut session = home.connect("acme");
    let answer = session.initialize(json!({}));
    assert!(answer.get("error").is_none(), "{answer}\n{}", ill(home));
    let result = session.call(tool, arguments);
    assert_ne!(result["isError"], true, "{result}");
    let text = said(&result).to_owned();
    session.hang_up();
    text
}

/// Why there is no answer, for who reads the failure of a test.
fn ill(home: &Home) -> String {
    String::from_utf8_lossy(&home.run(&["why", "acme"]).stdout).into_owned()
}

/// What was found for the command, as `show --effective` prints it.
fn found(home: &Home) -> String {
    let output = home.run(&["tenant", "show", "acme", "--effective"]);
    let page = String::from_utf8(output.stdout).expect("UTF-8");
    let found: Vec<&str> =
        page.lines().filter(|line| line.ends_with("# found for server.command")).collect();
    found.join("\n")
}

#[test]
fn servers_of_npm_run_under_nvm_by_a_link_in_a_home() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let person = Person::new(&home, &packages);
    let version = person.nvm();
    person.link(".nvm/current", "versions/node/v22");
    let command =
        person.link(".local/bin/everything", person.at(".nvm/current/bin/mcp-server-everything"));
    home.tenant("acme", &file(&command, &["stdio"]));
    let supervisor = home.start();
    assert!(call(&home, "echo", json!({"message": "Ümläut"})).contains("Ümläut"));
    // It is nvm's Node that runs it, not the system's.
    let env: Value = serde_json::from_str(&call(&home, "get-env", json!({}))).expect("JSON");
    let path = env["PATH"].as_str().expect("a PATH");
    let bin = person.at(version).join("bin");
    assert!(path.starts_with(&format!("{}:", bin.display())), "{path}");
    let found = found(&home);
    assert!(found.contains(&format!("{:?}", person.at(version))), "{found}");
    assert!(found.contains("-> \"versions/node/v22\""), "{found}");
    supervisor.stop();
}

#[test]
fn the_file_server_of_npm_reads_and_writes_its_tenants_data() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let person = Person::new(&home, &packages);
    let version = person.nvm();
    let command = person.at(&format!("{version}/bin/mcp-server-filesystem"));
    home.tenant("acme", &file(&command, &["{data}"]));
    let supervisor = home.start();
    let path = home.data("acme").join("note.txt").display().to_string();
    call(&home, "write_file", json!({"path": path, "content": "kept"}));
    assert_eq!(call(&home, "read_text_file", json!({"path": path})), "kept");
    assert_eq!(fs::read_to_string(&path).expect("outside, too"), "kept");
    supervisor.stop();
}

#[test]
fn a_data_directory_behind_a_link_keeps_its_name() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let person = Person::new(&home, &packages);
    let command = person.at(person.nvm()).join("bin/mcp-server-filesystem");
    home.directory("disk/acme");
    let named = person.link("customers", "../disk").join("acme");
    home.tenant("acme", &format!("data = {named:?}\n{}", file(&command, &["{data}"])));
    let supervisor = home.start();
    call(&home, "write_file", json!({"path": named.join("note.txt"), "content": "kept"}));
    let kept = fs::read_to_string(home.path().join("disk/acme/note.txt"));
    assert_eq!(kept.expect("where the link leads"), "kept");
    supervisor.stop();
}

#[test]
fn a_checkout_with_linked_packages_runs_by_the_node_that_is_its_command() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let person = Person::new(&home, &packages);
    let node = person.at(person.nvm()).join("bin/node");
    let script = person.checkout();
    home.tenant("acme", &file(&node, &["--no-warnings", script.to_str().expect("UTF-8"), "stdio"]));
    let supervisor = home.start();
    assert!(call(&home, "echo", json!({"message": "linked"})).contains("linked"));
    supervisor.stop();
}

#[test]
fn a_tool_of_uv_runs_by_its_link_in_local_bin() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let person = Person::new(&home, &packages);
    let command = person.uv();
    let repository = home.directory("state/tenants/acme/data/repository");
    let mut git = Command::new("git");
    git.args(["init", "--quiet", "--initial-branch=trunk"])
        .arg(&repository)
        .env("HOME", &repository);
    assert!(as_test_user(&mut git).status().expect("git").success());
    home.tenant("acme", &file(&command, &["--repository", "{data}/repository"]));
    let supervisor = home.start();
    let status = call(&home, "git_status", json!({"repo_path": repository}));
    assert!(status.contains("On branch trunk"), "{status}");
    let found = found(&home);
    assert!(found.contains("-> \"cpython-3.11.2-linux-x86_64-gnu\""), "{found}");
    supervisor.stop();
}

#[test]
fn a_server_of_pyenv_runs_and_its_shim_says_what_to_write() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let person = Person::new(&home, &packages);
    let command = person.pyenv();
    home.tenant("acme", &file(&person.at(".pyenv/shims/mcp-server-time"), &[]));
    let check = home.run(&["check"]);
    let page = String::from_utf8_lossy(&check.stdout).into_owned();
    let cure = format!("write the program itself: {}", command.display());
    assert!(check.status.code() == Some(78) && page.contains(&cure), "{page}");
    home.tenant("acme", &file(&command, &["--local-timezone", "UTC"]));
    let supervisor = home.start();
    let time = call(&home, "get_current_time", json!({"timezone": "UTC"}));
    assert!(time.contains("\"timezone\": \"UTC\""), "{time}");
    supervisor.stop();
}

#[test]
fn the_documents_server_runs_under_the_default_sandbox() {
    let home = Home::new();
    home.tenant("acme", &file(tenantd(), &["builtin", "documents"]));
    let supervisor = home.start();
    assert!(call(&home, "echo", json!({"text": "here"})).contains("here"));
    supervisor.stop();
}
