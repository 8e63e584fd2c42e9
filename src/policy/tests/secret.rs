//! Whose secrets are whose.

use super::*;
use crate::config::tenant::{Credential, Delivery, Scope};
use crate::policy::secret::{Denied, Keys};
use crate::wire::credential::Account;

fn credential(name: &str, scope: Scope, servers: &[&str]) -> Credential {
    let servers = servers.iter().map(|name| ServerName::parse(name).expect("a name")).collect();
    Credential { name: name.to_owned(), scope, servers, delivery: Delivery::Env("X".into()) }
}

fn with_credentials(grants: Vec<Grant>) -> Tenant {
    let servers = vec![server("main", true, &[]), server("git", false, &[])];
    Tenant {
        credentials: vec![
            credential("shared", Scope::Tenant, &["main"]),
            credential("own", Scope::User, &["git"]),
        ],
        ..tenant("acme", servers, grants)
    }
}

/// What alice gets who asks for `name`.
fn asked(tenant: Option<&Tenant>, admin: bool, name: &str) -> Result<Account, Denied> {
    let (principal, ids) = (alice(), ids());
    let asker = Asker { principal: &principal, ids: &ids, owner: false };
    let id = TenantId::parse("acme").expect("an id");
    Keys::of(&id, tenant, &asker, admin)?.account(name)
}

fn account(name: &str, user: Option<&str>) -> Account {
    Account { name: name.to_owned(), user: user.map(str::to_owned) }
}

#[test]
fn without_a_grant_a_tenant_is_not_there_whatever_is_asked_for() {
    let hidden = with_credentials(vec![to_user("bob", None, &["admin"])]);
    for name in ["shared", "own", "nosuch"] {
        let there = asked(Some(&hidden), false, name).expect_err("refused").refusal();
        assert_eq!(there, asked(None, false, name).expect_err("refused").refusal());
        assert!(there.elsewhere && there.reason == "unknown-tenant");
    }
}

#[test]
fn a_shared_secret_is_its_admins() {
    let user = with_credentials(vec![to_user("alice", None, &[])]);
    assert!(matches!(asked(Some(&user), false, "shared"), Err(Denied::Shared { .. })));
    let admin = with_credentials(vec![to_user("alice", None, &["admin"])]);
    let root = with_credentials(Vec::new());
    for (tenant, everywhere) in [(&admin, false), (&root, true), (&user, true)] {
        let got = asked(Some(tenant), everywhere, "shared");
        assert_eq!(got, Ok(account("shared", None)));
    }
}

#[test]
fn a_users_secret_is_their_own_and_needs_a_grant_for_a_server_that_gets_it() {
    let user = with_credentials(vec![to_user("alice", Some(&["git"]), &[])]);
    assert_eq!(asked(Some(&user), false, "own"), Ok(account("own", Some("alice"))));
    let elsewhere = with_credentials(vec![to_user("alice", Some(&["main"]), &["admin"])]);
    assert!(matches!(asked(Some(&elsewhere), false, "own"), Err(Denied::NoUser { .. })));
    // Not even who runs everything.
    let nobody = with_credentials(Vec::new());
    assert!(matches!(asked(Some(&nobody), true, "own"), Err(Denied::NoUser { .. })));
}

#[test]
fn a_name_that_is_none_is_told_the_names_that_the_asker_may_see() {
    let choices = |tenant: &Tenant, admin| match asked(Some(tenant), admin, "nosuch") {
        Err(Denied::Unnamed { choices, .. }) => choices,
        other => panic!("{other:?}"),
    };
    let user = with_credentials(vec![to_user("alice", None, &[])]);
    assert_eq!(choices(&user, false), ["own"]);
    assert_eq!(choices(&user, true), ["shared", "own"]);
    let elsewhere = with_credentials(vec![to_user("alice", Some(&["main"]), &[])]);
    assert!(choices(&elsewhere, false).is_empty());
    let said = asked(Some(&user), true, "nosuch").expect_err("refused").to_string();
    assert!(said.contains("choices: shared, own") && said.contains("[[credential]]"), "{said}");
}
