//! What a program can make grow is bounded.

use crate::egress::Egress;
use crate::support::Authority;

#[test]
fn heads_are_bounded() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h1") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let long = format!("X-Long: {}\r\n", "x".repeat(100_000));
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    for headers in [long, many] {
        let mut inner = egress.connect();
        inner.begin("GET", "/", &headers);
        assert_eq!(inner.head().status, 431);
    }
    assert!(host.seen().is_empty());
}

#[test]
fn connections_are_bounded_as_all_of_the_tenants_are() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let mut inners = Vec::new();
    for _ in 0..256 {
        let mut inner = egress.connect();
        inner.begin("GET", "/silence", "");
        inners.push(inner);
    }
    (0..200).for_each(|_| drop(host.next("saw")));
    let mut one_more = egress.connect();
    assert!(one_more.is_over());
    egress.logged(&["denied", "credential=acme", "256 connections open"], 1);
    inners.pop();
    crate::support::wait_until("a place is free", || {
        let mut next = egress.connect();
        next.begin("GET", "/teapot", "");
        !next.is_over()
    });
}
