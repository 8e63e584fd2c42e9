//! The CONNECT proxy for wildcards (RFC 9110, section 9.3.6): one request a connection, and only that.
//!
//! It reads a request line and skips what follows up to the empty line; header fields decide nothing
//! here. The reading of the head is pure.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::allow::Host;

/// The longest head of a request or answer, bytes.
pub(super) const HEAD_MAX: usize = 8 * 1024;
/// How long a head may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a refusal waits to be read, and how much is read meanwhile: closing with something unread
/// would take it from its reader.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_MAX: usize = 64 * 1024;

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) host: Host,
    pub(super) port: u16,
    /// What came after the request.
    pub(super) early: Vec<u8>,
}

/// Why a request is none of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// The peer went without a request.
    #[error("the connection was closed before a request")]
    Gone,
    /// It took too long.
    #[error("the request did not come in time")]
    Late,
    /// It is too long.
    #[error("the head of the request is longer than {HEAD_MAX} bytes")]
    TooLong,
    /// Another method.
    #[error("this proxy knows the method CONNECT only (use https, or list the host exactly)")]
    Method,
    /// Not HTTP/1.
    #[error("this proxy speaks HTTP/1.1 only")]
    Version,
    /// Anything else.
    #[error("the request is not CONNECT HOST:PORT HTTP/1.1")]
    Shape,
}

impl Wrong {
    /// The status that says so (RFC 9110, section 15).
    pub(super) fn status(&self) -> &'static str {
        match self {
            Self::Gone | Self::Shape => "400 Bad Request",
            Self::Late => "408 Request Timeout",
            Self::TooLong => "431 Request Header Fields Too Large",
            Self::Method => "405 Method Not Allowed",
            Self::Version => "505 HTTP Version Not Supported",
        }
    }
}

/// Where a head ends: after its empty line.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a request.
pub(super) async fn request(stream: &mut TcpStream) -> Result<Wanted, Wrong> {
    let read = async {
        let mut bytes = Vec::with_capacity(1024);
        loop {
            if let Some(end) = head_end(&bytes).filter(|end| *end <= HEAD_MAX) {
                let early = bytes.split_off(end);
                let (host, port) = parse(&bytes)?;
                return Ok(Wanted { host, port, early });
            }
            if bytes.len() > HEAD_MAX {
                return Err(Wrong::TooLong);
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return Err(Wrong::Gone),
                Ok(_) => {}
            }
        }
    };
    timeout(HEAD_WITHIN, read).await.unwrap_or(Err(Wrong::Late))
}

/// The destination that a head asks for.
fn parse(head: &[u8]) -> Result<(Host, u16), Wrong> {
    let head = std::str::from_utf8(head).map_err(|_| Wrong::Shape)?;
    let line = head.split("\r\n").next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Wrong::Shape);
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        let other = version.strip_prefix("HTTP/").is_some();
        return Err(if other { Wrong::Version } else { Wrong::Shape });
    }
    if method != "CONNECT" {
        return Err(Wrong::Method);
    }
    let (host, port) = target.rsplit_once(':').ok_or(Wrong::Shape)?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port: &u16| digits && *port > 0).ok_or(Wrong::Shape)?;
    // An IPv6 address without brackets would be split anywhere.
    if host.contains(':') && !host.starts_with('[') {
        return Err(Wrong::Shape);
    }
    Ok((Host::parse(host).ok_or(Wrong::Shape)?, port))
}

/// Says that the way is open.
pub(super) async fn accept(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await
}

/// Says why it is not, in plain text, and waits a moment for it to be read.
pub(super) async fn refuse(stream: &mut TcpStream, status: &str, why: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\ntenantd: {why}\n",
        why.len() + "tenantd: \n".len()
    );
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let (mut buffer, mut seen) = ([0; 4096], 0);
        while seen < FAREWELL_MAX {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => seen += read,
            }
        }
        io::Result::Ok(())
    };
    // Who does not wait for the answer does not need it.
    let _ = timeout(FAREWELL, said).await;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(head: &str) -> Result<(String, u16), Wrong> {
        parse(head.as_bytes()).map(|(host, port)| (host.to_string(), port))
    }

    #[test]
    fn a_request_names_one_host_and_port() {
        let head = "CONNECT API.Example.com:443 HTTP/1.1\r\nHost: other.net:1\r\nX: y\r\n\r\n";
        assert_eq!(of(head), Ok(("api.example.com".to_owned(), 443)));
        assert_eq!(of("CONNECT [FD00::1]:22 HTTP/1.0\r\n\r\n"), Ok(("fd00::1".to_owned(), 22)));
        assert_eq!(of("GET http://a.example.com/ HTTP/1.1\r\n\r\n"), Err(Wrong::Method));
        assert_eq!(of("CONNECT a.example.com:443 HTTP/2\r\n\r\n"), Err(Wrong::Version));
        for target in
            ["a", "a:", ":1", "a:0", "a:+1", "a:65536", "a:1:2", "http://a:1", "a/b:1", "fd00::1"]
        {
            assert_eq!(
                of(&format!("CONNECT {target} HTTP/1.1\r\n\r\n")),
                Err(Wrong::Shape),
                "{target}"
            );
        }
        for head in ["", "\r\n\r\n", "CONNECT a:1\r\n\r\n", "CONNECT  a:1 HTTP/1.1\r\n\r\n"] {
            assert_eq!(of(head), Err(Wrong::Shape), "{head:?}");
        }
        // Smuggled line ends and spaces are part of a word that is then no host.
        for head in ["CONNECT a\n:1 HTTP/1.1\r\n\r\n", "CONNECT a\t:1 HTTP/1.1\r\n\r\n"] {
            assert_eq!(of(head), Err(Wrong::Shape), "{head:?}");
        }
    }

    proptest! {
        /// Whatever comes: a host that prints as it is asked for, or a refusal.
        #[test]
        fn any_bytes_are_a_host_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((host, port)) = parse(&bytes) {
                let again = format!("CONNECT {} HTTP/1.1\r\n\r\n", match &host {
                    Host::Address(address) if address.is_ipv6() => format!("[{address}]:{port}"),
                    host => format!("{host}:{port}"),
                });
                prop_assert_eq!(parse(again.as_bytes()), Ok((host, port)));
            }
        }

        #[test]
        fn nearly_right_requests_are_read_alike_or_refused(
            method in "(CONNECT|GET|connect|)", host in "[a-zA-Z0-9.:\\[\\]-]{0,24}", port in "[0-9]{0,6}",
            gap in "( |  |\t|\r|\n|)", version in "HTTP/(1.1|1.0|2|1.2)",
        ) {
            let head = format!("{method}{gap}{host}:{port} {version}\r\n\r\n");
            if let Ok((read, number)) = parse(head.as_bytes()) {
                prop_assert_eq!((method.as_str(), gap.as_str()), ("CONNECT", " "));
                prop_assert_eq!(Some(read), Host::parse(&host));
                prop_assert_eq!(number.to_string(), port.trim_start_matches('0'));
            }
        }
    }
}
