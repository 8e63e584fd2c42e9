//! The tenant's network log: one line for each connection, when it is over, whatever became of it.
//!
//! `TIME SERVER VERDICT tenant=... credential=... host=... port=... address=... status=... sent=...
//! received=... ms=... why="..."`, time in RFC 3339 UTC; a credential and a status where one was put into a
//! request, which then has a line of its own. Never what went through it. A line is written by the drop of its [`Entry`], so
//! none is forgotten. The rate of connections bounds the rate of lines; the file is bounded by a size,
//! after which the supervisor is asked for a new one.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use super::relay::Traffic;
use crate::names::{ServerName, TenantId};
use crate::sys;

/// How large one file grows before another is asked for, bytes.
const SIZE: u64 = 4 * 1024 * 1024;

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    tenant: TenantId,
    file: RefCell<File>,
    size: Cell<u64>,
    lost: Cell<u64>,
    asked: Cell<bool>,
    /// Told when the file is full.
    pub(super) full: Notify,
}

impl Log {
    pub(super) fn new(tenant: TenantId, file: File) -> Self {
        let size = Cell::new(sys::file_size(&file).unwrap_or(0));
        let (lost, asked) = (Cell::new(0), Cell::new(false));
        Self { tenant, file: RefCell::new(file), size, lost, asked, full: Notify::new() }
    }

    /// A new file took the place of the full one.
    pub(super) fn rotate(&self, file: File) {
        self.size.set(sys::file_size(&file).unwrap_or(0));
        self.file.replace(file);
        self.asked.set(false);
    }

    fn write(&self, line: &str) {
        // Nobody gives a new one: without a supervisor the end of the log is lost, never a connection.
        if self.size.get() > 2 * SIZE {
            self.lost.set(self.lost.get() + 1);
        } else {
            let lost = self.lost.replace(0);
            let before = match lost {
                0 => String::new(),
                lost => format!("{} - lost tenant={} lines={lost}\n", now(), self.tenant),
            };
            let text = before + line;
            // A full disk loses lines, never connections.
            if self.file.borrow_mut().write_all(text.as_bytes()).is_ok() {
                self.size.set(self.size.get() + text.len() as u64);
            }
        }
        if self.size.get() > SIZE && !self.asked.replace(true) {
            self.full.notify_one();
        }
    }
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It went through.
    Allowed,
    /// The allowlist, or a bound, is against it.
    Denied,
    /// It was allowed and could not be made.
    Failed,
}

/// One connection on its way into the log.
#[derive(Debug)]
pub(super) struct Entry {
    log: Rc<Log>,
    server: ServerName,
    since: Instant,
    /// Host and port, once known.
    pub(super) to: Option<(String, u16)>,
    pub(super) address: Option<SocketAddr>,
    /// The name of the credential that went along.
    pub(super) credential: Option<String>,
    /// What a request was answered.
    pub(super) status: Option<u16>,
    pub(super) traffic: Rc<Traffic>,
    pub(super) verdict: Verdict,
    pub(super) why: String,
}

impl Entry {
    /// Of a connection that nothing is known of yet.
    pub(super) fn new(log: &Rc<Log>, server: &ServerName) -> Self {
        Self {
            log: log.clone(),
            server: server.clone(),
            since: Instant::now(),
            to: None,
            address: None,
            credential: None,
            status: None,
            traffic: Rc::default(),
            verdict: Verdict::Failed,
            why: "it was given up".to_owned(),
        }
    }

    /// It is over.
    pub(super) fn end(mut self, verdict: Verdict, why: impl Into<String>) {
        (self.verdict, self.why) = (verdict, why.into());
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::Failed => "failed",
        };
        let mut line = format!("{} {} {verdict} tenant={}", now(), self.server, self.log.tenant);
        // Writing to a text does not fail.
        if let Some(credential) = &self.credential {
            let _ = write!(line, " credential={credential}");
        }
        if let Some((host, port)) = &self.to {
            let _ = write!(line, " host={host} port={port}");
        }
        if let Some(address) = self.address {
            let _ = write!(line, " address={address}");
        }
        if let Some(status) = self.status {
            let _ = write!(line, " status={status}");
        }
        let (sent, received) = (self.traffic.sent.get(), self.traffic.received.get());
        let ms = self.since.elapsed().as_millis();
        let _ = write!(line, " sent={sent} received={received} ms={ms} why={:?}", self.why);
        line.push('\n');
        line
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log.write(&self.line());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::NamedTempFile, Rc<Log>) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let acme = TenantId::parse("acme").expect("an id");
        let log = Rc::new(Log::new(acme, file.reopen().expect("a file")));
        (file, log)
    }

    #[test]
    fn every_connection_has_its_line_also_one_that_was_given_up() {
        let (file, log) = log();
        let mut entry = Entry::new(&log, &ServerName::main());
        entry.to = Some(("db.acme.lan".to_owned(), 5432));
        entry.traffic.sent.set(7);
        drop(entry);
        Entry::new(&log, &ServerName::main()).end(Verdict::Denied, "say \"no\"\n");
        let text = std::fs::read_to_string(file.path()).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains(" main failed tenant=acme host=db.acme.lan port=5432 sent=7 "));
        assert!(lines[1].ends_with(r#"why="say \"no\"\n""#), "{text}");
    }

    #[test]
    fn a_full_log_asks_once_and_counts_what_it_loses() {
        let (file, log) = log();
        let long = format!("{}\n", "x".repeat(64 * 1024));
        (0..200).for_each(|_| log.write(&long));
        assert!(file.as_file().metadata().expect("there").len() < 3 * SIZE);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(log.full.notified());
        let fresh = tempfile::NamedTempFile::new().expect("a file");
        log.rotate(fresh.reopen().expect("a file"));
        log.write("next\n");
        let text = std::fs::read_to_string(fresh.path()).expect("text");
        let lost = 200 - (2 * SIZE / (64 * 1024 + 1) + 1);
        assert!(text.contains(&format!("- lost tenant=acme lines={lost}\n")), "{text}");
        assert!(text.ends_with("next\n"));
    }
}
