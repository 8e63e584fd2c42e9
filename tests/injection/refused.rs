//! What is not sent on, to whom nothing is sent, and how a program hears of it.

use std::net::TcpListener;

use tenantd::config::tenant::Destination;

use crate::egress::{Egress, Lead, NAME};
use crate::support::Authority;

#[test]
fn requests_for_others_are_refused_before_anybody_hears_of_them() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h1") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let host_line = format!("Host: {NAME}\r\n");
    for (line, headers, status) in [
        ("CONNECT evil.example:443", &*host_line, 405),
        ("TRACE /", &host_line, 405),
        ("GET http://evil.example/", &host_line, 421),
        ("GET /", "Host: evil.example\r\n", 421),
        ("GET /", &format!("{host_line}Host: evil.example\r\n"), 421),
        ("POST /", &format!("{host_line}Origin: https://evil.example\r\n"), 403),
        ("GET /", &format!("{host_line}Connection: upgrade\r\nUpgrade: websocket\r\n"), 501),
        ("OPTIONS *", &host_line, 400),
    ] {
        let mut inner = egress.connect();
        inner.write(format!("{line} HTTP/1.1\r\n{headers}\r\n").as_bytes());
        let answer = inner.answer();
        assert_eq!(answer.refusal(), (status, "request".to_owned()), "{line} {headers}");
    }
    assert!(host.seen().is_empty());
    egress.logged(&["denied", "credential=acme"], 8);
}

#[test]
fn nothing_that_reads_in_two_ways_reaches_the_host() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h1") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (head, body) in [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
        ("Content-Length: +5\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
        ("X: y\r\n folded: z\r\n", ""),
        ("Content-Length: 0\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ] {
        let mut inner = egress.connect();
        let request = format!("POST /shown HTTP/1.1\r\nHost: {NAME}\r\n{head}\r\n{body}{hidden}");
        inner.write(request.as_bytes());
        // Whatever is made of it: what follows is a request of its own here, with a host that is not this one.
        while !inner.is_over() {}
    }
    let seen = host.seen();
    assert!(!seen.iter().any(|line| line["saw"] == "GET /hidden"), "{seen:?}");
    for line in &seen {
        let headers = &line["headers"];
        let both =
            headers.get("content-length").is_some() && headers.get("transfer-encoding").is_some();
        assert!(!both, "{line}");
    }
}

#[test]
fn a_host_without_the_right_certificate_hears_nothing() {
    let (authority, other) = (Authority::make(), Authority::make());
    let Some(host) = authority.host("localhost", "h2") else { return };
    let Some(misnamed) = authority.host("another.example", "h2") else { return };
    for (port, bundle) in [(host.port, other.bundle()), (misnamed.port, authority.bundle())] {
        let egress = Egress::to(port, &bundle);
        let answer = egress.connect().get("/");
        assert_eq!(answer.refusal(), (502, "upstream".to_owned()));
        assert!(answer.text().contains("certificate"), "{answer:?}");
        egress.logged(&["failed", "status=502", "certificate"], 1);
    }
    assert!(host.seen().is_empty() && misnamed.seen().is_empty());
}

#[test]
fn a_host_that_is_not_there_is_a_trouble_that_passes() {
    let authority = Authority::make();
    let nobody = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let egress = Egress::to(port, &authority.bundle());
    let mut inner = egress.connect();
    for _ in 0..2 {
        assert_eq!(inner.get("/").refusal(), (502, "transient".to_owned()));
    }
    egress.logged(&["failed", "status=502"], 2);
    // A server of something else.
    let odd = TcpListener::bind("127.0.0.1:0").expect("bound");
    let egress = Egress::to(odd.local_addr().expect("an address").port(), &authority.bundle());
    std::thread::spawn(move || drop(odd.accept()));
    assert_eq!(egress.connect().get("/").refusal(), (502, "transient".to_owned()));
}

#[test]
fn a_host_that_breaks_off_is_heard_of_and_not_asked_twice() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let mut inner = egress.connect();
    inner.begin("GET", "/break", "");
    assert_eq!(inner.head().status, 200);
    assert!(inner.swallow(1000) < 1000);
    host.next("saw");
    assert!(host.seen().is_empty());
}

#[test]
fn the_houses_proxy_is_asked_by_name_and_sees_tls_only() {
    use std::io::{Read as _, Write as _};
    let authority = Authority::make();
    let Some(host) = authority.host("far.example", "h2") else { return };
    let proxy = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = proxy.local_addr().expect("an address").port();
    let upstream = Some(Destination { host: "127.0.0.1".to_owned(), port: at });
    let bundle = authority.bundle();
    let egress = Egress::start(Lead { host: "far.example", port: 443, bundle: &bundle, upstream });
    let to = host.port;
    let asked = std::thread::spawn(move || {
        let (mut near, _) = proxy.accept().expect("taken");
        let mut head = [0; 1024];
        let length = near.read(&mut head).expect("read");
        let asked = String::from_utf8_lossy(&head[..length]).into_owned();
        let mut far = std::net::TcpStream::connect(("127.0.0.1", to)).expect("connected");
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("written");
        let (mut up, mut down) =
            (near.try_clone().expect("a copy"), far.try_clone().expect("a copy"));
        let first = std::thread::spawn(move || {
            let mut bytes = vec![0; 4096];
            let length = up.read(&mut bytes).expect("read");
            far.write_all(&bytes[..length]).expect("written");
            let _ = std::io::copy(&mut up, &mut far);
            let _ = far.shutdown(std::net::Shutdown::Both);
            bytes.first().copied()
        });
        let _ = std::io::copy(&mut down, &mut near);
        (asked, first.join().expect("done"))
    });
    assert_eq!(egress.connect().get("/teapot").head.status, 418);
    drop(egress);
    let (asked, first) = asked.join().expect("done");
    assert!(asked.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"), "{asked}");
    assert_eq!(first, Some(0x16), "a handshake of TLS");
}
