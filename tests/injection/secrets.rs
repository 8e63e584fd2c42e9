//! The secret never comes back, however a host shows it.

use crate::egress::{Egress, TOKEN};
use crate::support::Authority;

/// What stands for the whole token.
fn mark() -> String {
    format!("[redacted]{}", "*".repeat(TOKEN.len() - "[redacted]".len()))
}

#[test]
fn a_host_that_shows_the_request_back_shows_no_secret() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        let answer = inner.post("/echo", TOKEN.as_bytes());
        assert_eq!(answer.head.of("x-echo"), format!("Bearer {}", mark()));
        assert_eq!(answer.text(), mark(), "also where the server has guessed it");
        egress.logged(&["status=200", "it showed the secret"], 1);
    }
}

#[test]
fn encodings_of_the_secret_are_known() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h1") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let answer = egress.connect().get("/forms");
    let forms: Vec<String> = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(forms.len(), 4);
    for form in &forms {
        assert!(form.contains("[redacted]"), "{forms:?}");
    }
    // Of base64 the characters that hold something of "user:" as well are left.
    assert!(forms[1].starts_with("dXNlcj"), "{forms:?}");
    assert!(
        forms[2].trim_end_matches('*') == "[redacted]"
            && forms[3].trim_end_matches('*') == "[redacted]"
    );
}

#[test]
fn a_secret_in_pieces_is_a_secret() {
    let authority = Authority::make();
    for protocol in ["h1", "h2"] {
        let Some(host) = authority.host("localhost", protocol) else { return };
        let egress = Egress::to(host.port, &authority.bundle());
        let mut inner = egress.connect();
        inner.begin("GET", "/split", "");
        assert_eq!(inner.head().status, 200);
        let mut pieces = Vec::new();
        loop {
            let piece = inner.chunk();
            if piece.is_empty() {
                break;
            }
            pieces.push(piece);
        }
        assert!(pieces.len() > 3, "it came in pieces: {pieces:?}");
        let text = String::from_utf8(pieces.concat()).expect("text");
        let left = text.strip_prefix("before Bearer ").and_then(|text| text.strip_suffix(" after"));
        let left = left.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(left.len(), TOKEN.len());
        assert!(left.starts_with("[redacted]") && left.ends_with("***"), "{text}");
    }
}

#[test]
fn an_answer_that_cannot_be_looked_through_is_none() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    let answer = egress.connect().get("/gzip");
    assert_eq!(answer.refusal(), (502, "upstream".to_owned()));
}

#[test]
fn a_secret_that_could_not_be_found_again_is_not_sent() {
    let authority = Authority::make();
    let Some(host) = authority.host("localhost", "h2") else { return };
    let egress = Egress::to(host.port, &authority.bundle());
    egress.hand("short");
    let mut inner = egress.connect();
    crate::support::wait_until("the value was replaced", || inner.get("/").head.status == 503);
    let answer = inner.get("/");
    assert_eq!(answer.refusal(), (503, "credential".to_owned()));
    assert!(answer.text().contains("shorter than"), "{answer:?}");
    assert!(
        egress.words().contains("the credential acme: it is shorter than"),
        "{}",
        egress.words()
    );
    drop(host);
}
