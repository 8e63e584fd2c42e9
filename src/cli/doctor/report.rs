//! The report of `doctor --isolation`: what an auditor files. Comparing and rendering, pure.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::print::{cut, table, word};
use crate::probes::{Account, Finding, Outcome, accepted};

/// One probe, with and without the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// What was tried inside, and what came of it.
    #[serde(flatten)]
    pub(super) finding: Finding,
    /// What came of it as the same user without a sandbox; nothing where that was not tried.
    pub(super) without_sandbox: Option<Outcome>,
    /// What that means.
    pub(super) verdict: Verdict,
    /// Why it is accepted.
    pub(super) reason: Option<&'static str>,
}

/// What a probe says about the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// It works inside, and must not.
    Open,
    /// It works inside and is no way out.
    Accepted,
    /// It could not be tried.
    NotTried,
    /// The sandbox stops it: without one it works.
    Stopped,
    /// Nobody of this user may do it, sandbox or not: it says nothing about the sandbox.
    RefusedAnyway,
    /// It is refused, and was not tried without a sandbox.
    Refused,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Accepted => "accepted",
            Self::NotTried => "not tried",
            Self::Stopped => "stopped",
            Self::RefusedAnyway => "refused anyway",
            Self::Refused => "refused",
        }
    }
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) open: usize,
    pub(super) accepted: usize,
    pub(super) not_tried: usize,
    pub(super) stopped: usize,
    pub(super) refused_anyway: usize,
    pub(super) refused: usize,
}

/// One of the two tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Side {
    pub(super) id: String,
    pub(super) server: Option<String>,
    /// Of the configuration that runs.
    pub(super) configuration: String,
}

/// All that the digest covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Body {
    /// Of this document's shape.
    pub(super) format: u32,
    pub(super) host: String,
    pub(super) kernel: String,
    pub(super) tenantd: String,
    /// RFC 3339, UTC.
    pub(super) time: String,
    pub(super) mode: String,
    /// Who tried.
    pub(super) inside: Side,
    /// Whom they tried to reach.
    pub(super) other: Side,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) layers_held: Vec<String>,
    pub(super) layers_missing: Vec<String>,
    /// Why there is nothing to compare with, where there is not.
    pub(super) no_comparison: Option<String>,
    pub(super) counts: Counts,
    /// `isolated`, or `NOT ISOLATED`.
    pub(super) verdict: &'static str,
    pub(super) probes: Vec<Row>,
}

/// Puts both runs together. Open first, then in the order of the table.
pub(super) fn compare(inside: &Account, without: Option<&Account>) -> Vec<Row> {
    let mut rows: Vec<_> = inside.findings.iter().map(|finding| row(finding, without)).collect();
    rows.sort_by_key(|row| row.verdict);
    rows
}

fn row(finding: &Finding, without: Option<&Account>) -> Row {
    let other =
        without.and_then(|without| without.findings.iter().find(|other| other.id == finding.id));
    let other = other.map(|other| other.outcome);
    let reason = accepted(&finding.id).filter(|_| finding.outcome == Outcome::Open);
    let verdict = match (finding.outcome, other) {
        (Outcome::Open, _) if reason.is_some() => Verdict::Accepted,
        (Outcome::Open, _) => Verdict::Open,
        (Outcome::FailedToRun, _) => Verdict::NotTried,
        (Outcome::Blocked, Some(Outcome::Open)) => Verdict::Stopped,
        (Outcome::Blocked, Some(Outcome::Blocked)) => Verdict::RefusedAnyway,
        (Outcome::Blocked, _) => Verdict::Refused,
    };
    Row { finding: finding.clone(), without_sandbox: other, verdict, reason }
}

/// Counts them.
pub(super) fn count(rows: &[Row]) -> Counts {
    let of = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    Counts {
        open: of(Verdict::Open),
        accepted: of(Verdict::Accepted),
        not_tried: of(Verdict::NotTried),
        stopped: of(Verdict::Stopped),
        refused_anyway: of(Verdict::RefusedAnyway),
        refused: of(Verdict::Refused),
    }
}

/// For a machine: one line, `{"body": ..., "blake3": ...}`. The digest is of the body as it stands there.
pub(super) fn machine(body: &Body) -> serde_json::Result<String> {
    let body = serde_json::to_string(body)?;
    let digest = blake3::hash(body.as_bytes());
    Ok(format!("{{\"body\":{body},\"blake3\":\"{digest}\"}}\n"))
}

/// For a person. The digest, on the last line, is of everything above that line.
pub(super) fn person(body: &Body) -> String {
    let mut page = head(body);
    let rows: Vec<_> = body.probes.iter().map(cells).collect();
    page.push('\n');
    page.push_str(&table(0, &["PROBE", "VERDICT", "INSIDE", "WITHOUT", "WHAT", "DETAIL"], &rows));
    let accepted: Vec<_> = body.probes.iter().filter_map(|row| Some((row, row.reason?))).collect();
    if !accepted.is_empty() {
        page.push_str("\naccepted, because:\n");
        for (row, reason) in accepted {
            let _ = writeln!(page, "  {}: {reason}", row.finding.id);
        }
    }
    let digest = blake3::hash(page.as_bytes());
    let _ = writeln!(page, "blake3 of all above: {digest}");
    page
}

fn head(body: &Body) -> String {
    let side = |side: &Side| {
        let server = side.server.as_deref().map(|server| format!("/{}", word(server)));
        format!(
            "{}{}, configuration {}",
            word(&side.id),
            server.unwrap_or_default(),
            side.configuration
        )
    };
    let mut page = format!("{}: {}\n\n", body.verdict, sentence(body));
    let layers = match &*body.layers_held {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    let facts = [
        ("host", word(&body.host)),
        ("kernel", word(&body.kernel)),
        ("tenantd", format!("{}, {} mode", body.tenantd, body.mode)),
        ("time", body.time.clone()),
        ("inside", side(&body.inside)),
        ("against", side(&body.other)),
        ("uid, gid", format!("{}, {}", body.uid, body.gid)),
        ("layers", layers),
    ];
    for (name, fact) in facts {
        let _ = writeln!(page, "{name:<9} {fact}");
    }
    for missing in &body.layers_missing {
        let _ = writeln!(page, "{:<9} {}", "missing", cut(missing, 600));
    }
    if let Some(why) = &body.no_comparison {
        let _ = writeln!(page, "{:<9} {why}", "compared");
    }
    page
}

fn sentence(body: &Body) -> String {
    let Counts { open, accepted, not_tried, stopped, refused_anyway, refused } = body.counts;
    let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
    format!(
        "{open} open, {stopped} stopped by the sandbox, {refused_anyway} refused to this user anyway{refused}, \
         {accepted} accepted, {not_tried} not tried"
    )
}

fn cells(row: &Row) -> Vec<String> {
    let without = row.without_sandbox.map_or("-", Outcome::as_str);
    vec![
        row.finding.id.clone(),
        row.verdict.as_str().to_owned(),
        row.finding.outcome.as_str().to_owned(),
        without.to_owned(),
        cut(&row.finding.title, 70),
        cut(&row.finding.detail, 70),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(outcomes: &[(&str, Outcome)]) -> Account {
        let finding = |(id, outcome): &(&str, Outcome)| Finding {
            id: (*id).to_owned(),
            group: "g".to_owned(),
            title: "t\x1b[2J".to_owned(),
            attempt: "a".to_owned(),
            outcome: *outcome,
            detail: "d\n".to_owned(),
        };
        Account { uid: 1, gid: 1, findings: outcomes.iter().map(finding).collect() }
    }

    fn body(probes: Vec<Row>) -> Body {
        let side = Side { id: "acme".into(), server: None, configuration: "c".into() };
        Body {
            format: 1,
            host: "h".into(),
            kernel: "k".into(),
            tenantd: "v".into(),
            time: "t".into(),
            mode: "user".into(),
            inside: side.clone(),
            other: side,
            uid: 1,
            gid: 1,
            layers_held: vec![],
            layers_missing: vec![],
            no_comparison: None,
            counts: count(&probes),
            verdict: "isolated",
            probes,
        }
    }

    #[test]
    fn only_what_is_open_without_the_sandbox_counts_for_it() {
        use Outcome::{Blocked, FailedToRun, Open};
        let inside = account(&[
            ("a", Blocked),
            ("b", Blocked),
            ("c", Open),
            ("programs.memfd", Open),
            ("d", FailedToRun),
            ("e", Blocked),
        ]);
        let without =
            account(&[("a", Open), ("b", Blocked), ("c", Blocked), ("programs.memfd", Open)]);
        let counts = count(&compare(&inside, Some(&without)));
        let one = Counts {
            open: 1,
            accepted: 1,
            not_tried: 1,
            stopped: 1,
            refused_anyway: 1,
            refused: 1,
        };
        assert_eq!(counts, one);
        assert_eq!(count(&compare(&inside, None)).refused, 3);
        assert_eq!(compare(&inside, None)[0].verdict, Verdict::Open, "what is open stands first");
    }

    #[test]
    fn the_digest_is_of_what_stands_before_it() {
        let body = body(compare(&account(&[("a", Outcome::Blocked)]), None));
        let page = person(&body);
        let (above, last) = page.trim_end().rsplit_once('\n').expect("two lines");
        let digest = blake3::hash(format!("{above}\n").as_bytes()).to_string();
        assert!(last.ends_with(&digest), "{last}");
        assert!(!page.contains('\x1b'), "{page}");
        let line = machine(&body).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let text = line.split_once("{\"body\":").expect("a body").1;
        let text = text.rsplit_once(",\"blake3\":").expect("a digest").0;
        assert_eq!(value["blake3"], blake3::hash(text.as_bytes()).to_string());
    }
}
