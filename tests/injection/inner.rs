//! A program inside: HTTP/1.1 as plain as it can be, so that a test says what leaves and when.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use crate::egress::NAME;
use crate::support::DEADLINE;

/// One connection.
pub(crate) struct Inner {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header; empty where there is none.
    pub(crate) fn of(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The status and the reason of an answer that is tenantd's own.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let reason = self.json()["reason"].as_str().expect("a reason").to_owned();
        assert_eq!(self.head.of("tenantd-reason"), reason);
        (self.head.status, reason)
    }
}

impl Inner {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("set");
        stream.set_write_timeout(Some(DEADLINE)).expect("set");
        Self { stream, unread: Vec::new() }
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("written");
    }

    /// Writes the head of a request; `more` are whole lines.
    pub(crate) fn begin(&mut self, method: &str, path: &str, more: &str) {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {NAME}\r\n{more}\r\n");
        self.write(head.as_bytes());
    }

    /// A request without a body, and its answer.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.begin("GET", path, "");
        self.answer()
    }

    /// A request with a body, and its answer.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        self.begin("POST", path, &format!("Content-Length: {}\r\n", body.len()));
        self.write(body);
        self.answer()
    }

    /// Goes away in the middle.
    pub(crate) fn leave(self) {
        self.stream.shutdown(Shutdown::Both).expect("shut down");
    }

    fn more(&mut self) -> usize {
        let mut buffer = vec![0; 64 * 1024];
        let read = self.stream.read(&mut buffer).expect("an answer in time");
        self.unread.extend_from_slice(&buffer[..read]);
        read
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return String::from_utf8(line[..at].to_vec()).expect("text");
            }
            assert!(self.more() > 0, "the connection ended in a line");
        }
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { return fields };
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    /// The head of an answer that is no "100 Continue".
    pub(crate) fn head(&mut self) -> Head {
        let line = self.line();
        let status = line.split(' ').nth(1).expect("a status").parse().expect("a number");
        let headers = self.fields();
        Head { status, headers }
    }

    /// The next chunk of a body; empty at its end.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let line = self.line();
        let length = usize::from_str_radix(&line, 16).expect("a length");
        if length == 0 {
            return Vec::new();
        }
        while self.unread.len() < length + 2 {
            assert!(self.more() > 0, "the connection ended in a chunk");
        }
        self.unread.drain(..length + 2).take(length).collect()
    }

    /// As many bytes of a body, of which only the number is told; fewer where the connection ended.
    pub(crate) fn swallow(&mut self, mut length: u64) -> u64 {
        let mut read = self.unread.len() as u64;
        self.unread.clear();
        let mut buffer = vec![0; 64 * 1024];
        length = length.saturating_sub(read);
        while length > 0 {
            let most = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            match self.stream.read(&mut buffer[..most]) {
                Ok(0) | Err(_) => break,
                Ok(some) => {
                    read += some as u64;
                    length -= some as u64;
                }
            }
        }
        read
    }

    /// A whole answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        if head.of("transfer-encoding") == "chunked" {
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
            trailers = self.fields();
        } else {
            let length: usize = head.of("content-length").parse().unwrap_or(0);
            while self.unread.len() < length {
                assert!(self.more() > 0, "the connection ended in a body");
            }
            body.extend(self.unread.drain(..length));
        }
        Answer { head, body, trailers }
    }

    /// Whether the other side has ended the connection, and says nothing more.
    pub(crate) fn is_over(&mut self) -> bool {
        let mut buffer = [0; 1];
        matches!(self.stream.read(&mut buffer), Ok(0) | Err(_))
    }
}
