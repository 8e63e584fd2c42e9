//! What comes through: requests and answers of both protocols, each on the connection that is there.

use serde_json::json;

use crate::egress::{Egress, NAME, TOKEN};
use crate::support::Authority;

#[test]
fn a_request_in_plain_http_arrives_by_https_with_the_credential() {
    let authority = Authority::make();
    for (protocol, version) in [("h1", "1.1"), ("h2", "2.0")] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        inner.begin(
            "PUT",
            "/user?a=b%20c",
            "Content-Length: 5\r\nX-Own: kept\r\nAuthorization: mine\r\n",
        );
        inner.write(b"hello");
        let answer = inner.answer();
        assert_eq!((answer.head.status, &answer.json()["bytes"]), (200, &json!(5)), "{answer:?}");
        let saw = host.next("saw");
        assert_eq!(saw["saw"], "PUT /user?a=b%20c");
        assert_eq!(
            (&saw["version"], &saw["host"]),
            (&json!(version), &json!(format!("localhost:{}", host.port)))
        );
        assert_eq!(saw["headers"]["authorization"], format!("Bearer {TOKEN}"));
        assert_eq!(
            (&saw["headers"]["x-own"], &saw["headers"]["accept-encoding"]),
            (&json!("kept"), &json!("identity"))
        );
        assert!(!saw.to_string().contains(NAME), "{saw}");
        let line =
            &egress.logged(&["main allowed tenant=acme credential=acme host=localhost"], 1)[0];
        let port = host.port;
        assert!(
            line.contains(&format!("port={port} address=127.0.0.1:{port} status=200 sent=5 ")),
            "{line}"
        );
        assert!(line.ends_with(" why=\"answered\""), "{line}");
    }
}

#[test]
fn answers_of_the_host_come_back_as_they_are() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        let answer = inner.get("/teapot");
        assert_eq!((answer.head.status, answer.text()), (418, "short and stout"));
        assert_eq!(answer.head.of("content-type"), "text/plain");
        inner.begin("HEAD", "/bytes?count=0", "");
        assert_eq!(inner.head().status, 200);
        let answer = inner.post("/nothing", b"");
        assert_eq!(answer.json()["bytes"], 0, "{answer:?}");
        let answer = inner.get("/links");
        let link = format!(
            "<http://{NAME}/links?page=2>; rel=\"next\", <https://other.example/>; rel=\"last\""
        );
        assert_eq!(answer.head.of("link"), link);
        assert_eq!(answer.head.of("set-cookie"), "");
    }
}

#[test]
fn redirects_are_the_servers_to_follow_and_those_of_the_host_lead_back_inside() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let mut inner = egress.connect();
    let own = format!("https://localhost:{}/next", host.port);
    let answer = inner.get(&format!("/redirect?to={own}"));
    assert_eq!(
        (answer.head.status, answer.head.of("location")),
        (302, &*format!("http://{NAME}/next"))
    );
    let answer = inner.get("/redirect?to=https://other.example/next");
    assert_eq!(answer.head.of("location"), "https://other.example/next");
    (0..2).for_each(|_| drop(host.next("saw")));
    assert!(host.seen().is_empty(), "nobody followed");
}

#[test]
fn requests_share_connections() {
    let authority = Authority::make();
    for (protocol, most) in [("h1", 8), ("h2", 1)] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inners: Vec<_> = (0..8).map(|_| egress.connect()).collect();
        for round in 0..20 {
            for inner in &mut inners {
                inner.begin("GET", &format!("/round/{round}"), "");
            }
            for inner in &mut inners {
                assert_eq!(inner.answer().head.status, 200);
            }
        }
        let seen: Vec<_> = (0..160).map(|_| host.next("saw")).collect();
        let connections: std::collections::BTreeSet<u64> =
            seen.iter().filter_map(|line| line["connection"].as_u64()).collect();
        assert!(connections.len() <= most, "{protocol}: {connections:?}");
    }
}

#[test]
fn a_connection_that_the_host_has_closed_is_made_anew() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h1") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let mut inner = egress.connect();
    for _ in 0..3 {
        assert_eq!(inner.get("/teapot").head.status, 418);
        // The host ends its connection in the middle of this answer.
        let mut other = egress.connect();
        other.begin("GET", "/break", "");
        assert_eq!(other.head().status, 200);
        assert!(other.swallow(1000) < 1000, "no end was made up");
        assert!(other.is_over());
    }
    assert_eq!(inner.post("/still", b"there").json()["bytes"], 5);
    egress.logged(&["failed", "broke off"], 3);
}
