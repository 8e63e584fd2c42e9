//! What binds a `requestState` of ours to whom it was given.
//!
//! A state is the keyed hash of everything that it stands for: nothing can be read out of it, nobody
//! without the key can make one, and it fits one principal, one request and one round only (2026-07-28,
//! basic/patterns/mrtr#server-requirements-basic-workflow). What it stands for stays here, with its time
//! limit; a client that comes back proves with it that it is the one.

use std::fmt;

use blake3::{Hash, Hasher};
use serde_json::value::RawValue;

use crate::mcp::method::Method;
use crate::mcp::splice::raw_members;

/// How deep the digest looks into parameters: what lies deeper is taken as it is written. Each level reads
/// what is below it once more, while everybody waits.
const DEPTH: usize = 8;

/// A key that lives as long as this process.
pub(in crate::mux) struct Seal {
    key: [u8; 32],
}

/// What a state stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) uid: u32,
    pub(super) child: u64,
    pub(super) held: u64,
    /// Each time that a call asks for input is a round of its own: a state is good for one.
    pub(super) round: u64,
    pub(super) method: Method,
    pub(super) digest: Hash,
}

impl Seal {
    /// `entropy`: random bytes that nobody else knows.
    pub(in crate::mux) fn new(entropy: [u8; 32]) -> Self {
        Self { key: blake3::derive_key("tenantd 2026-11 mux requestState", &entropy) }
    }

    fn hash(&self, claim: &Claim) -> Hash {
        let mut hasher = Hasher::new_keyed(&self.key);
        // The version of this layout, and fields of a fixed length.
        hasher.update(&[1, claim.method as u8]).update(&claim.uid.to_le_bytes());
        for number in [claim.child, claim.held, claim.round] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(claim.digest.as_bytes());
        hasher.finalize()
    }

    /// The text of a state: 64 digits of lower-case hex.
    pub(super) fn state(&self, claim: &Claim) -> String {
        self.hash(claim).to_hex().to_string()
    }

    /// Whether `text` is the state of that claim; takes as long whatever it is (of that length).
    pub(super) fn fits(&self, claim: &Claim, text: &str) -> bool {
        // There is one way to write it, so that no two texts are one state.
        !text.bytes().any(|byte| byte.is_ascii_uppercase())
            && Hash::from_hex(text).is_ok_and(|hash| hash == self.hash(claim))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Seal(..)")
    }
}

/// What a retry must have in common with its request: every parameter but `_meta` and what a retry adds.
/// Space and the order of members do not count.
pub(super) fn digest(params: Option<&RawValue>) -> Hash {
    const OWN: [&str; 3] = ["_meta", "inputResponses", "requestState"];
    let mut hasher = Hasher::new();
    let params = params.map_or("", RawValue::get);
    if params.starts_with('{') {
        let mut members: Vec<_> =
            raw_members(params).filter(|(key, _)| !OWN.contains(&key.as_str())).collect();
        members.sort_by(|one, other| one.0.cmp(&other.0));
        for (key, value) in members {
            part(&mut hasher, key.as_bytes());
            value_into(&mut hasher, value, DEPTH);
        }
    }
    hasher.finalize()
}

/// Bytes with their length, so that no two rows of parts read the same.
fn part(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

fn value_into(hasher: &mut Hasher, raw: &str, depth: usize) {
    // A key that is escaped may be no text at all: then the value is what was written.
    let plain = depth > 0 && !raw.contains("\\u");
    match raw.as_bytes().first() {
        Some(b'{') if plain => {
            let mut members: Vec<_> = raw_members(raw).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            hasher.update(b"{");
            for (key, value) in members {
                part(hasher, key.as_bytes());
                value_into(hasher, value, depth - 1);
            }
            hasher.update(b"}");
        }
        Some(b'[') if plain => match serde_json::from_str::<Vec<&RawValue>>(raw) {
            Ok(items) => {
                hasher.update(b"[");
                items.iter().for_each(|item| value_into(hasher, item.get(), depth - 1));
                hasher.update(b"]");
            }
            Err(_) => part(hasher, raw.as_bytes()),
        },
        _ => {
            hasher.update(b"=");
            part(hasher, raw.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Hash {
        let raw = RawValue::from_string(text.to_owned()).expect("JSON");
        digest(Some(&raw))
    }

    fn claim(digest: Hash) -> Claim {
        Claim { uid: 1000, child: 3, held: 7, round: 2, method: Method::Call, digest }
    }

    #[test]
    fn a_state_fits_one_principal_one_request_and_one_round() {
        let seal = Seal::new([9; 32]);
        let mine = claim(of(r#"{"name":"t"}"#));
        let text = seal.state(&mine);
        assert!(seal.fits(&mine, &text));
        for other in [
            Claim { uid: 1001, ..mine },
            Claim { child: 4, ..mine },
            Claim { held: 8, ..mine },
            Claim { round: 3, ..mine },
            Claim { method: Method::Prompt, ..mine },
            Claim { digest: of(r#"{"name":"u"}"#), ..mine },
        ] {
            assert!(!seal.fits(&other, &text), "{other:?}");
        }
        assert!(!Seal::new([8; 32]).fits(&mine, &text));
        assert!(!seal.fits(&mine, &text.to_uppercase()));
    }

    #[test]
    fn a_retry_is_the_same_request_whatever_is_added_and_however_it_is_written() {
        let first =
            of(r#"{"name":"t","arguments":{"a":[1,{"x":1,"y":"2"}],"b":null},"_meta":{"k":1}}"#);
        let retry = r#"{ "arguments" : {"b":null, "a":[1, {"y":"2","x":1} ]},"name":"t",
            "requestState":"s","inputResponses":{"k":{}},"_meta":{"k":2}}"#;
        assert_eq!(first, of(retry));
        for other in [
            r#"{"name":"t","arguments":{"a":[{"x":1,"y":"2"},1],"b":null}}"#,
            r#"{"name":"t","arguments":{"a":[1,{"x":1,"y":2}],"b":null}}"#,
            r#"{"name":"t","arguments":{"a":[1,{"x":1,"y":"2"}]},"b":null}"#,
            r#"{"name":"t"}"#,
        ] {
            assert_ne!(first, of(other), "{other}");
        }
    }

    #[test]
    fn what_is_nested_without_end_is_digested_in_no_time() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let other = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_ne!(of(&deep), of(&other));
        let (bad, worse) = (r#"{"a":{"\ud800":1,"b":1}}"#, r#"{"a":{"\ud800":1,"b":2}}"#);
        assert_ne!(of(bad), of(worse));
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_a_state_is_refused(at in 0_usize..64, byte in any::<u8>()) {
            let seal = Seal::new([9; 32]);
            let mine = claim(of("{}"));
            let mut text = seal.state(&mine).into_bytes();
            prop_assert_eq!(text.len(), 64);
            prop_assume!(text[at] != byte);
            text[at] = byte;
            prop_assert!(!seal.fits(&mine, &String::from_utf8_lossy(&text)));
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,200}") {
            let seal = Seal::new([9; 32]);
            let fits = seal.fits(&claim(digest(None)), &text);
            prop_assert!(!fits);
        }
    }
}
