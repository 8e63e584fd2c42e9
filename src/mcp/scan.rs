//! Finds the `id` and `method` of a message that is too long to keep, byte by byte.
//!
//! Servers write the id first (Python) or last (TypeScript), so the whole line runs through; what is
//! remembered is bounded. A line that is not JSON gives nothing, or something that matches no request.

/// The longest id, method or key that is remembered, bytes.
const KEEP: usize = 256;

/// What is left of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The raw bytes of its top-level `id`.
    pub id: Option<Vec<u8>>,
    /// Whether it has a top-level `method`.
    pub has_method: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Slot {
    /// Before a key, between members.
    #[default]
    Key,
    /// After a key.
    Value,
}

/// The state between two chunks.
#[derive(Debug, Default)]
pub struct Scanner {
    depth: u32,
    in_string: bool,
    escaped: bool,
    slot: Slot,
    key: Vec<u8>,
    value: Vec<u8>,
    head: Head,
}

impl Scanner {
    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// What was found.
    pub fn finish(self) -> Head {
        self.head
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                if self.depth == 1 {
                    self.end_member();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => self.slot = Slot::Value,
            b',' if self.depth == 1 => self.end_member(),
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            _ if byte.is_ascii_whitespace() => {}
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        let part = match self.slot {
            _ if self.depth != 1 => return,
            Slot::Key => &mut self.key,
            Slot::Value => &mut self.value,
        };
        if part.len() <= KEEP {
            part.push(byte);
        }
    }

    fn end_member(&mut self) {
        match self.key.as_slice() {
            b"\"id\"" if self.value.len() <= KEEP => self.head.id = Some(self.value.clone()),
            b"\"method\"" => self.head.has_method = true,
            _ => {}
        }
        self.key.clear();
        self.value.clear();
        self.slot = Slot::Key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Head {
        let mut scanner = Scanner::default();
        for byte in text.bytes() {
            scanner.feed(&[byte]);
        }
        scanner.finish()
    }

    #[test]
    fn the_id_is_found_first_and_last_and_never_inside() {
        for text in [
            r#"{"id":5,"result":{"id":6,"x":["\"id\":7"]}}"#,
            r#"{"result":{"id":6,"a":"}],{"},"jsonrpc":"2.0", "id" : 5 }"#,
        ] {
            assert_eq!(scan(text).id.as_deref(), Some(b"5".as_slice()), "{text}");
        }
        assert_eq!(scan(r#"{"result":{"id":6}}"#).id, None);
        assert_eq!(scan(r#"{"id":"a\"b,","method":"x"}"#).id.as_deref(), Some(&br#""a\"b,""#[..]));
        assert!(scan(r#"{"id":1,"method":"x"}"#).has_method);
    }

    #[test]
    fn an_endless_id_is_not_remembered() {
        assert_eq!(scan(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1000))).id, None);
    }
}
