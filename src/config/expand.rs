//! Placeholders in arguments and environment: `{tenant}`, `{name}`, `{data}` and `{user}`, and no others.
//!
//! Whatever else stands in braces stays as it is: JSON, shell and template languages use them too. A
//! doubled pair, `{{data}}`, is the text `{data}`. What a placeholder becomes is never looked at again.
//! Pure.

/// What the placeholders become.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// `{tenant}`: the tenant's id.
    pub tenant: &'a str,
    /// `{name}`: its name for people.
    pub name: &'a str,
    /// `{data}`: its data directory.
    pub data: &'a str,
    /// `{user}`: whose child it is; without one (`share = "tenant"`) the text stays, and the
    /// configuration is refused before it comes to that.
    pub user: Option<&'a str>,
}

const NAMES: [&str; 4] = ["tenant", "name", "data", "user"];

impl<'a> Values<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        match name {
            "tenant" => Some(self.tenant),
            "name" => Some(self.name),
            "data" => Some(self.data),
            "user" => self.user,
            _ => None,
        }
    }

    /// `text` with its placeholders expanded.
    pub fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => expanded.push_str(text),
                Piece::Placeholder(name, whole) => {
                    expanded.push_str(self.get(name).unwrap_or(whole));
                }
            }
        }
        expanded
    }
}

/// Whether `text` holds `{user}`.
pub fn needs_user(text: &str) -> bool {
    pieces(text).any(|piece| matches!(piece, Piece::Placeholder("user", _)))
}

/// Something in braces that differs from a placeholder in case or spaces alone, and that placeholder:
/// nobody writes `{Data}` or `{ data }` and means it.
pub(super) fn near_miss(text: &str) -> Option<(&str, &'static str)> {
    pieces(text)
        .filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Placeholder(..) => None,
        })
        .flat_map(|text| text.split('{').skip(1))
        .filter_map(|after| after.split_once('}'))
        .find_map(|(inner, _)| {
            let meant = NAMES.iter().find(|name| inner.trim().eq_ignore_ascii_case(name))?;
            (inner != *meant).then_some((inner, *meant))
        })
}

enum Piece<'a> {
    Text(&'a str),
    /// The name, and the whole as written.
    Placeholder(&'a str, &'a str),
}

fn pieces(mut rest: &str) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, next) = first_piece(rest);
        rest = next;
        Some(piece)
    })
}

/// The first piece of a text that is not empty, and what follows it.
fn first_piece(text: &str) -> (Piece<'_>, &str) {
    if let Some((doubled, after)) = text.strip_prefix('{').and_then(placeholder)
        && let Some(after) = after.strip_prefix('}')
    {
        return (Piece::Text(&text[1..=doubled.len() + 2]), after);
    }
    if let Some((name, after)) = placeholder(text) {
        return (Piece::Placeholder(name, &text[..name.len() + 2]), after);
    }
    // As far as the next brace that may open something, past the one that opened nothing.
    let end = text.match_indices('{').map(|(at, _)| at).find(|at| *at > 0).unwrap_or(text.len());
    (Piece::Text(&text[..end]), &text[end..])
}

/// The name of the placeholder that `text` begins with, and what follows it.
fn placeholder(text: &str) -> Option<(&'static str, &str)> {
    // Compared name by name: a search for the closing brace would read a text of braces to its end
    // for each of them.
    let inner = text.strip_prefix('{')?;
    let closed = |name: &&'static str| Some((*name, inner.strip_prefix(*name)?.strip_prefix('}')?));
    NAMES.iter().find_map(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: Values<'_> =
        Values { tenant: "acme", name: "Acme {data} Corp", data: "/d", user: Some("alice") };

    #[test]
    fn the_four_placeholders_expand() {
        assert_eq!(ACME.expand("{data}/{tenant}-{user}"), "/d/acme-alice");
        assert_eq!(ACME.expand("--root={data}"), "--root=/d");
        assert_eq!(ACME.expand("{data}{data}"), "/d/d");
    }

    #[test]
    fn everything_else_in_braces_stays() {
        for text in
            ["", "{}", "{", "}", "{date}", "${HOME}", r#"{"a": {"b": 1}}"#, "{{x}}", "{{", "ü{ö}"]
        {
            assert_eq!(ACME.expand(text), text);
        }
    }

    #[test]
    fn doubled_braces_are_the_text_itself() {
        assert_eq!(ACME.expand("{{data}}"), "{data}");
        assert_eq!(ACME.expand("a{{user}}b{user}"), "a{user}balice");
        assert!(!needs_user("{{user}}"));
        assert_eq!(ACME.expand("{{data}"), "{/d");
    }

    #[test]
    fn what_a_placeholder_becomes_is_not_expanded_again() {
        assert_eq!(ACME.expand("{name}"), "Acme {data} Corp");
    }

    #[test]
    fn a_near_miss_is_seen() {
        assert_eq!(near_miss("{Data}"), Some(("Data", "data")));
        assert_eq!(near_miss("x{ user }y"), Some((" user ", "user")));
        assert_eq!(near_miss("{data} {date} {{name}}"), None);
    }

    #[test]
    fn a_megabyte_of_braces_is_read_once() {
        // Quadratic, this would take minutes.
        for text in ["{".repeat(1 << 20), "{a".repeat(1 << 19), "}".repeat(1 << 20)] {
            assert!(ACME.expand(&text) == text && near_miss(&text).is_none() && !needs_user(&text));
        }
    }

    #[test]
    fn without_a_user_the_text_stays() {
        assert_eq!(Values { user: None, ..ACME }.expand("{user}"), "{user}");
    }
}
