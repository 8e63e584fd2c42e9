//! What a program can make grow is bounded.

use crate::egress::Egress;
use crate::support::Authority;

#[test]
fn heads_are_bounded() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h1") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let mut inner = egress.connect();
    inner.begin("GET", "/", &many);
    assert_eq!(inner.head().status, 431);
    // Of one that is too long not all is read: whether its answer arrives is up to the kernel.
    let mut inner = egress.connect();
    inner.begin("GET", "/", &format!("X-Long: {}\r\n", "x".repeat(70_000)));
    while !inner.is_over() {}
    assert_eq!(egress.connect().get("/teapot").head.status, 418);
    host.next("saw");
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
