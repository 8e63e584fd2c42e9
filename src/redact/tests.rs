//! What must never come through, in whatever pieces it comes, and what must come through untouched.

use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"ghp_s3cr3t/of+Acme=\"42\"";

fn whole(forms: &Forms, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    forms.redact(&mut bytes);
    bytes
}

fn in_pieces(forms: &Forms, bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut stream, mut out, mut rest) = (Stream::default(), Vec::new(), bytes);
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
        let (piece, after) = rest.split_at(size);
        out.extend(stream.pass(forms, Bytes::copy_from_slice(piece)));
        rest = after;
    }
    out.extend(stream.finish());
    out
}

/// Base64 as others write it, with its padding.
fn plain_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - three.len()));
        for at in 0..4 {
            let index = word >> (18 - 6 * at) & 63;
            let there = at <= three.len();
            text.push(if there { char::from(BASE64[index as usize]) } else { '=' });
        }
    }
    text
}

#[test]
fn a_secret_is_marked_as_it_is_and_nothing_else_changes() {
    let forms = Forms::of(&[SECRET]);
    let text = [b"{\"token\": \"".as_slice(), SECRET, b"\", \"x\": 1}"].concat();
    let out = whole(&forms, &text);
    assert_eq!(out.len(), text.len());
    assert_eq!(out, b"{\"token\": \"[redacted]*************\", \"x\": 1}");
    let other = b"ghp_s3cr3t/of+Acme is not all of it, nor is s3cr3t".as_slice();
    assert_eq!(whole(&forms, other), other);
}

#[test]
fn base64_of_it_is_marked_wherever_it_stands_in_the_encoded_text() {
    let forms = Forms::of(&[SECRET]);
    for before in ["", "u", "us", "use", "user:", "x-access-token:"] {
        for after in ["", "!", "!!", "\n and more"] {
            let text = [before.as_bytes(), SECRET, after.as_bytes()].concat();
            let encoded = plain_base64(&text);
            let out = String::from_utf8(whole(&forms, encoded.as_bytes())).expect("text");
            assert!(out.contains("[redacted]"), "{before:?} {after:?}: {out}");
            // What is left of it are the neighbours' characters, and no more than one at each edge.
            let left = out.trim_end_matches('=').bytes().filter(|byte| *byte != b'*').count();
            assert!(left - MARK.len() <= (before.len() + after.len()) * 4 / 3 + 4, "{out}");
            let url = encoded.replace('+', "-").replace('/', "_");
            assert!(whole(&forms, url.as_bytes()).windows(10).any(|w| w == MARK), "{url}");
        }
    }
}

#[test]
fn the_encodings_of_urls_json_and_html_are_marked() {
    let forms = Forms::of(&[SECRET, b"two words & <more>"]);
    for text in [
        "ghp_s3cr3t%2Fof%2BAcme%3D%2242%22",
        "ghp_s3cr3t%2fof%2bAcme%3d%2242%22",
        "ghp_s3cr3t/of%2BAcme%3D%2242%22",
        "ghp_s3cr3t/of+Acme=%2242%22",
        "ghp_s3cr3t/of+Acme=\\\"42\\\"",
        "ghp_s3cr3t\\/of+Acme=\\\"42\\\"",
        "ghp_s3cr3t/of\\u002BAcme=\\u002242\\u0022",
        "ghp_s3cr3t/of+Acme=&quot;42&quot;",
        "6768705f7333637233742f6f662b41636d653d22343222",
        "6768705F7333637233742F6F662B41636D653D22343222",
        "two+words+%26+%3Cmore%3E",
        "two%20words%20%26%20%3Cmore%3E",
        "two words \\u0026 \\u003cmore\\u003e",
        "two words &amp; &lt;more&gt;",
    ] {
        let out = String::from_utf8(whole(&forms, text.as_bytes())).expect("text");
        assert!(out.trim_end_matches('*') == "[redacted]", "{text}: {out}");
    }
}

#[test]
fn what_ends_like_no_secret_goes_on_at_once() {
    let (forms, mut stream) = (Forms::of(&[SECRET]), Stream::default());
    let event = Bytes::from_static(b"data: {\"delta\": \"hello\"}\n\n");
    assert_eq!(stream.pass(&forms, event.clone()), event);
    assert_eq!(stream.held(), 0);
    assert_eq!(stream.pass(&forms, Bytes::from_static(b"a ghp_")), Bytes::from_static(b"a "));
    assert_eq!(stream.pass(&forms, Bytes::from_static(b"x")), Bytes::from_static(b"ghp_x"));
    assert_eq!(stream.pass(&forms, Bytes::from_static(b"ghp_s3")), Bytes::new());
    assert_eq!(stream.finish(), Bytes::from_static(b"ghp_s3"));
}

#[test]
fn what_overlaps_the_held_end_is_marked_on_both_sides() {
    // The end of one form is the beginning of the next.
    let forms = Forms::of(&[b"abcdefgh--", b"gh--abcdefghijkl"]);
    for sizes in [[1, 1], [10, 1], [11, 2], [8, 100]] {
        let out = in_pieces(&forms, b"<abcdefgh--abcdefghijkl>", &sizes);
        assert!(out.starts_with(b"<") && out.ends_with(b"*>"), "{sizes:?}: {out:?}");
        assert!(out.len() == 24 && !out.windows(4).any(|w| w == b"abcd" || w == b"ijkl"));
    }
}

#[test]
fn short_texts_are_no_secrets_and_hide_nothing() {
    let forms = Forms::of(&[b"", b"abc", b"1234567"]);
    assert_eq!(whole(&forms, b"abc 1234567"), b"abc 1234567");
}

proptest! {
    /// However a text is cut: as much comes out as went in, and what is no secret's comes out as it was.
    #[test]
    fn pieces_are_marked_as_the_whole_is(
        parts in proptest::collection::vec(0..6_usize, 1..12),
        noise in proptest::collection::vec(any::<u8>(), 0..64),
        sizes in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        let forms = Forms::of(&[SECRET]);
        let base64 = plain_base64(SECRET);
        let choices: [&[u8]; 6] =
            [SECRET, base64.as_bytes(), &SECRET[..9], b" ", &noise, b"ghp_ghp_s3cr3t"];
        let text: Vec<u8> = parts.iter().flat_map(|part| choices[*part].to_vec()).collect();
        let (one, cut) = (whole(&forms, &text), in_pieces(&forms, &text, &sizes));
        prop_assert_eq!(cut.len(), text.len());
        prop_assert!(forms.found(&cut).is_empty());
        let marked = forms.found(&text);
        for (at, byte) in text.iter().enumerate() {
            if !marked.iter().any(|(from, to)| (*from..*to).contains(&at)) {
                prop_assert_eq!((one[at], cut[at]), (*byte, *byte), "{}", at);
            }
        }
    }
}
