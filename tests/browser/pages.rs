//! What a model does with the browser: it opens a page, reads it, fills its form, takes its picture, and comes no
//! further than the allowlist.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::confined::{assert_confined, assert_gone, assert_none, browsers};
use crate::documented;
use crate::site::Site;
use crate::support::{Home, Packages, Session, said};
use crate::world::{PUBLIC, World, logged};

/// Everything that a test of a browser needs; `None`, said loudly, where something is missing. In CI that is a
/// failure.
pub(crate) fn ground() -> Option<(World, Packages)> {
    let (world, packages) = (World::make()?, Packages::find()?);
    let server = packages.root().join("node/node_modules/.bin/playwright-mcp");
    for path in [Path::new("/usr/bin/chromium"), &server] {
        if !path.exists() {
            let path = path.display();
            assert!(std::env::var_os("CI").is_none(), "{path} is missing (run tests/run)");
            eprintln!("SKIPPED: {path} is missing (run tests/run, which installs it)");
            return None;
        }
    }
    Some((world, packages))
}

/// A session that has shaken hands with Playwright's server.
#[track_caller]
pub(crate) fn opened(mut session: Session) -> Session {
    let answer = session.initialize(json!({}));
    assert_eq!(answer["result"]["serverInfo"]["name"], "Playwright", "{answer}");
    session
}

/// Opens the page, which must come.
#[track_caller]
pub(crate) fn visit(session: &mut Session, url: &str) {
    let result = session.call("browser_navigate", json!({"url": url}));
    assert_ne!(result["isError"], true, "{result}");
    assert!(said(&result).contains("Page Title: Front desk"), "{result}");
}

/// Why the page does not come.
#[track_caller]
fn refused(session: &mut Session, url: &str) -> String {
    let result = session.call("browser_navigate", json!({"url": url}));
    assert_eq!(result["isError"], true, "{url}: {result}");
    said(&result).to_owned()
}

/// The page as the model reads it.
pub(crate) fn snapshot(session: &mut Session) -> String {
    said(&session.call("browser_snapshot", json!({}))).to_owned()
}

/// Writes a name into the form and sends it; the page has then said hello.
#[track_caller]
pub(crate) fn greet(session: &mut Session, name: &str) {
    let before = snapshot(session);
    assert!(before.contains("heading \"Welcome, stranger\""), "{before}");
    session.call("browser_type", json!({"element": "Name", "target": "#name", "text": name}));
    session.call("browser_click", json!({"element": "Greet", "target": "#greet"}));
    let hello = format!("Hello, {name}!");
    session.call("browser_wait_for", json!({"text": hello}));
    let after = snapshot(session);
    assert!(after.contains(&hello), "{after}");
}

/// Takes a picture, which comes with the answer and is kept below `data`.
#[track_caller]
fn assert_pictured(session: &mut Session, data: &Path) {
    let result = session.call("browser_take_screenshot", json!({}));
    let content = result["content"].as_array().expect("content");
    let image: &Value = content.iter().find(|it| it["type"] == "image").expect("an image");
    assert_eq!(image["mimeType"], "image/png");
    // The signature of a PNG, in base64.
    assert!(image["data"].as_str().is_some_and(|data| data.starts_with("iVBORw0KGgo")));
    let kept: Vec<_> = fs::read_dir(data.join("browser"))
        .expect("a directory of the tenant's")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "png"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let bytes = fs::read(&kept[0]).expect("a picture");
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xaeB`\x82"));
}

#[test]
fn a_browser_opens_reads_fills_and_pictures_a_listed_page_and_leaves_nothing_behind() {
    let Some((world, packages)) = ground() else { return };
    let mut site = Site::open(&world, &packages, ("127.0.0.1", 80));
    let home = Home::new();
    home.tenant("acme", &documented::browser(&packages));
    let supervisor = world.start(&home);
    let mut session = opened(supervisor.connect("acme"));
    visit(&mut session, "http://wiki.acme.lan/");
    greet(&mut session, "Ada");
    assert_pictured(&mut session, &home.data("acme"));
    let asked = site.asked();
    assert!(asked.contains(&"wiki.acme.lan /greeting".to_owned()), "{asked:?}");
    // What the page shows of a host that is not listed is not fetched.
    assert!(asked.iter().all(|line| line.starts_with("wiki.acme.lan ")), "{asked:?}");

    let browser = browsers(&supervisor);
    let user = crate::support::test_user().map_or(0, |user| user.uid.as_raw());
    assert_confined(&browser, &home.server("acme"), user);
    assert!(session.close().success());
    assert_gone(browser);
    assert_none(&supervisor);
    supervisor.stop();
}

#[test]
fn a_browser_reaches_no_host_port_or_file_that_is_not_listed() {
    let Some((world, packages)) = ground() else { return };
    let mut site = Site::open(&world, &packages, ("127.0.0.1", 80));
    let public = format!("{PUBLIC}:80");
    let others = ["127.0.0.1:8080", "10.66.0.1:80", &public].map(|at| world.shouts(at));
    let home = Home::new();
    home.tenant("acme", &documented::browser(&packages));
    let supervisor = world.start(&home);
    let mut session = opened(supervisor.connect("acme"));
    for url in [
        "http://api.acme.lan/",
        "http://wiki.acme.lan:8080/",
        "http://127.0.0.1/",
        "http://localhost/",
        "http://10.66.0.1/",
        &format!("http://{public}/"),
        "https://public.wild.example/",
    ] {
        let why = refused(&mut session, url);
        assert!(why.contains("net::ERR_") || why.contains("chrome-error:"), "{url}: {why}");
    }
    let why = refused(&mut session, "file:///etc/passwd");
    assert!(why.contains("file:"), "{why}");
    assert_eq!((site.asked(), others.map(|other| other.taken())), (Vec::new(), [0, 0, 0]));
    logged(&home, "acme", &["main denied", "host=public.wild.example port=443"], 1);
    // All that was for want of an entry, not of a browser.
    visit(&mut session, "http://wiki.acme.lan/");
    session.close();
    supervisor.stop();
}

#[test]
fn a_browser_reaches_names_behind_a_wildcard_by_the_proxy_that_its_environment_names() {
    let Some((world, packages)) = ground() else { return };
    let home = Home::new();
    let name = "www.example.com";
    let mut site = Site::open_tls(&world, &packages, &home, (PUBLIC, 443), name);
    // Nobody has signed this site's certificate.
    let file = documented::browser(&packages);
    let trusting = file.replace("\"--isolated\"", "\"--isolated\", \"--ignore-https-errors\"");
    assert_ne!(trusting, file);
    home.tenant("acme", &trusting);
    let supervisor = world.start(&home);
    let mut session = opened(supervisor.connect("acme"));
    visit(&mut session, &format!("https://{name}/"));
    greet(&mut session, "Grace");
    let asked = site.asked();
    assert!(asked.contains(&format!("{name} /greeting")), "{asked:?}");
    logged(&home, "acme", &["main allowed", "host=www.example.com port=443"], 1);
    session.close();
    supervisor.stop();
}
