//! The tenant files of `docs/servers.md`, with the directories that the page invents put where things are here.

use std::path::Path;

use crate::support::{Home, Packages};

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

/// The tenant file of the browser.
pub(crate) fn browser(packages: &Packages) -> String {
    let mut files = files(packages).into_iter();
    let (_, file) =
        files.find(|(heading, _)| heading.contains("browser")).expect("a browser's file");
    assert!(file.contains("playwright-mcp") && file.contains("/usr/bin/chromium"), "{file}");
    file
}

#[test]
fn every_tenant_file_of_the_page_is_right_and_has_no_key_without_effect() {
    let Some(packages) = Packages::find() else { return };
    let files = files(&packages);
    assert!(files.len() >= 4, "{files:?}");
    for (heading, file) in files {
        let home = Home::new();
        home.tenant("acme", &file);
        let check = home.run(&["check"]);
        let page = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(check.status.success(), "{heading}: {page}\n{file}");
        assert!(!page.contains("NOT ENFORCED"), "{heading}: {page}\n{file}");
    }
}
