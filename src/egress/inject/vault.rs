//! The secrets of one server, as they are handed over: the last one of each name counts.
//!
//! ```text
//! hand-over socket --Handed + sealed memfd--> value --401--> the supervisor is asked --Handed--> next value
//! ```
//!
//! Asked at most once in [`ASK_EVERY`] for each credential, whatever a server provokes: asking costs a
//! process and a look into a store, or a request to an authorization server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::redact::{Forms, LEAST};
use crate::wire::egress::Injection;

/// The longest secret that fits into a header, bytes: what servers of HTTP commonly take as one.
const LONGEST: usize = 8 * 1024;
/// How long a request waits for the first value: it was handed over before the server's start.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// How long a request that was refused waits for another value.
const RENEWED_WITHIN: Duration = Duration::from_secs(20);
/// How often another value is asked for.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// One secret, ready to be put into a request and to be found in an answer.
#[derive(Debug)]
pub(super) struct Value {
    /// The header's whole value; never in a table of a connection's (RFC 7541, section 7.1.3).
    pub(super) header: HeaderValue,
    pub(super) forms: Forms,
    /// Tells one value from the next.
    pub(super) number: u64,
    secret: Zeroizing<Vec<u8>>,
}

/// Why a secret cannot be put into a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// Too short to be found again.
    #[error("it is shorter than {LEAST} bytes")]
    Short,
    /// Too long for a header.
    #[error("it is longer than {LONGEST} bytes")]
    Long,
    /// Not a header's value.
    #[error("it holds what no header can (a line break, a control character)")]
    Shape,
}

impl Value {
    fn new(secret: Zeroizing<Vec<u8>>, format: &str, number: u64) -> Result<Self, Unusable> {
        // Around a header's value there are no spaces (RFC 9110, section 5.5); editors add a line break.
        let bare = secret.trim_ascii();
        if bare.len() < LEAST {
            return Err(Unusable::Short);
        }
        if bare.len() > LONGEST {
            return Err(Unusable::Long);
        }
        let (before, after) = format.split_once("{}").ok_or(Unusable::Shape)?;
        let whole = [before.as_bytes(), bare, after.as_bytes()].concat();
        // Zeroed with the last of its copies, which all share it.
        let whole = Bytes::from_owner(Zeroizing::new(whole));
        let mut header = HeaderValue::from_maybe_shared(whole).map_err(|_| Unusable::Shape)?;
        header.set_sensitive(true);
        let basic = before.trim().eq_ignore_ascii_case("basic").then(|| decoded(bare)).flatten();
        let basic = basic.unwrap_or_default();
        // Of `user:password` the password alone is a secret as well.
        let password = basic.iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
        let forms = Forms::of(&[bare, &basic, basic.get(password..).unwrap_or_default()]);
        Ok(Self { header, forms, number, secret })
    }
}

/// What base64 stands for (RFC 4648, section 4); nothing where it is none.
fn decoded(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut word, mut bits) = (0_u32, 0);
    for character in text.iter().filter(|byte| **byte != b'=') {
        let six = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff).unwrap_or_default());
        }
    }
    Some(bytes)
}

/// One credential.
#[derive(Debug)]
struct Kept {
    format: String,
    value: Result<Rc<Value>, Option<Unusable>>,
    /// When another value was asked for last, and which one was there then.
    asked: Option<(Instant, u64)>,
}

/// What becomes of a refused value.
#[derive(Debug)]
enum Next {
    Is(Rc<Value>),
    /// It has been asked for, or must be.
    Comes {
        ask: bool,
        until: Instant,
    },
    /// It was asked for lately, in vain.
    None,
}

/// The secrets of one server.
#[derive(Debug)]
pub(super) struct Vault {
    kept: RefCell<BTreeMap<String, Kept>>,
    changed: Notify,
}

impl Vault {
    /// Knows which there will be.
    pub(super) fn new(injections: &[Injection]) -> Self {
        let kept = injections.iter().map(|of| {
            let kept = Kept { format: of.format.clone(), value: Err(None), asked: None };
            (of.credential.clone(), kept)
        });
        Self { kept: RefCell::new(kept.collect()), changed: Notify::new() }
    }

    /// One was handed over.
    ///
    /// # Errors
    /// Where it cannot be used. There is none of that name then: an older one was replaced for a reason.
    pub(super) fn take(&self, name: &str, secret: Zeroizing<Vec<u8>>) -> Result<(), Unusable> {
        let mut all = self.kept.borrow_mut();
        // What nobody asked for is forgotten.
        let Some(kept) = all.get_mut(name) else { return Ok(()) };
        let number = kept.value.as_ref().map_or(0, |value| value.number);
        let value = Value::new(secret, &kept.format, number + 1);
        let told = value.as_ref().map(drop).map_err(|why| *why);
        kept.value = value.map(Rc::new).map_err(Some);
        drop(all);
        self.changed.notify_waiters();
        told
    }

    /// The value that counts now; waits a moment where none has come.
    pub(super) async fn value(&self, name: &str) -> Result<Rc<Value>, Option<Unusable>> {
        let until = Instant::now() + FIRST_WITHIN;
        loop {
            let changed = self.changed.notified();
            let now = self.kept.borrow().get(name).map(|kept| kept.value.clone());
            match now {
                Some(Err(None)) => {}
                Some(known) => return known,
                None => return Err(None),
            }
            if tokio::time::timeout_at(until.into(), changed).await.is_err() {
                return Err(None);
            }
        }
    }

    /// A value after the one that was refused, which is asked for by `ask`; nothing where none comes.
    pub(super) async fn after(
        &self,
        name: &str,
        refused: &Value,
        ask: impl Fn(),
    ) -> Option<Rc<Value>> {
        loop {
            let changed = self.changed.notified();
            let until = match self.next(name, refused, Instant::now()) {
                Next::Is(value) => return Some(value),
                Next::Comes { ask: first, until } => {
                    if first {
                        ask();
                    }
                    until
                }
                Next::None => return None,
            };
            if tokio::time::timeout_at(until.into(), changed).await.is_err() {
                return None;
            }
        }
    }

    fn next(&self, name: &str, refused: &Value, now: Instant) -> Next {
        let mut all = self.kept.borrow_mut();
        let Some(kept) = all.get_mut(name) else { return Next::None };
        match &kept.value {
            // The same once more would be refused once more.
            Ok(value) if value.number > refused.number && value.secret != refused.secret => {
                return Next::Is(value.clone());
            }
            Ok(value) if value.number == refused.number => {}
            _ => return Next::None,
        }
        match kept.asked {
            Some((at, number)) if number == refused.number && now < at + RENEWED_WITHIN => {
                Next::Comes { ask: false, until: at + RENEWED_WITHIN }
            }
            Some((at, _)) if now < at + ASK_EVERY => Next::None,
            _ => {
                kept.asked = Some((now, refused.number));
                Next::Comes { ask: true, until: now + RENEWED_WITHIN }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Vault {
        let of = |name: &str| Injection {
            credential: name.to_owned(),
            doors: BTreeMap::new(),
            header: "Authorization".to_owned(),
            format: "Bearer {}".to_owned(),
        };
        Vault::new(&[of("github")])
    }

    fn secret(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    fn now(vault: &Vault) -> Rc<Value> {
        let all = vault.kept.borrow();
        all["github"].value.clone().expect("a value")
    }

    #[test]
    fn the_last_value_counts_and_shows_itself_to_nobody() {
        let vault = vault();
        vault.take("github", secret("first-token\n")).expect("taken");
        vault.take("github", secret("second-token")).expect("taken");
        vault.take("unknown", secret("x")).expect("ignored");
        assert_eq!(now(&vault).header.as_bytes(), b"Bearer second-token");
        assert!(now(&vault).header.is_sensitive());
        assert!(!format!("{:?}", now(&vault).header).contains("second"));
    }

    #[test]
    fn what_fits_into_no_header_leaves_none_behind() {
        let vault = vault();
        for (text, why) in [
            ("short", Unusable::Short),
            ("two\nlines-of-it", Unusable::Shape),
            ("\0\0\0\0\0\0\0\0\0\0", Unusable::Shape),
            (&"x".repeat(LONGEST + 1), Unusable::Long),
        ] {
            vault.take("github", secret("first-token")).expect("taken");
            assert_eq!(vault.take("github", secret(text)), Err(why));
            assert!(vault.kept.borrow()["github"].value.is_err());
        }
    }

    #[test]
    fn a_refused_value_is_asked_for_once_and_its_like_is_none() {
        let (vault, start) = (vault(), Instant::now());
        vault.take("github", secret("first-token")).expect("taken");
        let first = now(&vault);
        let next = |refused: &Value, after: u64| {
            vault.next("github", refused, start + Duration::from_secs(after))
        };
        assert!(matches!(next(&first, 0), Next::Comes { ask: true, .. }));
        assert!(matches!(next(&first, 1), Next::Comes { ask: false, .. }));
        assert!(matches!(next(&first, 30), Next::None));
        vault.take("github", secret("second-token")).expect("taken");
        assert!(matches!(next(&first, 31), Next::Is(_)));
        let second = now(&vault);
        assert!(matches!(next(&second, 32), Next::None), "asked for too often");
        assert!(matches!(next(&second, 61), Next::Comes { ask: true, .. }));
        vault.take("github", secret("second-token")).expect("taken");
        assert!(matches!(next(&second, 62), Next::None), "the same once more");
    }

    #[test]
    fn of_basic_credentials_the_password_is_a_secret_of_its_own() {
        // "me@acme.example:s3cr3t-token"
        let text = secret("bWVAYWNtZS5leGFtcGxlOnMzY3IzdC10b2tlbg==");
        let value = Value::new(text, "Basic {}", 1).expect("a value");
        let mut echo = b"password is s3cr3t-token here".to_vec();
        assert!(value.forms.redact(&mut echo));
        assert_eq!(echo, b"password is [redacted]** here");
    }
}
