//! What happened to each tenant lately, for who asks why: refusals and starts, the last few of each.
//!
//! Kept in memory, for tenants that have a file. One tenant's noise pushes out nothing of another's: who
//! is refused again and again for one reason fills one line, and where too many tenants have a history,
//! the one that was quiet for longest loses its own. Pure: time is an argument.

use std::collections::{BTreeMap, VecDeque};

use crate::auth::Principal;
use crate::names::{ServerName, TenantId};
use crate::policy::reason::one_line;
use crate::wire::Refusal;

/// Refusals, and starts, of one tenant.
const LINES: usize = 20;
/// Tenants with a history: with lines of at most some 500 bytes, 10 MiB in all.
const TENANTS: usize = 512;

/// A session that was refused, or that had to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Seconds since the epoch, of the last time.
    pub(super) at: i64,
    pub(super) uid: u32,
    pub(super) user: String,
    /// For machines, as in [`Refusal`].
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether the session stayed, to wait for the cure.
    pub(super) waits: bool,
    /// How often in a row.
    pub(super) times: u64,
}

/// A child that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// Cell and child: unique in this supervisor's life.
    key: (u64, u64),
    /// Seconds since the epoch.
    pub(super) at: i64,
    pub(super) server: ServerName,
    /// Whose it is, where `share` is user or session.
    pub(super) user: Option<String>,
    /// The pid of its keeper, once it was started.
    pub(super) pid: Option<i32>,
    /// How and when it ended.
    pub(super) end: Option<(String, i64)>,
}

/// One tenant's.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// When it grew last: a count, not a time.
    touched: u64,
    pub(super) refusals: VecDeque<Refused>,
    pub(super) starts: VecDeque<Start>,
}

/// Every tenant's.
#[derive(Debug, Default)]
pub(super) struct History {
    tenants: BTreeMap<TenantId, Past>,
    touches: u64,
}

impl History {
    /// What is known of a tenant; nothing of one that nothing happened to.
    pub(super) fn of(&self, tenant: &TenantId) -> Option<&Past> {
        self.tenants.get(tenant)
    }

    /// A session was refused, or waits.
    pub(super) fn refused(
        &mut self,
        tenant: &TenantId,
        who: &Principal,
        refusal: &Refusal,
        waits: bool,
        at: i64,
    ) {
        let lines = &mut self.touch(tenant).refusals;
        let again = |line: &Refused| {
            (line.uid, &line.reason, line.waits) == (who.uid, &refusal.reason, waits)
        };
        let known = lines.iter().position(again).and_then(|at| lines.remove(at));
        let line = Refused {
            at,
            uid: who.uid,
            user: who.user.clone(),
            reason: refusal.reason.clone(),
            message: refusal.message.clone(),
            waits,
            times: known.map_or(0, |line| line.times).saturating_add(1),
        };
        push(lines, line);
    }

    /// A child was wanted.
    pub(super) fn started(
        &mut self,
        tenant: &TenantId,
        key: (u64, u64),
        server: &ServerName,
        user: Option<&str>,
        at: i64,
    ) {
        let (server, user) = (server.clone(), user.map(str::to_owned));
        push(&mut self.touch(tenant).starts, Start { key, at, server, user, pid: None, end: None });
    }

    /// It runs.
    pub(super) fn runs(&mut self, tenant: &TenantId, key: (u64, u64), pid: i32) {
        self.start(tenant, key).into_iter().for_each(|start| start.pid = Some(pid));
    }

    /// It ended, or was not started.
    pub(super) fn ended(&mut self, tenant: &TenantId, key: (u64, u64), how: &str, at: i64) {
        let how = one_line(how);
        self.start(tenant, key).into_iter().for_each(|start| start.end = Some((how.clone(), at)));
    }

    /// The mux of a tenant has ended, and its children with it.
    pub(super) fn all_ended(&mut self, tenant: &TenantId, cell: u64, at: i64) {
        let starts = self.tenants.get_mut(tenant).into_iter().flat_map(|past| &mut past.starts);
        for start in starts.filter(|start| start.key.0 == cell && start.end.is_none()) {
            start.end = Some(("it ended with its mux".to_owned(), at));
        }
    }

    /// Forgets the tenants that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&TenantId) -> bool) {
        self.tenants.retain(|tenant, _| is_there(tenant));
    }

    fn start(&mut self, tenant: &TenantId, key: (u64, u64)) -> Option<&mut Start> {
        self.tenants.get_mut(tenant)?.starts.iter_mut().find(|start| start.key == key)
    }

    fn touch(&mut self, tenant: &TenantId) -> &mut Past {
        self.touches += 1;
        if !self.tenants.contains_key(tenant) && self.tenants.len() >= TENANTS {
            let quiet = self.tenants.iter().min_by_key(|(_, past)| past.touched);
            if let Some(quiet) = quiet.map(|(tenant, _)| tenant.clone()) {
                self.tenants.remove(&quiet);
            }
        }
        let past = self.tenants.entry(tenant.clone()).or_default();
        past.touched = self.touches;
        past
    }
}

fn push<T>(lines: &mut VecDeque<T>, line: T) {
    if lines.len() >= LINES {
        lines.pop_front();
    }
    lines.push_back(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TenantId {
        TenantId::parse(text).expect("an id")
    }

    fn who(uid: u32) -> Principal {
        Principal { uid, gid: uid, user: format!("u{uid}"), groups: Vec::new(), pidfd: None }
    }

    fn no(reason: &str) -> Refusal {
        let (reason, message) = (reason.to_owned(), "no".to_owned());
        Refusal { message, code: 69, reason, elsewhere: false }
    }

    #[test]
    fn one_who_knocks_a_thousand_times_fills_one_line() {
        let mut history = History::default();
        history.refused(&id("acme"), &who(1), &no("suspended"), false, 1);
        (2..1_000).for_each(|at| {
            history.refused(&id("acme"), &who(2), &no("unknown-tenant"), false, at);
        });
        let past = history.of(&id("acme")).expect("a past");
        let seen: Vec<_> = past.refusals.iter().map(|line| (line.uid, line.times)).collect();
        assert_eq!(seen, [(1, 1), (2, 998)]);
        assert_eq!(past.refusals.back().map(|line| line.at), Some(999));
    }

    #[test]
    fn lines_and_tenants_are_bounded_and_the_quiet_one_goes_first() {
        let mut history = History::default();
        let main = ServerName::main();
        for n in 0..100 {
            history.started(&id("acme"), (1, n), &main, None, 0);
            history.refused(
                &id("acme"),
                &who(u32::try_from(n).expect("small")),
                &no("x"),
                false,
                0,
            );
        }
        let past = history.of(&id("acme")).expect("a past");
        assert_eq!((past.refusals.len(), past.starts.len()), (LINES, LINES));
        history.started(&id("quiet"), (2, 1), &main, None, 0);
        for n in 0..TENANTS {
            history.started(&id("acme"), (1, 1), &main, None, 0);
            history.started(&id(&format!("t{n}")), (3, 1), &main, None, 0);
        }
        assert_eq!(history.tenants.len(), TENANTS);
        assert!(history.of(&id("quiet")).is_none() && history.of(&id("acme")).is_some());
        history.keep(|tenant| tenant.as_str() == "acme");
        assert_eq!(history.tenants.len(), 1);
    }

    #[test]
    fn a_start_is_known_by_its_cell_and_child_and_ends_once_told_or_with_its_mux() {
        let (mut history, acme, main) = (History::default(), id("acme"), ServerName::main());
        history.started(&acme, (1, 1), &main, None, 10);
        history.started(&acme, (1, 2), &main, Some("alice"), 11);
        history.started(&acme, (2, 1), &main, None, 12);
        history.runs(&acme, (1, 1), 4242);
        history.ended(&acme, (1, 1), "exited with\ncode 1", 13);
        history.all_ended(&acme, 1, 14);
        let starts: Vec<_> = history.of(&acme).expect("a past").starts.iter().collect();
        assert_eq!(starts[0].pid, Some(4242));
        assert_eq!(starts[0].end, Some(("exited with code 1".to_owned(), 13)));
        assert_eq!(starts[1].end.as_ref().map(|(_, at)| *at), Some(14));
        assert_eq!(starts[2].end, None);
    }
}
