//! The list of secrets for a person: names, whose, since when, until when; and what to do about those that are
//! not set.

use std::fmt::Write as _;

use crate::cli::print::{age, cut, table, word};
use crate::cli::status::{WARNING, or_dash};
use crate::control::{CredentialLine, CredentialsReply};

/// The longest list of servers or ways shown, characters.
const CELL: usize = 80;

/// The whole page; `now` in seconds since the epoch.
pub(super) fn render(reply: &CredentialsReply, now: i64) -> String {
    let mut page = String::new();
    for problem in &reply.problems {
        let _ = writeln!(page, "problem: {}", cut(problem, WARNING));
    }
    if reply.credentials.is_empty() {
        page.push_str(
            "no credentials that you may see (a [[credential]] in a tenant's file names one)\n",
        );
        return page;
    }
    let heading = ["TENANT", "NAME", "OF", "SET", "AGE", "EXPIRES", "SERVERS", "AS"];
    let rows: Vec<_> = reply.credentials.iter().map(|line| row(line, now)).collect();
    page.push_str(&table(0, &heading, &rows));
    for line in &reply.credentials {
        let Some(cure) = &line.cure else { continue };
        let (name, cure) = (word(&line.name), cut(cure, WARNING));
        let _ = match line.named {
            true => writeln!(page, "{name} is not set: {cure}"),
            false => writeln!(page, "{name} is in no [[credential]], nobody gets it: {cure}"),
        };
    }
    page
}

fn row(line: &CredentialLine, now: i64) -> Vec<String> {
    let set = match (&line.source, line.set) {
        (_, false) => "no".to_owned(),
        (Some(source), true) => word(source),
        (None, true) => "yes".to_owned(),
    };
    let whose = match (&line.user, line.scope.as_str()) {
        (Some(user), _) => word(user),
        (None, "user") => "each user".to_owned(),
        (None, _) => "all".to_owned(),
    };
    vec![
        word(&line.tenant),
        word(&line.name),
        whose,
        set,
        or_dash(line.stored_at.map(|at| age(now.saturating_sub(at))).as_deref()),
        or_dash(line.expires.map(|at| expires(at, now)).as_deref()),
        cut(&line.servers.join(" "), CELL),
        cut(&line.delivery.join(", "), CELL),
    ]
}

fn expires(at: i64, now: i64) -> String {
    match at.saturating_sub(now) {
        left if left > 0 => format!("in {}", age(left)),
        _ => "expired".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_has_its_command_and_nothing_drives_the_terminal() {
        let unset = CredentialLine {
            tenant: "acme".into(),
            name: "token".into(),
            scope: "tenant".into(),
            user: None,
            set: false,
            source: None,
            stored_at: None,
            expires: None,
            servers: vec!["main".into()],
            delivery: vec!["env TOKEN".into()],
            named: true,
            cure: Some("tenantd credential set acme token".into()),
        };
        let own = CredentialLine {
            name: "own\x1b[2J".into(),
            user: Some("bob".into()),
            set: true,
            source: Some("import".into()),
            stored_at: Some(40),
            expires: Some(220),
            named: false,
            cure: Some("tenantd credential remove acme own".into()),
            ..unset.clone()
        };
        let reply =
            CredentialsReply { credentials: vec![unset, own], problems: vec!["bad".into()] };
        let page = render(&reply, 100);
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines[0], "problem: bad");
        let cells: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(cells, ["acme", "token", "all", "no", "-", "-", "main", "env", "TOKEN"]);
        assert!(lines[3].contains("bob  import  1m   in 2m"), "{page}");
        assert_eq!(lines[4], "token is not set: tenantd credential set acme token");
        assert!(lines[5].contains("nobody gets it: tenantd credential remove acme own"), "{page}");
        assert!(!page.contains('\x1b'), "{page}");
    }
}
