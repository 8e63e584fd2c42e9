//! Bodies stream: nothing waits for the rest, nothing piles up, and who goes takes the request along.

use std::time::Instant;

use serde_json::json;

use crate::egress::{Egress, TOKEN};
use crate::support::Authority;

#[test]
fn an_event_arrives_before_the_next_has_left() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(mut host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        inner.begin("GET", "/events", "");
        assert_eq!(inner.head().of("content-type"), "text/event-stream");
        for number in 1..5 {
            assert_eq!(inner.chunk(), format!("data: event {number}\n\n").as_bytes(), "{protocol}");
            host.go();
        }
        inner.leave();
        assert_eq!(host.next("aborted")["aborted"], "/events");
        egress.logged(&["allowed", "its server went before the end of the answer"], 1);
    }
}

#[test]
fn a_request_streams_while_its_answer_does() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        inner.begin("POST", "/echo", "Transfer-Encoding: chunked\r\n");
        inner.write(b"3\r\none\r\n");
        assert_eq!(inner.head().status, 200);
        assert_eq!(inner.chunk(), b"one", "{protocol}");
        inner.write(b"3\r\ntwo\r\n");
        assert_eq!(inner.chunk(), b"two");
        inner.write(b"0\r\n\r\n");
        assert_eq!(inner.chunk(), b"");
    }
}

#[test]
fn large_bodies_pass_both_ways_in_little_memory() {
    const DOWN: u64 = 32 << 20;
    const UP: u64 = 100 << 20;
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        assert_eq!(inner.get("/teapot").head.status, 418);
        let before = egress.peak();
        inner.begin("GET", &format!("/bytes?count={DOWN}"), "");
        let head = inner.head();
        assert_eq!(head.status, 200);
        let mut read = 0;
        loop {
            match inner.chunk().len() as u64 {
                0 => break,
                some => read += some,
            }
        }
        assert_eq!(read, DOWN);
        let mut inner = egress.connect();
        inner.begin("PUT", "/upload", &format!("Content-Length: {UP}\r\n"));
        let piece = vec![b'x'; 1 << 20];
        (0..UP >> 20).for_each(|_| inner.write(&piece));
        assert_eq!(inner.answer().json()["bytes"], UP);
        let grown = egress.peak() - before;
        assert!(grown < 16 << 20, "{protocol}: {grown} bytes more than before");
    }
}

#[test]
fn who_does_not_read_is_not_read_for() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut idle = egress.connect();
        idle.begin("GET", "/bytes?count=200000000", "");
        assert_eq!(idle.head().status, 200);
        let before = egress.peak();
        // Another goes on meanwhile, on the same connection where there is one.
        let mut inner = egress.connect();
        for _ in 0..50 {
            assert_eq!(inner.get("/teapot").head.status, 418, "{protocol}");
        }
        let grown = egress.peak().saturating_sub(before);
        assert!(grown < 8 << 20, "{protocol}: {grown} bytes for who does not read");
    }
}

#[test]
fn a_program_that_waits_to_be_told_is_told_to_go_on() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let mut inner = egress.connect();
    inner.begin("POST", "/later", "Content-Length: 5\r\nExpect: 100-continue\r\n");
    let head = inner.head();
    assert_eq!(head.status, 100);
    inner.write(b"hello");
    assert_eq!(inner.answer().json()["bytes"], 5);
    assert_eq!(host.next("saw")["headers"].get("expect"), None);
}

#[test]
fn trailers_come_through_without_the_secret() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        inner.begin("GET", "/trailers", "TE: trailers\r\n");
        let answer = inner.answer();
        assert_eq!(answer.text(), "body", "{protocol}");
        let value = format!("of Bearer [redacted]{}", "*".repeat(TOKEN.len() - 10));
        assert_eq!(answer.trailers, [("x-end".to_owned(), value)], "{protocol}");
        inner.begin("POST", "/with", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n");
        inner.write(b"1\r\na\r\n0\r\nX-Sum: 97\r\n\r\n");
        assert_eq!(inner.answer().head.status, 200);
        assert_eq!(host.next("read")["trailers"], json!({"x-sum": "97"}), "{protocol}");
    }
}

#[test]
fn who_goes_in_the_middle_of_a_request_takes_it_along() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let mut inner = egress.connect();
    inner.begin("GET", "/silence", "");
    host.next("saw");
    let since = Instant::now();
    inner.leave();
    assert_eq!(host.next("aborted")["aborted"], "/silence");
    assert!(since.elapsed() < crate::support::DEADLINE);
    egress.logged(&["failed", "went before there was an answer"], 1);
}
