//! What a program reaches, as it always did: by name, by address, on any port.

use serde_json::json;

use crate::support::{Home, Packages};
use crate::world::{PUBLIC, World, logged, python, tenant, tool};

#[test]
fn a_python_program_reaches_exact_hosts_on_their_ports_by_name() {
    reaches_exact_hosts(&Home::new());
}

#[test]
fn where_bubblewrap_makes_the_user_namespaces_all_of_them_are_reached_as_well() {
    reaches_exact_hosts(&Home::with_bubblewrap());
    reaches_addresses(&Home::with_bubblewrap());
}

fn reaches_exact_hosts(home: &Home) {
    let Some(world) = World::make() else { return };
    let servers = [80, 443, 5432].map(|port| world.shouts(&format!("127.0.0.1:{port}")));
    home.tenant("acme", &python(r#"["db.acme.lan:5432", "api.acme.lan:443", "api.acme.lan:80"]"#));
    let supervisor = world.start(home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    for (host, port) in [("db.acme.lan", 5432), ("api.acme.lan", 443), ("API.ACME.LAN", 80)] {
        let much = "some text ".repeat(100_000);
        let to = json!({"host": host, "port": port, "text": much});
        let heard = tool(&mut session, "dial", to);
        assert_eq!(heard["heard"], much.to_uppercase(), "{host}:{port}");
        assert!(heard["peer"].as_str().is_some_and(|peer| peer.starts_with("127.64.0.")), "{host}");
    }
    assert!(servers.iter().all(|server| server.taken() == 1));
    let lines = logged(home, "acme", &["main allowed tenant=acme host=db.acme.lan port=5432 "], 1);
    let counts = "address=127.0.0.1:5432 sent=1000000 received=1000000 ms=";
    assert!(lines[0].contains(counts) && lines[0].ends_with(" why=\"closed\""), "{lines:?}");
    session.close();
    supervisor.stop();
}

#[test]
fn node_reaches_exact_hosts_by_fetch_and_by_sockets() {
    let (Some(world), Some(packages)) = (World::make(), Packages::find()) else { return };
    let web = [80, 443].map(|port| world.greets(&format!("127.0.0.1:{port}")));
    let shouts = world.shouts("127.0.0.1:5432");
    let home = Home::new();
    let network = r#"["api.acme.lan:80", "api.acme.lan:443", "db.acme.lan:5432"]"#;
    home.tenant("acme", &tenant(&packages.node(), "reach.mjs", network, ""));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    for address in web {
        let url = format!("http://api.acme.lan:{}/", address.port());
        let heard = tool(&mut session, "fetch", json!({"url": url}));
        assert_eq!((&heard["status"], &heard["heard"]), (&json!(200), &json!("hello")), "{heard}");
    }
    let to = json!({"host": "db.acme.lan", "port": 5432, "text": "from node"});
    let heard = tool(&mut session, "dial", to);
    assert_eq!((&heard["heard"], shouts.taken()), (&json!("FROM NODE"), 1), "{heard}");
    let refused = tool(&mut session, "fetch", json!({"url": "http://other.acme.lan/"}));
    assert!(refused["error"].is_string(), "{refused}");
    session.close();
    supervisor.stop();
}

#[test]
fn addresses_and_localhost_are_found_where_programs_look_for_them() {
    reaches_addresses(&Home::new());
}

fn reaches_addresses(home: &Home) {
    let Some(world) = World::make() else { return };
    let all = ["10.66.0.1:7001", "[fd66::1]:7002", "127.0.0.1:7003"];
    let servers = all.map(|at| world.shouts(at));
    home.tenant("acme", &python(r#"["10.66.0.1:7001", "[fd66::1]:7002", "localhost:7003"]"#));
    let supervisor = world.start(home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    for (host, port) in
        [("10.66.0.1", 7001), ("fd66::1", 7002), ("localhost", 7003), ("127.0.0.1", 7003)]
    {
        let heard =
            tool(&mut session, "dial", json!({"host": host, "port": port, "text": "hear me"}));
        assert_eq!(heard["heard"], "HEAR ME", "{host}: {heard}");
    }
    assert_eq!(servers.map(|server| server.taken()), [1, 1, 2]);
    session.close();
    supervisor.stop();
}

#[test]
fn what_is_not_listed_is_not_reached_by_any_way() {
    let Some(world) = World::make() else { return };
    let listed = world.shouts("127.0.0.1:5432");
    let others =
        ["127.0.0.1:5433", "10.66.0.1:5432", "93.184.215.14:443"].map(|at| world.shouts(at));
    let home = Home::new();
    home.tenant("acme", &python(r#"["db.acme.lan:5432"]"#));
    home.tenant("none", &python(r#""none""#));
    let supervisor = world.start(&home);
    for id in ["acme", "none"] {
        let mut session = supervisor.connect(id);
        session.initialize(json!({}));
        for (host, port) in [
            ("db.acme.lan", 5433),
            ("127.0.0.1", 5432),
            ("localhost", 5432),
            ("10.66.0.1", 5432),
            (PUBLIC, 443),
            ("public.wild.example", 443),
            ("127.0.0.1", 3128),
        ] {
            let heard =
                tool(&mut session, "dial", json!({"host": host, "port": port, "text": "x"}));
            assert!(heard["error"].is_string(), "{id} reached {host}:{port}: {heard}");
        }
        let found = tool(&mut session, "resolve", json!({"host": "deep.wild.example"}));
        assert_eq!(found["error"], "gaierror", "{found}");
        session.close();
    }
    assert_eq!((listed.taken(), others.map(|other| other.taken())), (0, [0, 0, 0]));
    supervisor.stop();
}

#[test]
fn the_hosts_network_must_be_asked_for_and_shows() {
    let Some(world) = World::make() else { return };
    let server = world.shouts("127.0.0.1:7001");
    let home = Home::new();
    home.tenant("acme", &python(r#""host""#));
    home.tenant("list", &python(r#"["*.wild.example:443", "db.acme.lan:5432"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let to = json!({"host": "db.acme.lan", "port": 7001, "text": "direct"});
    let heard = tool(&mut session, "dial", to);
    assert_eq!((&heard["heard"], server.taken()), (&json!("DIRECT"), 1), "{heard}");
    let status = home.tenant_status("acme", |_| true);
    assert_eq!(status["servers"][0]["network"], "host", "{status}");
    let status = home.tenant_status("list", |_| true);
    assert_eq!(status["servers"][0]["network"], "*.wild.example:443 db.acme.lan:5432");
    let page = String::from_utf8(home.run(&["status"]).stdout).expect("UTF-8");
    assert!(page.contains("network: host, for main: whatever this machine reaches"), "{page}");
    session.close();
    supervisor.stop();
}
