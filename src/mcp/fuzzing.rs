//! What holds for any bytes at all: the fuzz target `envelope`, and a bounded part of it in the tests.
//!
//! Lines are the same however their bytes are cut, and cost no more memory than their limit. Whoever
//! finds an id (the scanner, the envelope) finds the same one. A splice changes what it is told to
//! change: the rest is read again from the result, by serde alone, and compared byte by byte.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{
    Envelope, META, Message, Meta, Params, TASK_ID, good_id, may_have, members, our_id,
};
use super::line::{Framer, Line};
use super::scan::Scanner;
use super::splice::{Splice, member_ranges};

/// Limits of a line, bytes: most inputs cross the small ones.
const LIMITS: [usize; 4] = [24, 120, 1000, 1 << 20];
/// What the scanner remembers of an id at most, bytes.
const ID_MAX: usize = 256;
/// What is put in the place of an id and of a token.
const NEW_ID: &str = "77";
/// What is put into an object.
const NEW_MEMBER: &str = r#""io.tenantd/context":{"tenant":"acme"}"#;

/// Runs every check on `input`: two bytes that choose a limit and the cuts, then what is read.
///
/// # Panics
/// Where a property does not hold.
pub fn envelope(input: &[u8]) {
    let [limit, cuts, read @ ..] = input else { return };
    let limit = LIMITS[usize::from(*limit) % LIMITS.len()];
    let whole = frame(read, limit, 0);
    assert_eq!(frame(read, limit, *cuts), whole, "the cuts changed the lines");
    for line in whole {
        match line {
            Found::Whole(line) => one_line(&line),
            Found::TooLong(id) => assert!(id.is_none_or(|id| id.len() <= ID_MAX)),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Whole(Vec<u8>),
    /// With the id that was found in it.
    TooLong(Option<Vec<u8>>),
}

/// The lines of `read`, fed in pieces whose lengths follow from `cuts`; zero cuts nothing.
fn frame(read: &[u8], limit: usize, cuts: u8) -> Vec<Found> {
    let (mut framer, mut found, mut rest) = (Framer::new(limit), Vec::new(), read);
    let mut draw = u32::from(cuts);
    while !rest.is_empty() {
        draw = draw.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let piece = if cuts == 0 { rest.len() } else { 1 + (draw >> 16) as usize % 40 };
        let (chunk, left) = rest.split_at(piece.min(rest.len()));
        rest = left;
        framer.feed(chunk, |line| {
            found.push(match line {
                Line::Whole(line) => Found::Whole(line.to_vec()),
                Line::TooLong(head) => Found::TooLong(head.id),
            });
        });
        assert!(framer.held() <= limit, "more is kept than a line may have");
    }
    found
}

fn one_line(line: &[u8]) {
    assert!(!line.contains(&b'\n') && !line.is_empty());
    let mut scanner = Scanner::default();
    scanner.feed(line);
    let head = scanner.finish();
    let Ok(envelope) = Envelope::read(line) else { return };
    // A key that is spelled with escapes is overlooked by the scanner alone.
    let plain = !line.contains(&b'\\');
    match (head.id, envelope.id) {
        (Some(found), Some(id)) if good_id(id) => assert_eq!(found, id.get().as_bytes()),
        (Some(_), None) => panic!("the scanner found an id that is not there"),
        (None, Some(id)) => assert!(!plain || id.get().len() > ID_MAX, "an id was overlooked"),
        _ => {}
    }
    assert!(!head.has_method || envelope.method.is_some());
    assert!(head.has_method || envelope.method.is_none() || !plain);
    look(&envelope);
    dress(line, &envelope);
    strip(line, &envelope);
}

/// What the envelope says of itself is true.
fn look(envelope: &Envelope<'_>) {
    if let Some(id) = envelope.id
        && let Some(ours) = our_id(id)
    {
        assert_eq!(ours.to_string(), id.get());
        assert!(good_id(id));
    }
    match envelope.message() {
        Ok(Message::Request { id, method }) => {
            assert!(envelope.id.is_some_and(|it| it.get() == id.get()));
            assert_eq!(
                serde_json::from_str::<String>(method_of(envelope)).ok().as_deref(),
                Some(&*method)
            );
        }
        Ok(Message::Notification { method }) => {
            assert!(envelope.id.is_none());
            assert_eq!(
                serde_json::from_str::<String>(method_of(envelope)).ok().as_deref(),
                Some(&*method)
            );
        }
        Ok(Message::Response { .. }) => assert!(envelope.method.is_none()),
        Err(_) => {}
    }
    for object in [envelope.params, envelope.result, envelope.error].into_iter().flatten() {
        let read = members::<Params<'_>>(object);
        let meta = read.as_ref().ok().and_then(|params| params.meta);
        let task = read.as_ref().ok().and_then(|params| params.task_id);
        assert!(meta.is_none() || may_have(object, &META), "a _meta was overlooked");
        assert!(task.is_none() || may_have(object, &TASK_ID), "a taskId was overlooked");
    }
}

fn method_of<'a>(envelope: &Envelope<'a>) -> &'a str {
    envelope.method.map_or("", RawValue::get)
}

/// Another id, another token and one more member: the rest is untouched.
fn dress(line: &[u8], envelope: &Envelope<'_>) {
    let Some(id) = envelope.id else { return };
    let params = envelope.params.filter(|params| list(params.get()).is_some());
    let found: Params<'_> = params.and_then(|it| members(it).ok()).unwrap_or_default();
    let meta = found.meta.filter(|meta| members::<Meta<'_>>(meta).is_ok());
    let token = meta.and_then(|meta| members::<Meta<'_>>(meta).ok()?.progress_token);
    let mut splice = Splice::of(line);
    splice.replace(id, NEW_ID.as_bytes());
    if let Some(token) = token {
        splice.replace(token, NEW_ID.as_bytes());
    }
    if let Some(object) = meta.or(params) {
        splice.append_members(object, "", &["", NEW_MEMBER, ""], "");
    }
    let length = splice.length();
    let mut out = Vec::new();
    splice.write(&mut out);
    assert_eq!(out.len(), length);
    let (before, after) = (top(line), top(&out));
    compare(&before, &after, &|key, old, new| match key {
        "id" => assert_eq!(new, NEW_ID),
        "params" => match meta {
            Some(_) => compare_objects(old, new, &|key, old, new| match key {
                "_meta" => grown(old, new, token.is_some()),
                _ => assert_eq!(old, new),
            }),
            None if params.is_some() => grown(old, new, false),
            None => assert_eq!(old, new),
        },
        _ => assert_eq!(old, new),
    });
}

/// An object that got one more member at its end, and perhaps another token.
fn grown(old: &str, new: &str, other_token: bool) {
    let (old, mut new) = (list(old).expect("an object"), list(new).expect("still an object"));
    let (key, value) = new.pop().expect("the new member");
    assert_eq!(format!("\"{key}\":{}", value.get()), NEW_MEMBER);
    compare(&old, &new, &|key, old, new| {
        let want = if other_token && key == "progressToken" { NEW_ID } else { old };
        assert_eq!(new, want);
    });
}

/// Members that are taken away are gone, whatever stands around them; the others stay as they are.
fn strip(line: &[u8], envelope: &Envelope<'_>) {
    const UNWANTED: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
    let Some(result) = envelope.result.filter(|result| result.get().starts_with('{')) else {
        return;
    };
    let Some(mut before) = list(result.get()) else { return };
    let mut splice = Splice::of(line);
    let start = splice.range(result).start;
    for range in member_ranges(result.get(), |key| UNWANTED.contains(&key)) {
        splice.remove(start + range.start..start + range.end);
    }
    let mut out = Vec::new();
    splice.write(&mut out);
    before.retain(|(key, _)| !UNWANTED.contains(&key.as_str()));
    compare(&top(line), &top(&out), &|key, old, new| match key {
        "result" => compare(&before, &list(new).expect("still an object"), &|_, old, new| {
            assert_eq!(old, new);
        }),
        _ => assert_eq!(old, new),
    });
}

type Member<'a> = (String, &'a RawValue);

/// The members of an object in their order, if every key of it is text.
fn list(object: &str) -> Option<Vec<Member<'_>>> {
    serde_json::from_str::<Listed<'_>>(object).ok().map(|listed| listed.0)
}

fn top(line: &[u8]) -> Vec<Member<'_>> {
    list(std::str::from_utf8(line).expect("text")).expect("one object")
}

fn compare_objects(old: &str, new: &str, each: &dyn Fn(&str, &str, &str)) {
    compare(&list(old).expect("an object"), &list(new).expect("still an object"), each);
}

fn compare(old: &[Member<'_>], new: &[Member<'_>], each: &dyn Fn(&str, &str, &str)) {
    assert_eq!(old.len(), new.len(), "members came or went");
    for ((key, old), (other, new)) in old.iter().zip(new) {
        assert_eq!(key, other);
        each(key, old.get(), new.get());
    }
}

struct Listed<'a>(Vec<Member<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Listed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Listed<'de>;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Listed(all))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
