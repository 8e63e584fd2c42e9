//! The order and the silence of the decisions.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::auth::{Ids, Principal};
use crate::config::tenant::{Grant, Limit, Network, Patterns, Quota, Sandbox, Share, Start, Tools};

mod secret;

fn server(name: &str, default: bool, require: &[Layer]) -> Server {
    Server {
        name: ServerName::parse(name).expect("a name"),
        default,
        command: "/bin/true".into(),
        args: Vec::new(),
        env: BTreeMap::new(),
        share: Share::Tenant,
        max_children: 8,
        start: Start::OnDemand,
        idle_timeout: Limit::Unlimited,
        request_timeout: Limit::Unlimited,
        start_timeout: Duration::from_secs(9),
        shared_capabilities: Vec::new(),
        sha256: None,
        needs: crate::config::tenant::Needs::default(),
        sandbox: Sandbox {
            network: Network::None,
            read: Vec::new(),
            write: Vec::new(),
            tmp: 0,
            data_exec: false,
            groups: Vec::new(),
            require: require.to_vec(),
        },
    }
}

fn tenant(id: &str, servers: Vec<Server>, grants: Vec<Grant>) -> Tenant {
    Tenant {
        id: TenantId::parse(id).expect("an id"),
        name: id.to_uppercase(),
        status: Status::Active,
        data: None,
        servers,
        grants,
        tools: Tools { patterns: Patterns::default(), require: BTreeMap::new(), pin: true },
        quota: Quota {
            requests_per_minute: Limit::Unlimited,
            concurrent_requests: Limit::Unlimited,
            sessions: Limit::At(2),
            max_tools: Limit::Unlimited,
            max_resources: Limit::Unlimited,
            storage: Limit::Unlimited,
            memory: Limit::Unlimited,
            cpus: Limit::Unlimited,
            processes: Limit::Unlimited,
            open_files: Limit::Unlimited,
            io: Limit::Unlimited,
            message_size: Limit::Unlimited,
        },
        credentials: Vec::new(),
        logins: BTreeMap::new(),
        features: BTreeMap::new(),
        not_enforced: Vec::new(),
        digest: String::new(),
        start_digest: String::new(),
    }
}

fn to_user(name: &str, servers: Option<&[&str]>, permissions: &[&str]) -> Grant {
    let parse = |names: &[&str]| names.iter().map(|n| ServerName::parse(n).expect("n")).collect();
    Grant {
        users: vec![name.to_owned()],
        servers: servers.map(parse),
        permissions: permissions.iter().map(|&p| p.to_owned()).collect(),
        ..Grant::default()
    }
}

fn alice() -> Principal {
    Principal { uid: 1000, gid: 1000, user: "alice".into(), groups: vec![44], pidfd: None }
}

fn ids() -> Ids {
    Ids {
        users: [("alice".to_owned(), 1000), ("bob".to_owned(), 1001)].into(),
        groups: [("video".to_owned(), 44), ("wheel".to_owned(), 10)].into(),
        unknown: Vec::new(),
    }
}

const NOW: Moment<'_> = Moment { now: 1_000, open_sessions: 0, layers: &[], strict: false };

fn ask(tenant: Option<&Tenant>, server: Option<&str>, owner: bool, moment: Moment<'_>) -> Verdict {
    let (principal, ids) = (alice(), ids());
    let asker = Asker { principal: &principal, ids: &ids, owner };
    let id = TenantId::parse("acme").expect("an id");
    let server = server.map(|name| ServerName::parse(name).expect("a name"));
    admit(&id, server.as_ref(), tenant, &asker, moment)
}

fn refused(verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Refuse(reason) => reason,
        Verdict::Admit(terms) => panic!("admitted: {terms:?}"),
        Verdict::Wait(terms, reason) => panic!("waits with {terms:?}: {reason}"),
    }
}

fn waiting(verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Wait(_, reason) => reason,
        other => panic!("does not wait: {other:?}"),
    }
}

fn admitted(verdict: Verdict) -> Terms {
    match verdict {
        Verdict::Admit(terms) => terms,
        Verdict::Refuse(reason) | Verdict::Wait(_, reason) => panic!("refused: {reason}"),
    }
}

#[test]
fn no_grant_and_no_tenant_look_the_same() {
    let others = tenant("acme", vec![server("main", true, &[])], vec![to_user("bob", None, &[])]);
    let no_grant = refused(ask(Some(&others), None, false, NOW)).refusal();
    let no_tenant = refused(ask(None, None, false, NOW)).refusal();
    assert_eq!(no_grant, no_tenant);
    assert_eq!((no_grant.code, no_grant.elsewhere), (77, true));
}

#[test]
fn without_a_grant_neither_status_nor_servers_nor_layers_show() {
    let mut hidden = tenant("acme", vec![server("main", true, &[Layer::Seccomp])], vec![]);
    hidden.status = Status::Suspended;
    let reason = refused(ask(Some(&hidden), Some("git"), false, NOW));
    assert!(matches!(reason, Reason::UnknownTenant(_)), "{reason}");
}

#[test]
fn grants_match_by_name_by_number_and_by_group() {
    let one = || vec![server("main", true, &[])];
    for user in ["alice", "1000"] {
        let granted = tenant("acme", one(), vec![to_user(user, None, &["read"])]);
        assert_eq!(admitted(ask(Some(&granted), None, false, NOW)).permissions, ["read"]);
    }
    for (group, matches) in [("video", true), ("44", true), ("1000", true), ("wheel", false)] {
        let grant = Grant { groups: vec![group.to_owned()], ..Grant::default() };
        let granted = tenant("acme", one(), vec![grant]);
        let verdict = ask(Some(&granted), None, false, NOW);
        assert_eq!(matches!(verdict, Verdict::Admit(_)), matches, "{group}");
    }
}

#[test]
fn several_grants_add_up() {
    let grants = vec![
        to_user("alice", Some(&["files"]), &["read"]),
        to_user("1000", Some(&["git"]), &["write"]),
    ];
    let servers =
        vec![server("files", false, &[]), server("git", false, &[]), server("db", true, &[])];
    let granted = tenant("acme", servers, grants);
    assert_eq!(
        admitted(ask(Some(&granted), Some("git"), false, NOW)).permissions,
        ["read", "write"]
    );
    let reason = refused(ask(Some(&granted), Some("db"), false, NOW)).to_string();
    assert!(reason.contains("choices: files, git") && !reason.contains("db,"), "{reason}");
    assert!(matches!(refused(ask(Some(&granted), None, false, NOW)), Reason::ChooseServer { .. }));
}

#[test]
fn the_owner_needs_no_grant() {
    let own = tenant("acme", vec![server("main", true, &[])], vec![]);
    assert_eq!(admitted(ask(Some(&own), None, true, NOW)).permissions, [grant::ADMIN]);
}

#[test]
fn status_comes_before_layers_and_layers_before_the_quota() {
    let mut one = tenant("acme", vec![server("main", true, &[Layer::Seccomp])], vec![]);
    let full = Moment { open_sessions: 2, strict: true, ..NOW };
    one.status = Status::Suspended;
    assert!(matches!(refused(ask(Some(&one), None, true, full)), Reason::Suspended(_)));
    one.status = Status::Trial { until: 1_000 };
    assert!(matches!(refused(ask(Some(&one), None, true, full)), Reason::TrialOver(_)));
    one.status = Status::Trial { until: 1_001 };
    let reason = refused(ask(Some(&one), None, true, full)).to_string();
    assert!(reason.contains("seccomp") && reason.contains("tenantd doctor"), "{reason}");
    let given = Moment { layers: &[Layer::Seccomp], ..full };
    assert!(matches!(refused(ask(Some(&one), None, true, given)), Reason::SessionQuota { .. }));
    let last = Moment { open_sessions: 1, ..given };
    admitted(ask(Some(&one), None, true, last));
    let held = Moment { layers: &[Layer::Seccomp], ..NOW };
    admitted(ask(Some(&one), None, true, held));
}

#[test]
fn what_can_be_cured_lets_a_session_wait_while_the_quota_has_room() {
    let mut one = tenant("acme", vec![server("main", true, &[Layer::Seccomp])], vec![]);
    assert!(matches!(waiting(ask(Some(&one), None, true, NOW)), Reason::NotIsolated { .. }));
    one.status = Status::Suspended;
    assert!(matches!(waiting(ask(Some(&one), None, true, NOW)), Reason::Suspended(_)));
    let full = Moment { open_sessions: 2, ..NOW };
    assert!(matches!(refused(ask(Some(&one), None, true, full)), Reason::SessionQuota { .. }));
}

#[test]
fn a_file_that_was_never_good_is_waited_for_by_the_owner_alone() {
    let (principal, ids) = (alice(), ids());
    let id = TenantId::parse("acme").expect("an id");
    let broken = Reason::Broken { tenant: id.clone(), problem: "acme.toml:1:2: x; y".into() };
    let ask = |owner, admin, moment| {
        let asker = Asker { principal: &principal, ids: &ids, owner };
        admit_broken(&id, None, broken.clone(), admin, &asker, moment)
    };
    match ask(true, true, NOW) {
        Verdict::Wait(terms, reason) => {
            assert_eq!((terms.server, &reason), (ServerName::main(), &broken));
            let ailment = reason.ailment();
            assert!(ailment.message.contains("acme.toml:1:2: x; y") && ailment.code == 78);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(ask(true, true, Moment { strict: true, ..NOW })), broken);
    assert_eq!(refused(ask(false, true, NOW)), broken);
    assert_eq!(refused(ask(false, false, NOW)), Reason::UnknownTenant(id.clone()));
    let full = Moment { open_sessions: BROKEN_SESSIONS, ..NOW };
    assert!(matches!(refused(ask(true, true, full)), Reason::SessionQuota { .. }));
}

fn any_status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Active),
        Just(Status::Suspended),
        (900_i64..1_100).prop_map(|until| Status::Trial { until }),
    ]
}

proptest! {
    #[test]
    fn only_who_has_a_grant_waits_and_nobody_waits_for_what_is_final(
        status in any_status(),
        grantee in prop::sample::select(vec!["alice", "bob"]),
        granted in prop::sample::select(vec![None, Some(vec!["main"]), Some(vec!["git"])]),
        named in prop::sample::select(vec![None, Some("main"), Some("git"), Some("nosuch")]),
        needs in prop::sample::subsequence(vec![Layer::Seccomp, Layer::Cgroup], 0..=2),
        held in prop::sample::subsequence(vec![Layer::Seccomp, Layer::Cgroup], 0..=2),
        (owner, strict) in any::<(bool, bool)>(),
        open_sessions in 0_u32..4,
    ) {
        let servers = vec![server("main", true, &needs), server("git", false, &[])];
        let mut one = tenant("acme", servers, vec![to_user(grantee, granted.as_deref(), &[])]);
        one.status = status;
        let moment = Moment { now: 1_000, open_sessions, layers: &held, strict };
        match ask(Some(&one), named, owner, moment) {
            Verdict::Admit(terms) => {
                let bound = one.server(&terms.server).expect("it is there");
                prop_assert_eq!(runs(&one, bound, moment), Ok(()));
                prop_assert!((owner || grantee == "alice") && open_sessions < 2);
            }
            Verdict::Wait(terms, reason) => {
                prop_assert!(owner || grantee == "alice", "waits without a grant: {}", reason);
                prop_assert!(reason.is_curable() && !strict && open_sessions < 2, "{}", reason);
                let bound = one.server(&terms.server).expect("it is there");
                prop_assert_eq!(runs(&one, bound, moment), Err(reason));
            }
            Verdict::Refuse(reason) => {
                prop_assert!(strict || !reason.is_curable(), "could wait: {}", reason);
                let blind = !owner && grantee == "bob";
                prop_assert_eq!(matches!(reason, Reason::UnknownTenant(_)), blind, "{}", reason);
            }
        }
    }
}

#[test]
fn without_a_name_the_only_usable_tenant_is_meant() {
    let mine = tenant("acme", vec![server("main", true, &[])], vec![to_user("alice", None, &[])]);
    let other = tenant("globex", vec![server("main", true, &[])], vec![to_user("bob", None, &[])]);
    let (principal, ids) = (alice(), ids());
    let asker = Asker { principal: &principal, ids: &ids, owner: false };
    let target = Target::default();
    let chosen = choose(&target, [&mine, &other].into_iter(), &asker).expect("one");
    assert_eq!(chosen.as_str(), "acme");
    assert_eq!(choose(&target, [&other].into_iter(), &asker), Err(Reason::NoTenant));
    let owner = Asker { owner: true, ..asker };
    let several = choose(&target, [&mine, &other].into_iter(), &owner).expect_err("two").refusal();
    assert!(several.message.contains("acme, globex"), "{}", several.message);
    assert_eq!(several.code, 64);
}

#[test]
fn admins_are_root_the_owner_and_those_named() {
    let (mut principal, ids) = (alice(), ids());
    let admins = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
    let is = |principal: &Principal, owner, names: &[&str]| {
        Asker { principal, ids: &ids, owner }.is_admin(&admins(names))
    };
    assert!(!is(&principal, false, &["bob", "@wheel"]));
    assert!(is(&principal, false, &["alice"]) && is(&principal, false, &["@video"]));
    assert!(is(&principal, true, &[]));
    principal.uid = 0;
    assert!(is(&principal, false, &[]));
}

#[test]
fn a_refusal_is_one_short_printable_line() {
    let long = reason::refusal(&"ä\n\u{1b}".repeat(300), 69, "x", false);
    assert!(long.message.len() < 300 && !long.message.contains(['\n', '\u{1b}']));
    let quoted = reason::quoted(&"\u{1b}[2J".repeat(50));
    assert!(quoted.len() < 400 && !quoted.contains('\u{1b}'), "{quoted}");
}
