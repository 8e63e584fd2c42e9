//! The proxy for wildcards, and what it judges: hosts, addresses, requests.

use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::support::{Home, Packages, Session};
use crate::world::{World, logged, python, tenant, tool};

/// What the proxy says to a CONNECT, and what is said after it.
fn connect(session: &mut Session, target: &str, text: &str) -> Value {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    tool(session, "proxied", json!({"request": request, "text": text}))["heard"].clone()
}

fn starts(heard: &Value, with: &str) -> bool {
    heard.as_str().is_some_and(|heard| heard.starts_with(with))
}

#[test]
fn a_wildcard_opens_the_internet_and_never_the_house() {
    let Some(world) = World::make() else { return };
    let public = world.shouts("93.184.215.14:443");
    let house = ["127.0.0.1:443", "10.66.0.1:443"].map(|at| world.shouts(at));
    let home = Home::new();
    home.tenant("acme", &python(r#"["*.wild.example:443", "db.acme.lan:5432"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let heard = connect(&mut session, "public.wild.example:443", "through the proxy");
    assert!(starts(&heard, "HTTP/1.1 200 "), "{heard}");
    assert!(heard.as_str().is_some_and(|h| h.ends_with("\r\n\r\nTHROUGH THE PROXY")), "{heard}");
    for host in ["deep.wild.example", "house.wild.example"] {
        let heard = connect(&mut session, &format!("{host}:443"), "x");
        assert!(starts(&heard, "HTTP/1.1 403 "), "{host}: {heard}");
        assert!(heard.as_str().is_some_and(|h| h.contains("not on the open internet")), "{heard}");
        let wanted = ["main denied tenant=acme", &format!("host={host} port=443")];
        assert!(logged(&home, "acme", &wanted, 1)[0].contains("sent=0 received=0"));
    }
    for target in
        ["wild.example:443", "public.wild.example:80", "93.184.215.14:443", "127.0.0.1:443"]
    {
        let heard = connect(&mut session, target, "x");
        assert!(starts(&heard, "HTTP/1.1 403 "), "{target}: {heard}");
        assert!(heard.as_str().is_some_and(|h| h.contains("not in sandbox.network")), "{heard}");
    }
    assert_eq!((public.taken(), house.map(|server| server.taken())), (1, [0, 0]));
    session.close();
    supervisor.stop();
}

#[test]
fn a_name_that_means_another_address_the_second_time_changes_nothing() {
    let Some(world) = World::make() else { return };
    let asked = world.name_server(&[[93, 184, 215, 14], [127, 0, 0, 1]]);
    let (public, house) = (world.shouts("93.184.215.14:443"), world.shouts("127.0.0.1:443"));
    let home = Home::new();
    home.tenant("acme", &python(r#"["*.rebinds.example:443", "*.unknown.example:443"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let heard = connect(&mut session, "a.rebinds.example:443", "first");
    assert!(heard.as_str().is_some_and(|h| h.ends_with("FIRST")), "{heard}");
    // Resolved once for the connection that was made, and anew for the next.
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let heard = connect(&mut session, "a.rebinds.example:443", "second");
    assert!(starts(&heard, "HTTP/1.1 403 "), "{heard}");
    assert_eq!((public.taken(), house.taken(), asked.load(Ordering::SeqCst)), (1, 0, 2));
    session.close();
    supervisor.stop();
}

#[test]
fn a_refusal_says_why_in_plain_text() {
    let Some(world) = World::make() else { return };
    let home = Home::new();
    home.tenant("acme", &python(r#"["*.wild.example:443", "*.nowhere.example:1"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let long = format!("CONNECT a.wild.example:443 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000));
    for (request, status) in [
        ("GET http://a.wild.example/ HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("CONNECT a.wild.example HTTP/1.1\r\n\r\n", "400"),
        ("CONNECT a.wild.example:443 HTTP/2\r\n\r\n", "505"),
        ("\r\n\r\n", "400"),
        (&long, "431"),
        // Nobody listens there; nobody can be asked for the other.
        ("CONNECT public.wild.example:443 HTTP/1.1\r\n\r\n", "502"),
        ("CONNECT a.nowhere.example:1 HTTP/1.1\r\n\r\n", "502"),
    ] {
        let heard = tool(&mut session, "proxied", json!({"request": request}))["heard"].clone();
        assert!(starts(&heard, &format!("HTTP/1.1 {status} ")), "{request:.60}: {heard}");
        assert!(heard.as_str().is_some_and(|h| h.contains("\r\n\r\ntenantd: ")), "{heard}");
    }
    logged(&home, "acme", &[" failed ", "host=public.wild.example port=443", "refused"], 1);
    session.close();
    supervisor.stop();
}

#[test]
fn node_and_python_find_the_proxy_by_their_environment() {
    let (Some(world), Some(packages)) = (World::make(), Packages::find()) else { return };
    world.greets("93.184.215.14:80");
    let home = Home::new();
    let network = r#"["*.wild.example:80", "db.acme.lan:5432"]"#;
    home.tenant("node", &tenant(&packages.node(), "reach.mjs", network, ""));
    let own = "env = { NO_PROXY = \"of.its.own\" }";
    home.tenant("own", &tenant(Path::new("/usr/bin/python3"), "reach.py", network, own));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("node");
    session.initialize(json!({}));
    let heard = tool(&mut session, "fetch", json!({"url": "http://public.wild.example/"}));
    assert_eq!(heard["heard"], "hello", "{heard}");
    session.close();
    let mut session = supervisor.connect("own");
    session.initialize(json!({}));
    let found = tool(&mut session, "environment", json!({}));
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        assert_eq!(found[name], "http://127.0.0.1:3128", "{name}");
    }
    assert_eq!(found["no_proxy"], "localhost,127.0.0.1,::1,db.acme.lan");
    assert_eq!(found["NO_PROXY"], "of.its.own", "what the tenant's file says wins");
    session.close();
    supervisor.stop();
}

#[test]
fn with_a_proxy_of_the_house_strangers_are_reached_through_it_and_the_house_directly() {
    let Some(world) = World::make() else { return };
    let (direct, behind) = (world.shouts("127.0.0.1:5432"), world.shouts("127.0.0.1:9999"));
    let asked = world.house_proxy("127.0.0.1:8080", "far.wild.example", behind.address);
    let home = Home::new();
    home.settings("[egress]\nupstream_proxy = \"http://127.0.0.1:8080\"\n");
    home.tenant(
        "acme",
        &python(r#"["*.wild.example:443", "db.acme.lan:5432", "no.acme.example:1"]"#),
    );
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    // The proxy knows a name that nobody here does.
    let heard = connect(&mut session, "far.wild.example:443", "far");
    assert!(heard.as_str().is_some_and(|h| h.ends_with("\r\n\r\nfirst FAR")), "{heard}");
    assert_eq!(asked.recv().expect("asked"), "CONNECT far.wild.example:443 HTTP/1.1");
    let heard =
        tool(&mut session, "dial", json!({"host": "db.acme.lan", "port": 5432, "text": "near"}));
    assert_eq!((&heard["heard"], direct.taken()), (&json!("NEAR"), 1), "{heard}");
    let heard = connect(&mut session, "house.wild.example:443", "x");
    assert!(starts(&heard, "HTTP/1.1 403 "), "{heard}");
    let heard = connect(&mut session, "no.acme.example:1", "x");
    assert!(starts(&heard, "HTTP/1.1 502 "), "{heard}");
    assert!(
        heard.as_str().is_some_and(|h| h.contains("upstream_proxy: it answered 407")),
        "{heard}"
    );
    assert_eq!(asked.recv().expect("asked"), "CONNECT no.acme.example:1 HTTP/1.1");
    assert_eq!(asked.try_recv().ok(), None, "nothing else went that way");
    session.close();
    supervisor.stop();
}
