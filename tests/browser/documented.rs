//! The tenant files of `docs/servers.md`, with the directories that the page invents put where things are here.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Home, Packages, as_test_user};

const PAGE: &str = include_str!("../../docs/servers.md");
/// Where the page installs programs.
const INSTALLED: [&str; 3] = ["/opt/mcp/node_modules", "/opt/mcp/venv", "/opt/mcp/postgres.py"];

/// Every tenant file of the page, with the heading that it stands below.
fn files(packages: &Packages) -> Vec<(&'static str, String)> {
    let root = packages.root().canonicalize().expect("a directory");
    let here = [
        root.join("node/node_modules"),
        root.join("python"),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/postgres.py"),
    ];
    let moved = |file: &str| {
        let places = INSTALLED.iter().zip(&here);
        places.fold(file.to_owned(), |file, (there, here)| {
            file.replace(there, here.to_str().expect("UTF-8"))
        })
    };
    let mut found = Vec::new();
    for section in PAGE.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap_or_default();
        let blocks = section.split("```toml\n").skip(1);
        let files = blocks.filter_map(|block| Some(block.split_once("```")?.0));
        found.extend(files.map(|file| (heading, moved(file))));
    }
    found
}

/// The tenant file whose server this is.
fn file_with(packages: &Packages, server: &str) -> String {
    let found = files(packages).into_iter().find(|(_, file)| file.contains(server));
    found.unwrap_or_else(|| panic!("the page has no file with {server}")).1
}

/// The tenant file of the browser.
pub(crate) fn browser(packages: &Packages) -> String {
    let file = file_with(packages, "playwright-mcp");
    assert!(file.contains("/usr/bin/chromium"), "{file}");
    file
}

#[test]
fn every_tenant_file_of_the_page_is_right_and_has_no_key_without_effect() {
    let Some(packages) = Packages::find() else { return };
    let files = files(&packages);
    assert!(files.len() >= 5, "{files:?}");
    for (heading, file) in files {
        let home = Home::new();
        home.tenant("acme", &file);
        let check = home.run(&["check"]);
        let page = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(check.status.success(), "{heading}: {page}\n{file}");
        assert!(!page.contains("NOT ENFORCED"), "{heading}: {page}\n{file}");
    }
}

/// What the Git server's file expects there.
fn make_repository(home: &Home) {
    let repository = home.directory("state/tenants/acme/data/repository");
    let mut git = Command::new("git");
    git.args(["init", "--quiet", "--initial-branch=trunk"])
        .arg(&repository)
        .env("HOME", &repository);
    assert!(as_test_user(&mut git).status().expect("git").success());
}

#[test]
fn every_server_of_the_page_starts_from_its_file_and_lists_its_tools() {
    let Some(packages) = Packages::find() else { return };
    for (heading, file) in files(&packages) {
        let home = Home::new();
        home.tenant("acme", &file);
        make_repository(&home);
        let supervisor = home.start();
        let mut session = supervisor.connect("acme");
        let answer = session.initialize(json!({}));
        assert!(answer.get("error").is_none(), "{heading}: {answer}\n{file}");
        let tools = session.result("tools/list", json!({}));
        let stands_in = |tool: &Value| tool["name"] == "tenantd_status";
        let tools = tools["tools"].as_array().expect("a list");
        assert!(!tools.is_empty() && !tools.iter().any(stands_in), "{heading}: {tools:?}\n{file}");
        session.close();
        supervisor.stop();
    }
}

#[test]
fn the_memory_server_of_the_page_keeps_what_it_knows_in_its_tenants_data() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    home.tenant("acme", &file_with(&packages, "mcp-server-memory"));
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let entity = json!({"name": "Ada", "entityType": "person", "observations": ["counts"]});
    session.call("create_entities", json!({"entities": [entity]}));
    let kept = std::fs::read_to_string(home.data("acme").join("memory.jsonl"));
    assert!(kept.expect("a file of the tenant's").contains("Ada"));
    session.close();
    supervisor.stop();
}
