//! The address on this machine to which the browser comes back (RFC 8252, section 7.3).
//!
//! Any page and any program of this machine can knock here: only a request that knows the state is the
//! answer. Everything else is turned away, and does not end the login.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::OauthError;
use super::authorize::{Attempt, Returned};

/// The longest head of a request, bytes: a browser's headers with a long code.
const HEAD_MAX: usize = 16 * 1024;
/// How long a connection may take to say what it wants. Browsers open some that never say anything.
const SAY_MAX: Duration = Duration::from_secs(10);
/// Connections that are listened to at once; others wait.
const AT_ONCE: usize = 32;
/// The path of the redirect address.
const PATH: &str = "/callback";

/// A listening address of this login.
pub struct Callback {
    listener: TcpListener,
    port: u16,
}

/// What one connection came to.
type Outcome = Option<Result<Zeroizing<String>, OauthError>>;

impl Callback {
    /// Listens on a port that is free.
    ///
    /// # Errors
    /// [`OauthError::Setup`] where there is none.
    pub async fn bind() -> Result<Self, OauthError> {
        let none = |error| OauthError::Setup(format!("cannot listen on 127.0.0.1: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(none)?;
        let port = listener.local_addr().map_err(none)?.port();
        Ok(Self { listener, port })
    }

    /// The redirect address.
    pub fn uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the code.
    ///
    /// # Errors
    /// [`OauthError`]; `TimedOut` where nobody came within `within`.
    pub async fn wait(
        self,
        attempt: Arc<Attempt>,
        within: Duration,
    ) -> Result<Zeroizing<String>, OauthError> {
        tokio::time::timeout(within, self.serve(attempt)).await.unwrap_or(Err(OauthError::TimedOut))
    }

    async fn serve(self, attempt: Arc<Attempt>) -> Result<Zeroizing<String>, OauthError> {
        let seats = Arc::new(Semaphore::new(AT_ONCE));
        let mut connections: JoinSet<Outcome> = JoinSet::new();
        loop {
            tokio::select! {
                taken = self.listener.accept(), if connections.len() < AT_ONCE => {
                    let (attempt, seats, port) = (Arc::clone(&attempt), Arc::clone(&seats), self.port);
                    if let Ok((stream, _)) = taken {
                        connections.spawn(async move {
                            let _seat = seats.acquire().await.ok()?;
                            tokio::time::timeout(SAY_MAX, hear(stream, &attempt, port)).await.ok()?
                        });
                    }
                }
                Some(done) = connections.join_next() => {
                    if let Ok(Some(outcome)) = done {
                        return outcome;
                    }
                }
            }
        }
    }
}

/// Reads one request and answers it.
async fn hear(mut stream: TcpStream, attempt: &Attempt, port: u16) -> Outcome {
    let head = head(&mut stream).await?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let here = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
    });
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // A page under another name whose address was turned into ours (DNS rebinding) has another Host.
    if method != "GET" || path != PATH || !host.is_some_and(|host| here.contains(&host)) {
        answer(&mut stream, "404 Not Found", "There is nothing here.").await;
        return None;
    }
    match attempt.judge(query) {
        Ok(Returned::Stray) => {
            answer(
                &mut stream,
                "400 Bad Request",
                "This is not the answer to the login that waits here.",
            )
            .await;
            None
        }
        Ok(Returned::Code(code)) => {
            let words =
                "tenantd has what it needs. You can close this window and go back to the terminal.";
            answer(&mut stream, "200 OK", words).await;
            Some(Ok(code))
        }
        Err(error) => {
            let words =
                "The login did not succeed; the terminal says why. You can close this window.";
            answer(&mut stream, "200 OK", words).await;
            Some(Err(error))
        }
    }
}

/// The head of a request, of bounded length.
async fn head(stream: &mut TcpStream) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD_MAX));
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if bytes.len() >= HEAD_MAX || stream.read_buf(&mut *bytes).await.ok()? == 0 {
            return None;
        }
    }
    std::str::from_utf8(&bytes).ok().map(|head| Zeroizing::new(head.to_owned()))
}

/// A page of our own words alone, which loads nothing, is kept nowhere, and tells its address to nobody.
async fn answer(stream: &mut TcpStream, status: &str, words: &str) {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>tenantd</title><p>{words}</p></html>\n"
    );
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: default-src 'none'\r\nReferrer-Policy: no-referrer\r\n\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    // Who does not wait for the page does not get it; the code is here either way.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
