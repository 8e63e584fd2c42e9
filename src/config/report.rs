//! What was found wrong in one tenant (or in the main file) so far, with places still as addresses.
//!
//! A report also remembers what was lost on the way, so that one mistake is told once and not again by
//! everything that misses the value.

use std::collections::BTreeSet;
use std::ops::Range;

use super::problem::Problem;
use super::source::Sources;
use crate::names::TenantId;

/// The most flaws that one file is told of; a person corrects the first ones and asks again.
const FLAWS_MAX: usize = 100;

/// The flaws of one file and of the layers below it.
#[derive(Debug, Default)]
pub(super) struct Report {
    flaws: Vec<Flaw>,
    lost: BTreeSet<String>,
    broken: Vec<Range<usize>>,
    more: bool,
    doubtful: bool,
}

#[derive(Debug)]
struct Flaw {
    span: Range<usize>,
    what: String,
    cure: String,
}

impl Report {
    /// Whether nothing is wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.flaws.is_empty()
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.flaws.len() >= FLAWS_MAX
    }

    /// Adds a flaw, unless its line is known not to be TOML: what was read there is a guess.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        if self.broken.iter().any(|lines| lines.contains(&span.start)) {
            return;
        }
        self.push(Flaw { span: span.clone(), what: what.into(), cure: cure.into() });
    }

    /// Adds a flaw of the syntax; `lines` are those that cannot be trusted.
    pub(super) fn add_syntax(
        &mut self,
        span: &Range<usize>,
        lines: Range<usize>,
        what: String,
        cure: String,
    ) {
        self.broken.push(lines);
        self.push(Flaw { span: span.clone(), what, cure });
    }

    /// Adds that the key at `path` is missing, unless it was there and got lost by a flaw of its own.
    pub(super) fn add_missing(
        &mut self,
        span: &Range<usize>,
        path: &str,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        if self.broken.is_empty() && !self.doubtful && !self.is_lost(path) {
            self.add(span, what, cure);
        }
    }

    /// Notes that something under the file is not there as it should be: what seems to be missing may
    /// be missing for that reason.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Notes that the value at `path` was wrong and is no longer there.
    pub(super) fn lose(&mut self, path: String) {
        self.lost.insert(path);
    }

    /// Whether what was read below the key `path` cannot be trusted.
    pub(super) fn taints(&self, path: &str) -> bool {
        let below = |lost: &String| lost.split('.').next() == Some(path);
        !self.broken.is_empty() || self.is_full() || self.lost.iter().any(below)
    }

    fn is_lost(&self, path: &str) -> bool {
        let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.lost.contains(&path[..end]))
    }

    fn push(&mut self, flaw: Flaw) {
        if self.is_full() {
            self.more = true;
        } else if !self.flaws.iter().any(|old| old.span == flaw.span && old.what == flaw.what) {
            self.flaws.push(flaw);
        }
    }

    /// The problems, in the order of their places.
    pub(super) fn problems(
        mut self,
        sources: &Sources<'_>,
        tenant: Option<&TenantId>,
    ) -> Vec<Problem> {
        self.flaws.sort_by_key(|flaw| flaw.span.start);
        let mut problems: Vec<_> =
            self.flaws.into_iter().map(|f| f.settle(sources, tenant)).collect();
        if let (true, Some(last)) = (self.more, problems.last()) {
            let what = format!("there is more; only {FLAWS_MAX} problems are told");
            let problem = Problem::whole(last.file.clone(), what, "correct these first");
            problems.push(Problem { tenant: tenant.cloned(), ..problem });
        }
        problems
    }
}

impl Flaw {
    fn settle(self, sources: &Sources<'_>, tenant: Option<&TenantId>) -> Problem {
        let place = sources.place(self.span.start);
        let (file, line, column) =
            place.map_or((String::new(), 0, 0), |at| (at.file.to_owned(), at.line, at.column));
        Problem { file, line, column, what: self.what, cure: self.cure, tenant: tenant.cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_got_lost_is_not_missed_as_well() {
        let mut report = Report::default();
        report.lose("server.command".into());
        report.add_missing(&(0..1), "server.command", "no command", "");
        report.lose("quota".into());
        report.add_missing(&(0..1), "quota.memory", "no memory", "");
        assert!(report.is_clean());
        report.add_missing(&(0..1), "server.commander", "no commander", "");
        assert!(!report.is_clean());
    }

    #[test]
    fn a_flaw_on_a_line_that_is_not_toml_is_not_told() {
        let mut report = Report::default();
        report.add_syntax(&(9..13), 0..14, "a value needs quotes".into(), String::new());
        report.add(&(9..13), "is not a size", "");
        report.add(&(20..21), "is not a size", "");
        assert_eq!(report.flaws.len(), 2);
    }
}
