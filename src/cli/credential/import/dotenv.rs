//! A `.env` file: its assignments and where each stands.

use std::ops::Range;

use zeroize::Zeroizing;

/// One assignment.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) key: String,
    pub(super) value: Zeroizing<String>,
    /// From its first letter, `export` included, to the end of its value.
    pub(super) span: Range<usize>,
    /// Whether other variables are put into it when it is read.
    pub(super) refers: bool,
}

/// Every assignment of a file; other lines are comments or nothing of ours.
///
/// # Errors
/// The line, counted from 1, where a quotation begins that does not end.
pub(super) fn parse(file: &str) -> Result<Vec<Assignment>, usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = file.get(at..).filter(|rest| !rest.is_empty()) {
        let end = rest.find('\n').map_or(file.len(), |line| at + line);
        at = match head(file, at, end) {
            None => end + 1,
            Some((from, key, value)) => {
                let line = || file.get(..at).unwrap_or_default().matches('\n').count() + 1;
                let (value, to, refers) = value_at(file, value, end).ok_or_else(line)?;
                found.push(Assignment { key, value, span: from..to, refers });
                file.get(to..)
                    .and_then(|rest| rest.find('\n'))
                    .map_or(file.len(), |end| to + end + 1)
            }
        };
    }
    Ok(found)
}

/// Where an assignment begins, its name, and where its value begins.
fn head(file: &str, at: usize, end: usize) -> Option<(usize, String, usize)> {
    let line = file.get(at..end)?;
    let (left, _) = line.split_once('=')?;
    let from = at + (left.len() - left.trim_start().len());
    let words = left.trim();
    let exported = words.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let key = exported.unwrap_or(words).trim();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let first = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    (first && key.bytes().all(good)).then(|| (from, key.to_owned(), at + left.len() + 1))
}

/// The value that begins there, where it ends, and whether it refers to others.
fn value_at(file: &str, at: usize, line_end: usize) -> Option<(Zeroizing<String>, usize, bool)> {
    let line = file.get(at..line_end)?;
    let from = at + (line.len() - line.trim_start_matches([' ', '\t']).len());
    let quote = file.get(from..)?.bytes().next().filter(|byte| b"\"'`".contains(byte));
    if let Some(quote) = quote {
        let inner = from + 1;
        let length = quoted(file.get(inner..)?, quote)?;
        let raw = file.get(inner..inner + length)?;
        let value = if quote == b'"' { unescaped(raw) } else { Zeroizing::new(raw.to_owned()) };
        return Some((value, inner + length + 1, quote == b'"' && raw.contains("${")));
    }
    let raw = file.get(from..line_end)?;
    let comment = [" #", "\t#"].iter().filter_map(|mark| raw.find(mark)).min();
    let raw = raw.get(..comment.unwrap_or(raw.len()))?.trim_end();
    Some((Zeroizing::new(raw.to_owned()), from + raw.len(), raw.contains("${")))
}

/// The length up to the closing quotation mark; a backslash saves one only in double quotes.
fn quoted(text: &str, quote: u8) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quote == b'"' => drop(bytes.next()),
            byte if byte == quote => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescaped(raw: &str) -> Zeroizing<String> {
    let mut value = Zeroizing::new(String::with_capacity(raw.len()));
    let mut signs = raw.chars();
    while let Some(sign) = signs.next() {
        match (sign, sign == '\\') {
            (_, true) => match signs.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some(other @ ('"' | '\\' | '$')) => value.push(other),
                Some(other) => value.extend(['\\', other]),
                None => value.push('\\'),
            },
            (other, false) => value.push(other),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_value_is_read() {
        let file = "# no=1\nA=plain # said\n export B = 'a # b \\n'\nC=\"x\\ny \\\"z\\\"\"\nD=\"one\ntwo\"\n\
                    E=`t'\"`\nF=\n1X=no\nnothing\nG=${A}x\nH='${A}'\nI=last";
        let found = parse(file).expect("read");
        let pairs: Vec<_> =
            found.iter().map(|one| (one.key.as_str(), one.value.as_str())).collect();
        let wanted = [
            ("A", "plain"),
            ("B", "a # b \\n"),
            ("C", "x\ny \"z\""),
            ("D", "one\ntwo"),
            ("E", "t'\""),
            ("F", ""),
            ("G", "${A}x"),
            ("H", "${A}"),
            ("I", "last"),
        ];
        assert_eq!(pairs, wanted);
        assert_eq!(file.get(found[1].span.clone()), Some("export B = 'a # b \\n'"));
        assert_eq!(file.get(found[3].span.clone()), Some("D=\"one\ntwo\""));
        let refer: Vec<_> = found.iter().filter(|one| one.refers).map(|one| &one.key).collect();
        assert_eq!(refer, ["G"]);
        assert_eq!(parse("A=1\nB=\"x\n").err(), Some(2));
        assert_eq!(parse("A=1\r\nB=2\r\n").expect("read")[0].value.as_str(), "1");
    }
}
