//! Finds a secret in a stream of bytes, and puts `[redacted]` over it. Pure.
//!
//! The second wall. The first is that a secret goes to those only who may know it. This one is for what they
//! innocently show of it: a host that shows a request back, a server that logs how it was started. It knows
//! the secret as it is and in the encodings that echoes use; who wants to give it away has others.
//!
//! What [`Stream`] puts over a secret has the secret's length, so that no framing changes: a Content-Length
//! stays true, and nothing has to be held back but what may be the beginning of a secret.

use hyper::body::Bytes;
use memchr::memmem;
use zeroize::Zeroizing;

/// What stands where a secret was; filled up with `*`.
const MARK: &[u8] = b"[redacted]";
/// The shortest text that is looked for, bytes: shorter ones are in every other text.
pub const LEAST: usize = 8;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A secret in all its forms.
#[derive(Default)]
pub struct Forms(Vec<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forms({})", self.0.len())
    }
}

impl Forms {
    /// Of secrets; one that is shorter than [`LEAST`] has none.
    pub fn of(secrets: &[&[u8]]) -> Self {
        Self::at_least(LEAST, secrets)
    }

    /// Of secrets and in forms of at least so many bytes.
    pub fn at_least(least: usize, secrets: &[&[u8]]) -> Self {
        let mut all: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for secret in secrets.iter().filter(|secret| secret.len() >= least) {
            all.push(Zeroizing::new(secret.to_vec()));
            for alphabet in [BASE64, BASE64_URL] {
                all.extend((0..3).map(|before| base64(secret, before, alphabet)));
            }
            all.extend([false, true].map(|upper| hex(secret, upper)));
            all.extend(percent(secret));
            all.extend(escaped(secret));
        }
        all.retain(|form| form.len() >= least);
        all.sort_unstable_by(|one, other| one.as_slice().cmp(other.as_slice()));
        all.dedup();
        Self(all)
    }

    /// Where they stand, in order, none over another.
    pub fn found(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for form in &self.0 {
            let hits = memmem::find_iter(bytes, form.as_slice());
            found.extend(hits.map(|at| (at, at + form.len())));
        }
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(found.len());
        for (from, to) in found {
            match merged.last_mut() {
                Some(last) if from < last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged
    }

    /// Where the end begins that may be the beginning of one; the length where there is none.
    pub fn beginning(&self, bytes: &[u8]) -> usize {
        let first = self.0.iter().filter_map(|form| {
            let from = bytes.len().saturating_sub(form.len() - 1);
            let tail = bytes.get(from..)?;
            let starts = memchr::memchr_iter(*form.first()?, tail);
            let mut fits = starts.filter(|at| tail.get(*at..).is_some_and(|t| form.starts_with(t)));
            fits.next().map(|at| from + at)
        });
        first.min().unwrap_or(bytes.len())
    }

    /// Puts the mark over every one of them; whether there was one.
    pub fn redact(&self, bytes: &mut [u8]) -> bool {
        let found = self.found(bytes);
        for (from, to) in &found {
            mark(bytes.get_mut(*from..*to));
        }
        !found.is_empty()
    }
}

fn mark(place: Option<&mut [u8]>) {
    let Some(place) = place else { return };
    place.fill(b'*');
    if let Some(start) = place.get_mut(..MARK.len()) {
        start.copy_from_slice(MARK);
    }
}

/// A stream that is redacted piece by piece. It holds back at most the longest form but one byte.
#[derive(Debug, Default)]
pub struct Stream {
    held: Vec<u8>,
    /// How many of the held bytes belong to a form whose beginning has left already.
    marked: usize,
    /// Whether there was one.
    pub redacted: bool,
}

impl Stream {
    /// The next piece; what may go on of it.
    pub fn pass(&mut self, forms: &Forms, piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            let (found, end) = (forms.found(&piece), forms.beginning(&piece));
            if found.is_empty() && end == piece.len() {
                return piece;
            }
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&piece);
        let end = forms.beginning(&bytes);
        let mut found = forms.found(&bytes);
        if self.marked > 0 {
            found.insert(0, (0, self.marked));
        }
        self.held = bytes.split_off(end);
        self.marked = 0;
        for (from, to) in found {
            mark(bytes.get_mut(from..to.min(end)));
            self.marked = self.marked.max(to.saturating_sub(end));
            self.redacted = true;
        }
        bytes.into()
    }

    /// What was held back to the end.
    pub fn finish(&mut self) -> Bytes {
        let mut bytes = std::mem::take(&mut self.held);
        mark(bytes.get_mut(..std::mem::take(&mut self.marked)));
        bytes.into()
    }

    /// How much is held back, bytes.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// The characters of base64 (RFC 4648) that are the secret's alone when `before` bytes, modulo three, stand
/// in front of it: those at its edges depend on its neighbours.
fn base64(secret: &[u8], before: usize, alphabet: &[u8; 64]) -> Zeroizing<Vec<u8>> {
    let bit = |at: usize| {
        let byte = secret.get(at / 8).copied().unwrap_or_default();
        usize::from(byte >> (7 - at % 8) & 1)
    };
    // The first character that begins in the secret: six bits each, from the beginning of the text.
    let skipped = (before * 8).div_ceil(6) * 6 - before * 8;
    let bits = secret.len() * 8;
    let starts = (skipped..).step_by(6).take_while(|start| start + 6 <= bits);
    let characters = starts.map(|start| {
        let index = (start..start + 6).fold(0, |index, at| index << 1 | bit(at));
        alphabet.get(index).copied().unwrap_or_default()
    });
    Zeroizing::new(characters.collect())
}

fn digits(upper: bool) -> &'static [u8; 16] {
    if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" }
}

fn push_hex(into: &mut Vec<u8>, byte: u8, upper: bool) {
    for nibble in [byte >> 4, byte & 0xf] {
        into.extend(digits(upper).get(usize::from(nibble)));
    }
}

fn hex(secret: &[u8], upper: bool) -> Zeroizing<Vec<u8>> {
    let mut text = Vec::with_capacity(secret.len() * 2);
    secret.iter().for_each(|byte| push_hex(&mut text, *byte, upper));
    Zeroizing::new(text)
}

/// Percent-encoded (RFC 3986, section 2.1), by the sets that programs leave as they are.
fn percent(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    // RFC 3986; with its "/" as Python has it; JavaScript's encodeURIComponent and encodeURI.
    let plain: [&[u8]; 4] = [b"-_.~", b"-_.~/", b"-_.!~*'()", b"-_.!~*'();/?:@&=+$,#"];
    let mut forms = Vec::new();
    for upper in [true, false] {
        for plain in plain {
            let keep = |byte: u8| byte.is_ascii_alphanumeric() || plain.contains(&byte);
            forms.push(encoded(secret, upper, keep, false));
            forms.push(encoded(secret, upper, keep, true));
        }
        forms.push(encoded(secret, upper, |_| false, false));
    }
    forms
}

fn encoded(
    secret: &[u8],
    upper: bool,
    keep: impl Fn(u8) -> bool,
    form: bool,
) -> Zeroizing<Vec<u8>> {
    let mut text = Vec::with_capacity(secret.len() * 3);
    for byte in secret {
        match byte {
            b' ' if form => text.push(b'+'),
            byte if keep(*byte) => text.push(*byte),
            byte => {
                text.push(b'%');
                push_hex(&mut text, *byte, upper);
            }
        }
    }
    Zeroizing::new(text)
}

/// As a text of JSON and of HTML, by the habits of those who write them.
fn escaped(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let json = |also: &'static [u8], slash: bool, quote: bool, upper: bool| {
        replaced(secret, move |byte, text| match byte {
            b'"' if quote => text.extend(b"\\\""),
            b'\\' => text.extend(b"\\\\"),
            b'/' if slash => text.extend(b"\\/"),
            byte if also.contains(&byte) => {
                text.extend(b"\\u00");
                push_hex(text, byte, upper);
            }
            byte => text.push(byte),
        })
    };
    let html = |apostrophe: &'static [u8], quote: &'static [u8]| {
        replaced(secret, move |byte, text| match byte {
            b'&' => text.extend(b"&amp;"),
            b'<' => text.extend(b"&lt;"),
            b'>' => text.extend(b"&gt;"),
            b'"' => text.extend(quote),
            b'\'' => text.extend(apostrophe),
            byte => text.push(byte),
        })
    };
    vec![
        json(b"", false, true, false),
        json(b"", true, true, false),
        json(b"<>&", false, true, false),
        json(b"\"&'+<>`", false, false, true),
        html(b"'", b"\""),
        html(b"&#39;", b"&quot;"),
        html(b"&#x27;", b"&quot;"),
        html(b"&#39;", b"&#34;"),
    ]
}

fn replaced(secret: &[u8], with: impl Fn(u8, &mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
    let mut text = Vec::with_capacity(secret.len() * 6);
    secret.iter().for_each(|byte| with(*byte, &mut text));
    Zeroizing::new(text)
}

#[cfg(test)]
mod tests;
