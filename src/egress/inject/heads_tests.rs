//! What a request and an answer may bring across, by their heads.

use hyper::Request;

use super::*;

fn names() -> Names {
    Names { inner: "github.tenantd.internal".to_owned(), outer: "api.github.com".to_owned() }
}

fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

#[test]
fn a_request_is_for_the_name_that_it_came_to() {
    let host = ("host", "GitHub.tenantd.internal:80");
    assert_eq!(judge(&head("GET", "/user?x=1", &[host]), &names()), Ok(()));
    let absolute = "http://github.tenantd.internal/user";
    assert_eq!(judge(&head("POST", absolute, &[host]), &names()), Ok(()));
    let own = ("origin", "http://github.tenantd.internal");
    assert_eq!(judge(&head("POST", "/", &[host, own]), &names()), Ok(()));
    assert_eq!(judge(&head("GET", "/", &[host, ("upgrade", "h2c")]), &names()), Ok(()));
    for (method, uri, headers, why) in [
        ("CONNECT", "evil.example:443", vec![host], Unfit::Method),
        ("TRACE", "/", vec![host], Unfit::Method),
        ("GET", "http://evil.example/", vec![host], Unfit::Elsewhere),
        ("GET", "/", vec![("host", "evil.example")], Unfit::Elsewhere),
        ("GET", "/", vec![("host", "github.tenantd.internal:81")], Unfit::Elsewhere),
        ("GET", "/", vec![], Unfit::Elsewhere),
        ("GET", "/", vec![host, ("host", "evil.example")], Unfit::Elsewhere),
        ("POST", "/", vec![host, ("origin", "https://evil.example")], Unfit::Origin),
        ("POST", "/", vec![host, ("origin", "null")], Unfit::Origin),
        ("POST", "/", vec![host, own, ("origin", "null")], Unfit::Origin),
        ("GET", "/", vec![host, ("upgrade", "WebSocket")], Unfit::Upgrade),
        ("OPTIONS", "*", vec![host], Unfit::Target),
    ] {
        assert_eq!(judge(&head(method, uri, &headers), &names()), Err(why), "{method} {uri}");
    }
}

#[test]
fn what_is_the_connections_stays_and_what_is_the_credentials_is_replaced() {
    let head = head(
        "GET",
        "/",
        &[
            ("host", "github.tenantd.internal"),
            ("authorization", "Bearer my-own"),
            ("authorization", "Bearer another"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("x-kept", "yes"),
        ],
    );
    let headers = outward(&head, &header::AUTHORIZATION);
    let mut all: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    all.sort_unstable();
    let expected: [(&str, &[u8]); 3] =
        [("accept-encoding", b"identity"), ("te", b"trailers"), ("x-kept", b"yes")];
    assert_eq!(all, expected);
}

#[test]
fn the_target_has_its_host_where_the_protocol_wants_it() {
    let uri: Uri = "http://github.tenantd.internal/a%2Fb?c=d&e".parse().expect("a URI");
    let one = target(&uri, &names(), Version::HTTP_11).expect("a target");
    assert_eq!(one.to_string(), "/a%2Fb?c=d&e");
    let two = target(&uri, &names(), Version::HTTP_2).expect("a target");
    assert_eq!(two.to_string(), "https://api.github.com/a%2Fb?c=d&e");
}

#[test]
fn redirects_of_the_host_stay_inside_and_those_to_others_are_left() {
    for (url, inside) in [
        ("https://api.github.com/x?y#z", Some("http://github.tenantd.internal/x?y#z")),
        ("HTTPS://API.GitHub.com:443", Some("http://github.tenantd.internal")),
        ("//api.github.com/x", Some("http://github.tenantd.internal/x")),
        ("http://api.github.com:80/x", Some("http://github.tenantd.internal/x")),
        ("https://api.github.com:8443/x", None),
        ("https://api.github.com.evil.example/x", None),
        ("https://api.github.com@evil.example/x", None),
        ("https://u:p@api.github.com/x", None),
        ("https://evil.example//api.github.com/x", None),
        ("ftp://api.github.com/x", None),
        ("/x//api.github.com/y", None),
        ("x", None),
    ] {
        assert_eq!(at_home(url, &names()).as_deref(), inside, "{url}");
    }
    let link = "<https://api.github.com/x?page=2>; rel=\"next\", <https://o.example/>; rel=\"x\"";
    let inside =
        "<http://github.tenantd.internal/x?page=2>; rel=\"next\", <https://o.example/>; rel=\"x\"";
    assert_eq!(links_at_home(link, &names()).as_deref(), Some(inside));
    assert_eq!(links_at_home("<https://api.github.com/", &names()), None);
}

#[test]
fn an_answer_brings_no_session_and_no_secret() {
    let forms = Forms::of(&[b"s3cr3t-token"]);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("set-cookie", "session=1"),
        ("connection", "keep-alive"),
        ("alt-svc", "h3"),
        ("x-echo", "Bearer s3cr3t-token!"),
        ("location", "https://api.github.com/?t=s3cr3t-token"),
        ("content-length", "3"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    inward(&mut headers, &names(), &forms);
    let mut all: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    all.sort_unstable();
    let expected: [(&str, &[u8]); 3] = [
        ("content-length", b"3"),
        ("location", b"http://github.tenantd.internal/?t=[redacted]**"),
        ("x-echo", b"Bearer [redacted]**!"),
    ];
    assert_eq!(all, expected);
}

#[test]
fn what_cannot_be_looked_through_is_known_by_its_codings() {
    let with = |name: &'static str, value: &'static str| {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    };
    assert!(is_plain(&HeaderMap::new()));
    assert!(is_plain(&with("content-encoding", "identity")));
    assert!(is_plain(&with("transfer-encoding", "chunked")));
    for (name, value) in [
        ("content-encoding", "gzip"),
        ("content-encoding", "identity, br"),
        ("transfer-encoding", "gzip, chunked"),
    ] {
        assert!(!is_plain(&with(name, value)), "{name}: {value}");
    }
}
