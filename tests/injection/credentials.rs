//! A credential that its host refuses: asked for once, sent once more, and then said aloud.

use tenantd::wire::egress::FromEgress;

use crate::egress::{Egress, TOKEN};
use crate::support::Authority;

fn refused() -> FromEgress {
    let server = tenantd::names::ServerName::main();
    FromEgress::Refused { server, credential: "acme".to_owned() }
}

#[test]
fn a_refused_credential_is_renewed_and_the_request_sent_once_more() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(mut host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        host.accept("tok_the-next-one");
        let mut inner = egress.connect();
        let body = vec![b'x'; 60_000];
        inner.begin("POST", "/once", &format!("Content-Length: {}\r\n", body.len()));
        inner.write(&body);
        assert_eq!(egress.asks(), refused());
        egress.hand("tok_the-next-one");
        let answer = inner.answer();
        assert_eq!((answer.head.status, &answer.json()["bytes"]), (200, &60_000.into()));
        let seen: Vec<_> = [host.next("saw"), host.next("saw")]
            .map(|line| line["headers"]["authorization"].as_str().expect("text").to_owned())
            .into();
        assert_eq!(seen, [format!("Bearer {TOKEN}"), "Bearer tok_the-next-one".to_owned()]);
        // And the next ones at once.
        assert_eq!(inner.get("/teapot").head.status, 418);
        assert!(egress.is_quiet());
    }
}

#[test]
fn a_credential_that_stays_refused_is_the_credentials_trouble_and_asked_for_once() {
    let authority = Authority::make();
    let Some(mut host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    host.accept("tok_another-one");
    let mut inner = egress.connect();
    inner.begin("GET", "/", "");
    assert_eq!(egress.asks(), refused());
    egress.hand("tok_not-it-either");
    let answer = inner.answer();
    assert_eq!(answer.refusal(), (401, "credential".to_owned()));
    assert_eq!(answer.head.of("www-authenticate"), "Bearer error=\"invalid_token\"");
    assert!(!answer.text().contains("tok_") && answer.text().contains("credential set"));
    // Nobody is asked again and again.
    for _ in 0..20 {
        assert_eq!(inner.get("/").refusal().0, 401);
    }
    assert!(egress.is_quiet());
    (0..22).for_each(|_| drop(host.next("saw")));
    assert!(host.seen().is_empty());
    egress.logged(&["allowed", "status=401", "does not accept the credential acme"], 21);
}

#[test]
fn the_same_value_once_more_is_not_tried_once_more() {
    let authority = Authority::make();
    let Some(mut host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    host.accept("tok_another-one");
    let mut inner = egress.connect();
    inner.begin("GET", "/", "");
    assert_eq!(egress.asks(), refused());
    egress.hand(TOKEN);
    assert_eq!(inner.answer().refusal(), (401, "credential".to_owned()));
    host.next("saw");
    assert!(host.seen().is_empty());
}

#[test]
fn many_requests_wait_for_one_renewal() {
    let authority = Authority::make();
    let Some(mut host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    host.accept("tok_the-next-one");
    let mut inners: Vec<_> = (0..10).map(|_| egress.connect()).collect();
    for inner in &mut inners {
        inner.begin("GET", "/teapot", "");
    }
    (0..10).for_each(|_| drop(host.next("saw")));
    assert_eq!(egress.asks(), refused());
    egress.hand("tok_the-next-one");
    for inner in &mut inners {
        assert_eq!(inner.answer().head.status, 418);
    }
    assert!(egress.is_quiet());
}

#[test]
fn a_large_body_is_not_sent_twice() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(mut host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        host.accept("tok_the-next-one");
        let mut inner = egress.connect();
        let body = vec![b'x'; 65 * 1024];
        inner.begin("POST", "/upload", &format!("Content-Length: {}\r\n", body.len()));
        inner.write(&body);
        assert_eq!(egress.asks(), refused());
        egress.hand("tok_the-next-one");
        let answer = inner.answer();
        assert_eq!(answer.refusal(), (503, "transient".to_owned()), "{protocol}: {answer:?}");
        assert_eq!(egress.connect().post("/upload", &body).head.status, 200);
    }
}

#[test]
fn a_value_that_is_handed_over_counts_from_then_on() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let mut inner = egress.connect();
    for number in 0..4 {
        let token = format!("tok_number-{number}");
        egress.hand(&token);
        crate::support::wait_until("it counts", || {
            assert_eq!(inner.get("/teapot").head.status, 418);
            host.next("saw")["headers"]["authorization"] == format!("Bearer {token}")
        });
    }
}
