//! Names and values as application/x-www-form-urlencoded: what every endpoint of OAuth is asked with.
//!
//! Written here and not by a crate because what is encoded are secrets: the text zeroes itself.

use std::borrow::Cow;
use std::fmt::Write as _;

use zeroize::Zeroizing;

/// The pairs, encoded, in their order.
pub(super) fn encode(pairs: &[(&str, &str)]) -> Zeroizing<String> {
    // Each byte becomes three at most: it never grows, so no copy of a secret is left behind.
    let most = pairs.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut text = Zeroizing::new(String::with_capacity(most));
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            text.push('&');
        }
        percent(name, &mut text);
        text.push('=');
        percent(value, &mut text);
    }
    text
}

/// Everything but RFC 3986's unreserved characters by its hexadecimal number.
fn percent(value: &str, text: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// `url` with the pairs in its query, behind what it has there.
pub(super) fn with_query(url: &str, pairs: &[(&str, &str)]) -> String {
    let join = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{url}{join}{}", *encode(pairs))
}

/// The pairs of a query; `None` where it is not one. Later ones of the same name are there as well.
pub(super) fn decode(query: &str) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let halves = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    halves.map(|(name, value)| Some((plain(name)?, plain(value)?))).collect()
}

fn plain(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_comes_out_again() {
        let pairs = [("scope", "a b+c"), ("x", "ü&=%"), ("empty", "")];
        let text = encode(&pairs);
        assert_eq!(*text, "scope=a%20b%2Bc&x=%C3%BC%26%3D%25&empty=");
        let back = decode(&text).expect("a query");
        assert!(back.iter().map(|(n, v)| (&**n, &**v)).eq(pairs));
        assert_eq!(decode("a+b=c").expect("a query"), [("a b".into(), "c".into())]);
        assert!(decode("a=%4").is_none() && decode("a=%zz").is_none() && decode("a=%ff").is_none());
    }

    #[test]
    fn a_query_goes_behind_the_one_that_is_there() {
        assert_eq!(with_query("https://a/b", &[("c", "d")]), "https://a/b?c=d");
        assert_eq!(with_query("https://a/b?x=1", &[("c", "d")]), "https://a/b?x=1&c=d");
    }
}
