//! Changing a message by ranges of its bytes.
//!
//! An edit replaces the bytes of one value (or none: an insertion); everything between edits is copied
//! as it came. Nothing here parses: the ranges come from raw values borrowed from the same line.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

/// Edits of one line, in any order, never overlapping.
#[derive(Debug)]
pub struct Splice<'a> {
    line: &'a [u8],
    edits: Vec<(Range<usize>, Cow<'a, [u8]>)>,
}

impl<'a> Splice<'a> {
    /// No edits yet.
    pub fn of(line: &'a [u8]) -> Self {
        Self { line, edits: Vec::with_capacity(8) }
    }

    /// Where `value`, borrowed from this line, lies in it.
    pub fn range(&self, value: &RawValue) -> Range<usize> {
        let start = (value.get().as_ptr() as usize).wrapping_sub(self.line.as_ptr() as usize);
        debug_assert!(start + value.get().len() <= self.line.len(), "a value of another line");
        start..start + value.get().len()
    }

    /// Replaces a value.
    pub fn replace(&mut self, value: &RawValue, with: impl Into<Cow<'a, [u8]>>) {
        let range = self.range(value);
        self.edits.push((range, with.into()));
    }

    /// Appends members (each `"key":value`, or several, or empty) to an object, with what is to stand
    /// before and behind them. At the end, because whoever searches a message finds its own part first.
    pub fn append_members(
        &mut self,
        object: &RawValue,
        before: &'a str,
        members: &[&'a str],
        behind: &'a str,
    ) {
        if members.iter().all(|member| member.is_empty()) {
            return;
        }
        let at = self.range(object).end - 1;
        if !is_empty_object(object.get()) {
            self.insert_bytes(at, ",");
        }
        self.insert(at, before, members, behind);
    }

    /// Inserts members right behind a value, with what is to stand before and behind them.
    pub fn insert_after(
        &mut self,
        value: &RawValue,
        before: &'a str,
        members: &[&'a str],
        behind: &'a str,
    ) {
        let at = self.range(value).end;
        if members.iter().any(|member| !member.is_empty()) {
            self.insert(at, before, members, behind);
        }
    }

    fn insert(&mut self, at: usize, before: &'a str, members: &[&'a str], behind: &'a str) {
        self.insert_bytes(at, before);
        let mut first = true;
        for member in members.iter().filter(|member| !member.is_empty()) {
            if !std::mem::take(&mut first) {
                self.insert_bytes(at, ",");
            }
            self.insert_bytes(at, member);
        }
        self.insert_bytes(at, behind);
    }

    fn insert_bytes(&mut self, at: usize, bytes: &'a str) {
        if !bytes.is_empty() {
            self.edits.push((at..at, Cow::Borrowed(bytes.as_bytes())));
        }
    }

    /// Removes a range.
    pub fn remove(&mut self, range: Range<usize>) {
        self.edits.push((range, Cow::Borrowed(&[])));
    }

    /// The length that the line will have.
    pub fn length(&self) -> usize {
        let (less, more) = self
            .edits
            .iter()
            .fold((0, 0), |(less, more), (range, with)| (less + range.len(), more + with.len()));
        (self.line.len() + more).saturating_sub(less)
    }

    /// Appends the changed line to `out`.
    pub fn write(mut self, out: &mut Vec<u8>) {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        out.reserve(self.length() + 1);
        let mut from = 0;
        for (range, with) in &self.edits {
            out.extend_from_slice(self.line.get(from..range.start).unwrap_or_default());
            out.extend_from_slice(with);
            from = range.end.max(from);
        }
        out.extend_from_slice(self.line.get(from..).unwrap_or_default());
    }
}

/// The ranges that take members of an object away, each with one comma, so that what is left is an
/// object again. `object` is the raw text; ranges are relative to its start.
pub fn member_ranges(object: &str, unwanted: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut previous_kept = false;
    let mut members = Members { text: object, at: 1 }.peekable();
    while let Some(member) = members.next() {
        if !unwanted(&member.key) {
            previous_kept = true;
            continue;
        }
        // Take the comma before it where a kept member stands before, else the one behind it.
        let range = if previous_kept {
            member.comma..member.end
        } else {
            member.start..members.peek().map_or(member.end, |next| next.start)
        };
        ranges.push(range);
    }
    ranges
}

/// An object without those members, everything else byte for byte. `object` is the raw text.
pub fn without_members(object: &str, unwanted: impl Fn(&str) -> bool) -> String {
    let mut left = String::with_capacity(object.len());
    let mut from = 0;
    for range in member_ranges(object, unwanted) {
        left.push_str(object.get(from..range.start).unwrap_or_default());
        from = range.end;
    }
    left.push_str(object.get(from..).unwrap_or_default());
    left
}

/// Whether a raw object has no members.
pub fn is_empty_object(object: &str) -> bool {
    object.get(1..).is_some_and(|rest| rest.trim_start().starts_with('}'))
}

/// The members of an object that is known to be valid JSON: each key, unescaped where it is text, with its
/// raw value.
pub fn raw_members(object: &str) -> impl Iterator<Item = (String, &str)> {
    Members { text: object, at: 1 }.map(|member| (member.key, member.value))
}

struct Member<'a> {
    key: String,
    value: &'a str,
    /// The comma before it, or its start where there is none.
    comma: usize,
    start: usize,
    end: usize,
}

/// Walks the members of an object that is known to be valid JSON.
struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let comma = self.skip(|b| b.is_ascii_whitespace());
        let start = self.skip(|b| b.is_ascii_whitespace() || b == b',');
        let key = self.value()?;
        self.skip(|b| b.is_ascii_whitespace() || b == b':');
        let value = self.value()?;
        // One that is no text (half of a surrogate pair) stays as it was written, with its quotes: nobody looks
        // for that, and the members behind it are members all the same.
        let key = serde_json::from_str(key).unwrap_or_else(|_| key.to_owned());
        Some(Member { key, value, comma, start, end: self.at })
    }
}

impl<'a> Members<'a> {
    fn skip(&mut self, what: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|b| what(**b)).count();
        self.at
    }

    fn value(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let value = values.next()?.ok()?.get();
        self.at += values.byte_offset();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::envelope::Envelope;

    fn without(object: &str, keys: &[&str]) -> String {
        let mut splice = Splice::of(object.as_bytes());
        for range in member_ranges(object, |key| keys.contains(&key)) {
            splice.remove(range);
        }
        let mut out = Vec::new();
        splice.write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_is_not_replaced_leaves_as_it_came() {
        let line = br#"{ "id" : 1 , "params":{"n":1.0e2,"big":123456789012345678901} }"#;
        let envelope = Envelope::read(line).expect("an envelope");
        let mut splice = Splice::of(line);
        splice.replace(envelope.id.expect("id"), b"77".as_slice());
        splice.append_members(envelope.params.expect("params"), "", &[r#""x":0"#, ""], "");
        let length = splice.length();
        let mut out = Vec::new();
        splice.write(&mut out);
        let want = br#"{ "id" : 77 , "params":{"n":1.0e2,"big":123456789012345678901,"x":0} }"#;
        assert_eq!(out, want);
        assert_eq!(length, want.len());
    }

    #[test]
    fn an_insertion_into_an_empty_object_needs_no_comma() {
        let line = br#"{"params":{ }}"#;
        let envelope = Envelope::read(line).expect("an envelope");
        let mut splice = Splice::of(line);
        splice.append_members(envelope.params.expect("params"), "", &[r#""x":0"#, ""], "");
        let mut out = Vec::new();
        splice.write(&mut out);
        assert_eq!(out, br#"{"params":{ "x":0}}"#);
    }

    #[test]
    fn members_are_taken_away_wherever_they_stand() {
        let object = r#"{ "a":1, "b":[1,{"c":2}] , "\u0063":"x,}" }"#;
        for (keys, want) in [
            (vec!["a"], r#"{ "b":[1,{"c":2}] , "\u0063":"x,}" }"#),
            (vec!["b"], r#"{ "a":1 , "\u0063":"x,}" }"#),
            (vec!["c"], r#"{ "a":1, "b":[1,{"c":2}]  }"#),
            (vec!["a", "b"], r#"{ "\u0063":"x,}" }"#),
            (vec!["a", "c"], r#"{ "b":[1,{"c":2}]  }"#),
            (vec!["a", "b", "c"], "{  }"),
            (vec![], object),
        ] {
            let got = without(object, &keys);
            assert_eq!(got, want, "{keys:?}");
            serde_json::from_str::<serde_json::Value>(&got).expect("valid");
        }
    }

    #[test]
    fn a_key_that_is_no_text_hides_no_member_behind_it() {
        let object = r#"{"a":1,"\ud83d":2,"b":3}"#;
        assert_eq!(without(object, &["a"]), r#"{"\ud83d":2,"b":3}"#);
        assert_eq!(without(object, &["b"]), r#"{"a":1,"\ud83d":2}"#);
        assert_eq!(without(object, &["a", "b"]), r#"{"\ud83d":2}"#);
        assert_eq!(raw_members(object).last(), Some(("b".to_owned(), "3")));
    }
}
