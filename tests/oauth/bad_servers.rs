//! Authorization servers that hang, lie, and send what nobody asked for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tenantd::credential::oauth::{
    Attempt, Callback, Client, Codes, OauthError, Registration, Server, exchange,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{bad, good, plan};

/// A server that answers every request with what `answer` makes of its head and this server's address; nothing
/// is no answer, with the connection left open.
fn server(
    answer: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + 'static,
) -> (String, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let own = format!("http://{}", listener.local_addr().expect("an address"));
    let issuer = own.clone();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !whole(&request) {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&buffer[..count]),
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            match answer(&request, &own) {
                // Who has heard enough breaks off: that is what some tests are about.
                Some(bytes) => drop(stream.write_all(&bytes)),
                None => open.push(stream),
            }
            if sender.send(request).is_err() {
                break;
            }
        }
    });
    (issuer, asked)
}

/// Whether a request is there with its body.
fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn json(status: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
}

/// Answers for the metadata as a good server, with `more` in the document, and leaves the rest to `answer`.
fn described(
    more: &'static str,
    answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static,
) -> (String, Receiver<String>) {
    server(move |request, own| {
        if request.starts_with("GET /.well-known/") {
            let body = format!(
                r#"{{"issuer":"{own}","authorization_endpoint":"{own}/auth","token_endpoint":"{own}/token","device_authorization_endpoint":"{own}/device"{more}}}"#
            );
            return json("200 OK", &body);
        }
        answer(request)
    })
}

/// What an exchange of a code comes to.
async fn exchanged(issuer: &str) -> OauthError {
    let client = Client::new(None).within(Duration::from_secs(3));
    let server = good(Server::discover(&client, &plan(issuer)).await);
    let registration = Registration::new(&server, "by-hand", None);
    let code = ("code", "verifier", "http://127.0.0.1:1/callback");
    bad(exchange(&client, &server, &registration, code, None).await)
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_is_given_up() {
    let (issuer, _asked) = described("", |_| None);
    let begun = Instant::now();
    let error = exchanged(&issuer).await;
    assert!(matches!(error, OauthError::Unreachable(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let (issuer, _asked) = described("", |_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n".to_vec();
        bytes.resize(10_000_000, b' ');
        Some(bytes)
    });
    let error = exchanged(&issuer).await;
    assert!(matches!(&error, OauthError::Garbled(what) if what.contains("KiB")), "{error}");
}

#[tokio::test]
async fn garbage_gives_no_token_and_is_not_repeated() {
    for garbage in ["", "<html>secret</html>", "{}", "[1,", "\"secret\"", "{\"access_token\":5}"] {
        let (issuer, _asked) = described("", move |_| json("200 OK", garbage));
        let error = exchanged(&issuer).await;
        assert!(matches!(error, OauthError::Garbled(_)), "{garbage}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let (issuer, _asked) = described("", |_| Some(b"SSH-2.0-x\r\n".to_vec()));
    assert!(matches!(exchanged(&issuer).await, OauthError::Unreachable(_)));
}

#[tokio::test]
async fn secrets_follow_no_redirect() {
    let (elsewhere, asked) =
        server(|_, _| json("200 OK", r#"{"access_token":"a","token_type":"bearer"}"#));
    let (issuer, _asked) = described("", move |_| {
        let head = format!(
            "HTTP/1.1 307 Elsewhere\r\nLocation: {elsewhere}/token\r\nContent-Length: 0\r\n\r\n"
        );
        Some(head.into_bytes())
    });
    let error = exchanged(&issuer).await;
    assert!(matches!(&error, OauthError::Garbled(what) if what.contains("elsewhere")), "{error}");
    assert!(asked.try_recv().is_err(), "nobody was asked there");
}

#[tokio::test]
async fn a_document_of_another_issuer_decides_nothing() {
    let (issuer, _asked) = server(|_, _| {
        json(
            "200 OK",
            r#"{"issuer":"https://evil.example","token_endpoint":"https://evil.example/t"}"#,
        )
    });
    let error = bad(Server::discover(&Client::new(None), &plan(&issuer)).await);
    assert!(matches!(&error, OauthError::Setup(what) if what.contains("evil.example")), "{error}");
}

#[tokio::test]
async fn a_server_that_says_too_fast_is_asked_more_slowly() {
    let times = std::sync::Mutex::new(Vec::new());
    let (issuer, _asked) = described("", move |request| {
        if request.starts_with("POST /device") {
            let body = r#"{"device_code":"d","user_code":"U","verification_uri":"https://a.example/","expires_in":60,"interval":1}"#;
            return json("200 OK", body);
        }
        let mut times = times.lock().expect("a lock");
        times.push(Instant::now());
        match times.as_slice() {
            [_] => json("400 Bad Request", r#"{"error":"slow_down"}"#),
            [first, second] if second.duration_since(*first) >= Duration::from_secs(6) => {
                json("200 OK", r#"{"access_token":"a","token_type":"bearer"}"#)
            }
            _ => json("400 Bad Request", r#"{"error":"access_denied"}"#),
        }
    });
    let (client, plan) = (Client::new(None), plan(&issuer));
    let server = good(Server::discover(&client, &plan).await);
    let registration = Registration::new(&server, "by-hand", None);
    let codes = good(Codes::begin(&client, &server, &plan, &registration).await);
    assert_eq!(*good(codes.wait(&client, &server, &registration).await).access_token, "a");
}

/// Asks the redirect address for `target`, under the name `host`.
async fn knock(uri: &str, target: &str, host: Option<&str>) -> String {
    let address = uri.trim_start_matches("http://").trim_end_matches("/callback");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let host = host.unwrap_or(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn only_the_one_who_knows_the_state_ends_the_wait_and_only_from_the_right_server() {
    let more = r#","authorization_response_iss_parameter_supported":true"#;
    let (issuer, _asked) = described(more, |_| None);
    let (client, plan) = (Client::new(None), plan(&issuer));
    let server = good(Server::discover(&client, &plan).await);
    let registration = Registration::new(&server, "by-hand", None);
    for (query, comes) in
        [("&iss=https%3A%2F%2Fevil.example", false), ("", false), ("&iss=OWN", true)]
    {
        let callback = good(Callback::bind().await);
        let uri = callback.uri();
        let attempt = Arc::new(good(Attempt::new(&server, &plan, &registration, uri.clone())));
        let state = attempt
            .url()
            .split("state=")
            .nth(1)
            .and_then(|rest| rest.split('&').next())
            .expect("a state")
            .to_owned();
        let waiting = tokio::spawn(callback.wait(attempt, Duration::from_secs(30)));
        // A connection that says nothing, as browsers open some, holds nothing up.
        let silent = tokio::net::TcpStream::connect(
            uri.trim_start_matches("http://").trim_end_matches("/callback"),
        )
        .await;
        for (target, host, status) in [
            ("/callback?state=other&code=stolen", None, "400"),
            ("/callback?error=access_denied", None, "400"),
            ("/favicon.ico", None, "404"),
            (&*format!("/callback?state={state}&code=c"), Some("evil.example"), "404"),
        ] {
            let answer = knock(&uri, target, host).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
        }
        assert!(!waiting.is_finished());
        let query = query.replace("OWN", &issuer);
        knock(&uri, &format!("/callback?state={state}&code=right{query}"), None).await;
        let code = waiting.await.expect("an end");
        match comes {
            true => assert_eq!(*good(code), "right"),
            false => assert!(matches!(bad(code), OauthError::Garbled(_))),
        }
        drop(silent);
    }
}

#[tokio::test]
async fn a_login_that_nobody_finishes_ends() {
    let (issuer, _asked) = described("", |_| None);
    let plan = plan(&issuer);
    let server = good(Server::discover(&Client::new(None), &plan).await);
    let callback = good(Callback::bind().await);
    let registration = Registration::new(&server, "by-hand", None);
    let attempt = Arc::new(good(Attempt::new(&server, &plan, &registration, callback.uri())));
    let error = bad(callback.wait(attempt, Duration::from_millis(200)).await);
    assert!(matches!(error, OauthError::TimedOut));
}
