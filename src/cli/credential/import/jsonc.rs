//! Where things stand in a JSON file with comments and trailing commas, as editors write them.
//!
//! Only places: a text is decoded when somebody wants it, so that no copy of a secret is made by the way, and
//! what is changed later is changed in the file's own bytes.

use std::ops::Range;

use zeroize::Zeroizing;

/// How deep values may nest: a client's configuration is a handful deep.
const DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Members, by their decoded names.
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    Text,
    /// A number, `true`, `false`, `null`.
    Other,
}

impl Node {
    /// The member of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.members().iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Its members, where it is an object.
    pub(super) fn members(&self) -> &[(String, Node)] {
        if let Kind::Object(members) = &self.kind { members } else { &[] }
    }

    /// Its items, where it is an array.
    pub(super) fn items(&self) -> &[Node] {
        if let Kind::Array(items) = &self.kind { items } else { &[] }
    }

    /// The text that it is, decoded.
    pub(super) fn text(&self, file: &str) -> Option<Zeroizing<String>> {
        let raw = file.get(self.span.clone()).filter(|_| matches!(self.kind, Kind::Text))?;
        serde_json::from_str(raw).ok().map(Zeroizing::new)
    }
}

/// The one value of a file.
///
/// # Errors
/// The line that is not JSON, counted from 1; never what stands there.
pub(super) fn parse(file: &str) -> Result<Node, usize> {
    let mut reader = Reader { file, at: 0 };
    let node = reader.value(0).and_then(|node| {
        reader.blank();
        (reader.at == file.len()).then_some(node)
    });
    let read = file.get(..reader.at).unwrap_or(file);
    node.ok_or_else(|| read.matches('\n').count() + 1)
}

struct Reader<'a> {
    file: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.file.get(self.at..).unwrap_or_default()
    }

    /// Passes over white space and comments.
    fn blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}']);
            let comment = if trimmed.starts_with("//") {
                trimmed.find('\n').unwrap_or(trimmed.len())
            } else if trimmed.starts_with("/*") {
                trimmed.find("*/").map_or(trimmed.len(), |end| end + 2)
            } else {
                0
            };
            let passed = rest.len() - trimmed.len() + comment;
            self.at += passed;
            if comment == 0 {
                return;
            }
        }
    }

    /// Takes this sign, if it comes next.
    fn takes(&mut self, sign: char) -> bool {
        self.blank();
        let is_next = self.rest().starts_with(sign);
        self.at += if is_next { sign.len_utf8() } else { 0 };
        is_next
    }

    fn value(&mut self, depth: usize) -> Option<Node> {
        self.blank();
        let from = self.at;
        let kind = match self.rest().as_bytes().first()? {
            _ if depth > DEPTH => return None,
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => {
                self.string()?;
                Kind::Text
            }
            _ => self.word()?,
        };
        Some(Node { span: from..self.at, kind })
    }

    fn object(&mut self, depth: usize) -> Option<Kind> {
        self.takes('{');
        let mut members = Vec::new();
        while !self.takes('}') {
            self.blank();
            let from = self.at;
            self.string()?;
            let name = serde_json::from_str(self.file.get(from..self.at)?).ok()?;
            let value = self.takes(':').then(|| self.value(depth + 1))??;
            members.push((name, value));
            if !self.takes(',') {
                return self.takes('}').then_some(Kind::Object(members));
            }
        }
        Some(Kind::Object(members))
    }

    fn array(&mut self, depth: usize) -> Option<Kind> {
        self.takes('[');
        let mut items = Vec::new();
        while !self.takes(']') {
            items.push(self.value(depth + 1)?);
            if !self.takes(',') {
                return self.takes(']').then_some(Kind::Array(items));
            }
        }
        Some(Kind::Array(items))
    }

    /// Passes over a text, from its quotation mark to the other one.
    fn string(&mut self) -> Option<()> {
        let mut bytes = self.rest().bytes().enumerate();
        bytes.next().filter(|(_, byte)| *byte == b'"')?;
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()?),
                b'"' => {
                    self.at += at + 1;
                    return Some(());
                }
                b'\n' => return None,
                _ => {}
            }
        }
        None
    }

    fn word(&mut self) -> Option<Kind> {
        let rest = self.rest();
        let other = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        let length = rest.find(other).unwrap_or(rest.len());
        serde_json::from_str::<serde_json::Value>(rest.get(..length)?).ok()?;
        self.at += length;
        Some(Kind::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_passed_over_and_places_are_exact() {
        let file = "// one { \"\n{ /* \" */ \"a\": [1, \"x\\\"// no\", ], // more\n \"b\": {\"c\": null,}, }\n";
        let node = parse(file).expect("JSON");
        let items = node.get("a").expect("a").items();
        assert_eq!(file.get(items[1].span.clone()), Some("\"x\\\"// no\""));
        assert_eq!(items[1].text(file).expect("a text").as_str(), "x\"// no");
        let b = node.get("b").expect("b");
        assert_eq!(file.get(b.span.clone()), Some("{\"c\": null,}"));
        assert!(matches!(b.get("c").map(|c| &c.kind), Some(Kind::Other)));
    }

    #[test]
    fn what_is_no_json_is_known_by_its_line() {
        for (file, line) in
            [("", 1), ("{\n\"a\" 1}", 2), ("{}\n\n{}", 3), ("[\n\"x\n\"]", 2), ("{\"a\": tru}", 1)]
        {
            assert_eq!(parse(file).err(), Some(line), "{file:?}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(60), "]".repeat(60))).is_ok());
    }
}
