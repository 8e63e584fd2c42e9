//! `docs/conformance.md`, held against what the suite says: every check that says something else through
//! tenantd has a row there, and no other has.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::suite::{Check, Checks};

/// Checks, each with what it said.
pub(crate) type List = BTreeMap<String, String>;

/// The table below this heading: its first two cells. The third, mostly the reason, is never empty.
pub(crate) fn documented(heading: &str) -> List {
    let text = include_str!("../../docs/conformance.md");
    let (_, part) = text.split_once(&format!("\n## {heading}\n")).expect("a heading");
    let part = part.split("\n## ").next().unwrap_or(part);
    let mut list = List::new();
    for row in part.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<_> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let [check, outcome, reason] = cells[..] else { panic!("three cells: {row}") };
        assert!(reason.len() > 10, "no reason: {row}");
        let check = check.trim_end_matches('`').to_owned();
        assert!(list.insert(check, outcome.to_owned()).is_none(), "twice: {row}");
    }
    list
}

/// Every outcome of a check, in the order in which it was made; one word if they are all the same.
fn outcome(made: &[Check]) -> String {
    let mut said: Vec<_> = made.iter().map(|check| check.status.as_str()).collect();
    said.dedup();
    said.join(" ")
}

/// How many checks were made. The suite's notes on what it saw are no checks.
pub(crate) fn made(checks: &Checks) -> usize {
    checks.values().flatten().filter(|check| check.status == "SUCCESS").count()
}

/// The checks that did not pass.
pub(crate) fn failing(checks: &Checks) -> List {
    let bad = |check: &Check| ["FAILURE", "WARNING"].contains(&check.status.as_str());
    let failing = checks.iter().filter(|(_, made)| made.iter().any(bad));
    failing.map(|(check, made)| (check.clone(), outcome(made))).collect()
}

/// The checks that do not say the same as without tenantd, and what they say.
pub(crate) fn differing(direct: &Checks, through: &Checks) -> List {
    let statuses = |checks: &Checks, check: &str| -> Option<Vec<String>> {
        Some(checks.get(check)?.iter().map(|check| check.status.clone()).collect())
    };
    let all = direct.keys().chain(through.keys());
    let differing = all.filter(|check| statuses(direct, check) != statuses(through, check));
    let said = |check: &String| through.get(check).map_or("not made".into(), |made| outcome(made));
    differing.map(|check| (check.clone(), said(check))).collect()
}

/// Everything that a run saw, for a comparison of all of it.
pub(crate) fn seen(checks: &Checks) -> Value {
    let saw = |check: &Check| json!([check.status, check.saw]);
    let seen = |made: &Vec<Check>| made.iter().map(saw).collect::<Value>();
    checks.iter().map(|(name, made)| (name.clone(), seen(made))).collect()
}

/// Fails with each check that is on one list only, or with another outcome.
#[track_caller]
pub(crate) fn assert_listed(found: &List, heading: &str) {
    let documented = documented(heading);
    let mut wrong = Vec::new();
    for (check, outcome) in found {
        match documented.get(check) {
            Some(listed) if listed == outcome => {}
            Some(listed) => wrong.push(format!("{check}: {outcome}, listed as {listed}")),
            None => wrong.push(format!("{check}: {outcome}, not listed")),
        }
    }
    let gone = documented.keys().filter(|check| !found.contains_key(*check));
    wrong.extend(gone.map(|check| format!("{check}: listed, but it passes")));
    let wrong = wrong.join("\n");
    assert!(wrong.is_empty(), "docs/conformance.md, \"{heading}\", is not true any more:\n{wrong}");
}
