//! What a model does with the browser: it opens a page, reads it, fills its form, takes its picture, and comes no
//! further than the allowlist.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::authority::Authority;
use crate::confined::{assert_confined, assert_gone, browsers, until_none};
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

/// Asserts that the page does not come, for this reason.
#[track_caller]
fn refused(session: &mut Session, url: &str, why: &str) {
    let result = session.call("browser_navigate", json!({"url": url}));
    assert_eq!(result["isError"], true, "{url}: {result}");
    assert!(said(&result).contains(why), "{url}: {result}");
}

/// What scripts of the page get of these, in their order: the status, or what they are told instead.
fn fetched(session: &mut Session, urls: &[&str]) -> Value {
    let script = format!(
        "() => Promise.all({urls:?}.map((url) => fetch(url).then((it) => it.status, (it) => it.name)))"
    );
    let result = session.call("browser_evaluate", json!({"function": script}));
    let text = said(&result).strip_prefix("### Result\n").expect("a result");
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    values.next().expect("a value").expect("JSON")
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
    assert_confined(&browser, &home.server("acme"), &supervisor, user);
    assert!(session.close().success());
    assert_gone(browser);
    until_none(&supervisor);
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
    visit(&mut session, "http://wiki.acme.lan/");
    let listed = fetched(&mut session, &["http://wiki.acme.lan/greeting"]);
    assert_eq!(listed, json!([200]));
    let before = site.asked();
    assert!(before.contains(&"wiki.acme.lan /greeting".to_owned()), "{before:?}");
    let unlisted = [
        "http://api.acme.lan/greeting",
        "https://api.acme.lan/greeting",
        "http://wiki.acme.lan:8080/",
        "http://127.0.0.1/greeting",
        "http://localhost/greeting",
        "http://10.66.0.1/",
        &format!("http://{public}/"),
        "https://public.wild.example/",
    ];
    let told = fetched(&mut session, &unlisted);
    assert_eq!(told, json!(unlisted.map(|_| "TypeError")));
    refused(&mut session, "file:///etc/passwd", "\"file:\" protocol is blocked");
    refused(&mut session, "https://public.wild.example/", "net::ERR_TUNNEL_CONNECTION_FAILED");
    let (asked, taken) = (site.asked(), others.map(|other| other.taken()));
    assert!(asked.iter().all(|line| line.starts_with("wiki.acme.lan ")), "{asked:?}");
    assert_eq!(taken, [0, 0, 0]);
    for denied in ["host=public.wild.example port=443", "this proxy knows the method CONNECT only"]
    {
        logged(&home, "acme", &["main denied", denied], 1);
    }
    session.close();
    supervisor.stop();
}

#[test]
fn a_browser_reaches_names_behind_a_wildcard_by_the_proxy_and_trusts_the_authority_of_the_house() {
    let Some((world, packages)) = ground() else { return };
    let home = Home::new();
    let authority = Authority::new(&home, &["www.example.com", "wiki.acme.lan"]);
    let mut site = Site::open_tls(&world, &packages, &authority, (PUBLIC, 443));
    let _wiki = Site::open_tls(&world, &packages, &authority, ("127.0.0.1", 443));
    home.tenant("acme", &documented::browser(&packages));
    let supervisor = world.start(&home);
    // Before anybody told it of the authority.
    let mut stranger = opened(supervisor.connect("acme"));
    refused(&mut stranger, "https://www.example.com/", "net::ERR_CERT_AUTHORITY_INVALID");
    stranger.close();
    authority.trusted_in(&world);
    let mut session = opened(supervisor.connect("acme"));
    visit(&mut session, "https://www.example.com/");
    greet(&mut session, "Grace");
    let asked = site.asked();
    assert!(asked.contains(&"www.example.com /greeting".to_owned()), "{asked:?}");
    logged(&home, "acme", &["main allowed", "host=www.example.com port=443"], 1);
    // A page from behind the proxy has what comes from an exact host, which is of the loopback interface here.
    let mixed = fetched(&mut session, &["https://wiki.acme.lan/greeting"]);
    assert_eq!(mixed, json!([200]));
    session.close();
    supervisor.stop();
}
