//! The operational log as the journal takes it: each line with fields, `TENANT=acme` among them, so that
//! `journalctl -u tenantd TENANT=acme` finds what is about one tenant (systemd's native journal protocol).
//!
//! Written here because the crate for it sends on the thread that logs, and waits there where the journal
//! does not read: that thread is the supervisor's loop. These lines go through the log's bounded queue.
//!
//! Field names come from our own source, and each value is sent with its length: no text of a tenant, a
//! server or a client can become a field or a line of its own.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of one value, at most: with a few of them a line stays far below what one datagram may hold.
const LONGEST: usize = 16 * 1024;

/// Whether stderr goes to the journal: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)). A
/// child of a service whose stderr was sent elsewhere inherits the variable as well.
pub(super) fn has_our_stderr() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr()).is_ok_and(|it| named == format!("{}:{}", it.st_dev, it.st_ino))
}

/// The journal's socket: each write is one line with its fields, and may wait. Only the log's own thread
/// writes.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // By name each time: a journal that was started anew listens at the same place. Without one, the
        // line is lost.
        let _ = self.0.send_to(line, SOCKET);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns events into such lines and queues them.
pub(super) struct Fields(pub(super) NonBlocking);

impl<S: Subscriber> Layer<S> for Fields {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(event);
        // The queue never fails: where it is full, the line is lost.
        let _ = self.0.clone().write_all(&line);
    }
}

fn line(event: &Event<'_>) -> Vec<u8> {
    let mut seen = Seen::default();
    event.record(&mut seen);
    let mut line = Vec::with_capacity(512);
    put(&mut line, "PRIORITY", priority(*event.metadata().level()));
    put(&mut line, "SYSLOG_IDENTIFIER", "tenantd");
    put(&mut line, "MESSAGE", &(seen.message + &seen.shown));
    seen.fields.iter().for_each(|(name, value)| put(&mut line, name, value));
    line
}

/// As syslog(3) counts.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// One field: its name, a line's end, the length of its value (64 bits, little endian), the value, a line's end.
fn put(line: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(LONGEST)];
    line.extend_from_slice(name.as_bytes());
    line.push(b'\n');
    line.extend_from_slice(&(value.len() as u64).to_le_bytes());
    line.extend_from_slice(value.as_bytes());
    line.push(b'\n');
}

/// What an event says: the message, what is shown behind it, and the fields.
#[derive(Default)]
struct Seen {
    message: String,
    shown: String,
    fields: Vec<(String, String)>,
}

impl Seen {
    fn note(&mut self, field: &Field, value: &str) {
        let printable = printable(value);
        if field.name() == "message" {
            return self.message = printable;
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if field.name().starts_with('_') || !field.name().bytes().all(plain) {
            return;
        }
        let _ = write!(self.shown, " {}={printable}", field.name());
        self.fields.push((field.name().to_ascii_uppercase(), value.to_owned()));
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format!("{value:?}"));
    }
}

/// As one line that cannot speak to a terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| -> String {
        if c.is_control() { c.escape_default().to_string() } else { c.into() }
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::prelude::*;

    use super::*;

    /// What would be sent for one event.
    fn sent(log: impl FnOnce()) -> Vec<(String, String)> {
        #[derive(Clone, Default)]
        struct Keep(Arc<Mutex<Vec<u8>>>);
        impl<S: Subscriber> Layer<S> for Keep {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                *self.0.lock().expect("no panic") = line(event);
            }
        }
        let keep = Keep::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(keep.clone()), log);
        let bytes = keep.0.lock().expect("no panic").clone();
        let mut rest = &bytes[..];
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').expect("a name");
            let (name, value) = (&rest[..end], &rest[end + 1..]);
            let (length, value) = value.split_at(8);
            let length = u64::from_le_bytes(length.try_into().expect("eight")) as usize;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            fields.push((text(name), text(&value[..length])));
            assert_eq!(value[length], b'\n');
            rest = &value[length + 1..];
        }
        fields
    }

    fn field<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        let of_name = fields.iter().filter(|(its, _)| its == name);
        of_name.map(|(_, value)| &**value).collect()
    }

    #[test]
    fn a_line_has_its_fields_and_its_priority() {
        let (tenant, none) = ("acme", None::<&str>);
        let fields = sent(|| tracing::warn!(%tenant, user = none, uid = 7, "said: {}", "x"));
        assert_eq!(field(&fields, "TENANT"), ["acme"]);
        assert_eq!(field(&fields, "UID"), ["7"]);
        assert_eq!(field(&fields, "USER"), [""; 0]);
        assert_eq!(field(&fields, "PRIORITY"), ["4"]);
        assert_eq!(field(&fields, "MESSAGE"), ["said: x tenant=acme uid=7"]);
    }

    #[test]
    fn no_text_can_become_a_field_or_a_line() {
        let forged = "x\nTENANT=globex\n\nPRIORITY=0\n\u{1b}[2J";
        let fields = sent(|| tracing::info!(tenant = "acme", user = forged, "{forged}"));
        assert_eq!(field(&fields, "TENANT"), ["acme"]);
        assert_eq!(field(&fields, "PRIORITY"), ["6"]);
        assert_eq!(field(&fields, "USER"), [forged]);
        let message = field(&fields, "MESSAGE")[0];
        assert!(!message.contains(|c: char| c.is_control()), "{message}");
    }

    #[test]
    fn a_line_fits_into_a_datagram() {
        let long = "ä".repeat(LONGEST);
        let fields = sent(|| tracing::error!(user = %long, "{long}"));
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
        assert!(size < 64 * 1024, "{size}");
    }
}
