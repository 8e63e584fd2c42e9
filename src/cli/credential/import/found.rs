//! What looks like a secret in a file, and where: by its name, its shape, or the flag before it.
//!
//! A guess, and shown as one: a person says what is stored. What is shown of it is names.

use std::ops::Range;

use zeroize::Zeroizing;

use super::dotenv;
use super::jsonc::{Kind, Node};

/// Parts of names that say secret.
const NAMES: [&str; 16] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PWD",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "SECRET_KEY",
    "AUTH_KEY",
    "CREDENTIAL",
    "BEARER",
    "PAT",
    "KEY",
];
/// Names that say so and are none: they name a file, or something public.
const NOT: [&str; 6] = ["_FILE", "_PATH", "_DIR", "_ID", "PUBLIC_KEY", "_URL"];
/// How the secrets of well-known services begin.
const PREFIXES: [&str; 16] = [
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "AIza",
    "eyJ",
    "npm_",
    "-----BEGIN",
];
/// Where clients keep their servers.
const SERVERS: [&str; 3] = ["mcpServers", "servers", "context_servers"];

/// What takes the place of a secret in a text begins so.
pub(super) const NOTE: &str = "(in tenantd: credential ";

/// Something that looks like a secret.
#[derive(Debug)]
pub(super) struct Found {
    /// The client's name of its server; none in a `.env` file.
    pub(super) server: Option<String>,
    /// Where in its server, for people.
    pub(super) place: String,
    /// The variable or flag that names it.
    pub(super) key: String,
    /// Whether the server takes it from its environment.
    pub(super) env: bool,
    pub(super) value: Zeroizing<String>,
    /// What is replaced in the file.
    pub(super) spot: Spot,
    /// The whole entry of its server, in a client's configuration.
    pub(super) entry: Option<Entry>,
}

/// A server's entry in a client's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) span: Range<usize>,
    /// Its `type`, where it has one.
    pub(super) kind: Option<String>,
}

/// Where it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    /// An assignment of a `.env` file.
    Assignment(Range<usize>),
    /// A JSON text, of which this stays in front of the secret.
    Text(Range<usize>, String),
}

/// In a `.env` file.
pub(super) fn in_dotenv(assignments: Vec<dotenv::Assignment>) -> Vec<Found> {
    let secret = |one: &dotenv::Assignment| !one.refers && is_secret(&one.key, &one.value);
    let found = assignments.into_iter().filter(secret).map(|one| Found {
        server: None,
        place: format!("variable {}", one.key),
        key: one.key,
        env: true,
        value: one.value,
        spot: Spot::Assignment(one.span),
        entry: None,
    });
    found.collect()
}

/// In a client's configuration, wherever in it servers stand.
pub(super) fn in_client(file: &str, node: &Node) -> Vec<Found> {
    let mut found = Vec::new();
    for (name, value) in node.members() {
        if SERVERS.contains(&name.as_str()) {
            for (server, node) in value.members() {
                let kind = node.get("type").and_then(|kind| kind.text(file));
                let kind = kind.map(|kind| kind.to_string());
                let entry = Entry { span: node.span.clone(), kind };
                in_server(file, server, node, &entry, &mut found);
                // An older Zed has it all in `command`.
                if let Some(command) = node.get("command") {
                    in_server(file, server, command, &entry, &mut found);
                }
            }
        } else if matches!(value.kind, Kind::Object(_)) {
            found.extend(in_client(file, value));
        }
    }
    found
}

fn in_server(file: &str, server: &str, node: &Node, entry: &Entry, found: &mut Vec<Found>) {
    // A name that stands twice counts twice: which one a client takes is its own affair.
    let all = |name: &'static str| {
        node.members().iter().filter(move |(key, _)| key == name).map(|(_, value)| value)
    };
    let env = all("env").flat_map(Node::members);
    for (key, node) in env {
        let Some(value) = node.text(file).filter(|value| is_secret(key, value)) else { continue };
        found.push(Found {
            server: Some(server.to_owned()),
            place: format!("variable {key}"),
            key: key.clone(),
            env: true,
            value,
            spot: Spot::Text(node.span.clone(), String::new()),
            entry: Some(entry.clone()),
        });
    }
    let arguments = all("args").flat_map(Node::items);
    let mut flag: Option<String> = None;
    for (number, node) in arguments.enumerate() {
        let text = node.text(file).unwrap_or_default();
        let argument = Argument { number: number + 1, flag: flag.as_deref() };
        if let Some((key, env, kept)) = argument.secret(&text) {
            let value = Zeroizing::new(text.get(kept.len()..).unwrap_or_default().to_owned());
            found.push(Found {
                server: Some(server.to_owned()),
                place: argument.place(&key),
                key,
                env,
                value,
                spot: Spot::Text(node.span.clone(), kept),
                entry: Some(entry.clone()),
            });
        }
        flag = text.starts_with('-').then(|| text.to_string());
    }
}

/// One word of a command line.
struct Argument<'a> {
    /// Counted from 1.
    number: usize,
    /// The flag before it.
    flag: Option<&'a str>,
}

impl Argument<'_> {
    /// What names it, whether it is a variable, and what stands in front of the secret.
    fn secret(&self, text: &str) -> Option<(String, bool, String)> {
        let bare = |flag: &str| flag.trim_start_matches('-').to_owned();
        let pair = text.split_once('=');
        match (self.flag, pair) {
            // docker run -e NAME=value
            (Some("-e" | "--env"), Some((key, value))) if is_secret(key, value) => {
                Some((key.to_owned(), true, format!("{key}=")))
            }
            (_, Some((key, value))) if key.starts_with('-') && is_secret(&bare(key), value) => {
                Some((bare(key), false, format!("{key}=")))
            }
            (Some(flag), _) if !text.starts_with('-') && is_secret(&bare(flag), text) => {
                Some((bare(flag), false, String::new()))
            }
            _ if looks_secret(text) => Some((format!("arg-{}", self.number), false, String::new())),
            _ => None,
        }
    }

    fn place(&self, key: &str) -> String {
        format!("argument {} ({key})", self.number)
    }
}

/// Whether this name with this value is a secret.
fn is_secret(name: &str, value: &str) -> bool {
    // What an import left, or a reference to what the client asks for or to another variable.
    if value.starts_with(NOTE) || value.contains("${") || value.trim().len() < 4 {
        return false;
    }
    let name = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let public = NOT.iter().any(|not| name.ends_with(not));
    let whole = |part: &str| match part.len() {
        // Short ones are words of their own: PAT is not in PATH, KEY not in KEYBOARD.
        ..4 => name.split('_').any(|word| word == part),
        _ => name.contains(part),
    };
    (!public && NAMES.iter().any(|part| whole(part))) || looks_secret(value)
}

/// Whether a value says by itself that it is one.
fn looks_secret(value: &str) -> bool {
    let long = value.len() >= 12;
    let known = PREFIXES.iter().any(|prefix| value.starts_with(prefix));
    !value.contains("${") && ((long && known) || has_password(value))
}

/// `scheme://user:password@host`
fn has_password(value: &str) -> bool {
    let rest = value.split_once("://").map(|(_, rest)| rest);
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::credential::import::jsonc;

    #[test]
    fn names_and_shapes_say_what_is_a_secret() {
        for (name, value) in [
            ("GITHUB_TOKEN", "abcd"),
            ("DB_PASSWORD", "hunter2"),
            ("OPENAI_API_KEY", "abcdef"),
            ("api-key", "abcdef"),
            ("DATABASE", "postgres://me:pw@db/x"),
            ("OTHER", "ghp_0123456789abcdef"),
        ] {
            assert!(is_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("GITHUB_TOKEN", "${input:token}"),
            ("TOKEN_FILE", "/run/x"),
            ("CLIENT_ID", "abcdef"),
            ("PATH", "/usr/bin"),
            ("KEYBOARD", "german"),
            ("TOKEN", ""),
            ("URL", "https://me@example.com/a:b@c"),
            ("LOG_LEVEL", "debug"),
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
    }

    #[test]
    fn arguments_are_secrets_by_their_flags() {
        let file = r#"{"mcp": {"servers": {"x": {"command": "y", "args": ["--token", "t0ken", "--api-key=k3yk3y",
            "run", "-e", "A_TOKEN=v4lue", "-e", "LEVEL=1", "postgres://u:p@h/d", "--verbose"]}}}}"#;
        let found = in_client(file, &jsonc::parse(file).expect("JSON"));
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.place.as_str(), one.key.as_str(), one.env, one.value.as_str()))
            .collect();
        let wanted = [
            ("argument 2 (token)", "token", false, "t0ken"),
            ("argument 3 (api-key)", "api-key", false, "k3yk3y"),
            ("argument 6 (A_TOKEN)", "A_TOKEN", true, "v4lue"),
            ("argument 9 (arg-9)", "arg-9", false, "postgres://u:p@h/d"),
        ];
        assert_eq!(told, wanted);
    }
}
