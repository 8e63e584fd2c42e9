//! A login in a store, renewed by one process at a time.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;
use tenantd::credential::oauth::{Client, Document, Login};
use tenantd::credential::{Opened, StoreError};
use tenantd::names::TenantId;
use tenantd::wire::credential::{Account, LoginPlan, Trouble};
use zeroize::Zeroizing;

use crate::browser::login;
use crate::plan;
use crate::provider::{Person, Provider, granted};

/// A store of one file.
struct OneFile(PathBuf);

impl Opened for OneFile {
    fn get(&self, _: &Account) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        Ok(std::fs::read(&self.0).ok().map(Zeroizing::new))
    }

    fn set(&self, _: &Account, value: &[u8]) -> Result<(), StoreError> {
        let beside = self.0.with_extension(format!("{:?}", std::thread::current().id()));
        std::fs::write(&beside, value).expect("written");
        std::fs::rename(&beside, &self.0).expect("in its place");
        Ok(())
    }

    fn remove(&self, _: &Account) -> Result<(), StoreError> {
        std::fs::remove_file(&self.0).expect("removed");
        Ok(())
    }
}

/// Looks after the login, as one role does: with its own opening of everything.
fn ready(directory: &Path, plan: &LoginPlan, renew: bool) -> Result<Document, (Trouble, String)> {
    let store = OneFile(directory.join("login"));
    let lock =
        File::options().create(true).append(true).open(directory.join("lock")).expect("a lock");
    let tenant = TenantId::parse("acme").expect("an id");
    let account = Account { name: "tracker".into(), user: None };
    let until = Instant::now() + Duration::from_secs(30);
    let login = Login {
        store: &store,
        tenant: &tenant,
        account: &account,
        plan,
        lock: lock.as_fd(),
        until,
    };
    let ready = login.ready(&Client::new(None), renew);
    ready.map_err(|error| (error.trouble, error.reason))
}

/// A provider with a login of it in a store.
fn logged_in(
    settings: &serde_json::Value,
) -> Option<(Provider, tempfile::TempDir, LoginPlan, Document)> {
    let (provider, mut person) = (Provider::start(settings)?, Person::new()?);
    let plan = plan(&provider.issuer);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let document = runtime.block_on(login(&plan, &mut person, None));
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("login"), &*document.to_bytes()).expect("stored");
    Some((provider, directory, plan, document))
}

#[test]
fn a_token_with_life_left_is_handed_over_as_it_is_and_renewed_where_a_server_refused_it() {
    let Some((provider, directory, plan, first)) = logged_in(&json!({})) else { return };
    assert!(ready(directory.path(), &plan, false).expect("a token") == first);
    let second = ready(directory.path(), &plan, true).expect("a token");
    assert!(second.access_token != first.access_token);
    assert!(ready(directory.path(), &plan, false).expect("a token") == second, "it was stored");
    assert_eq!(granted(&provider.end(), "refresh_token"), 1);
}

#[test]
fn of_many_who_find_a_token_at_its_end_one_asks_the_server() {
    let Some((provider, directory, plan, first)) = logged_in(&json!({ "accessToken": 3600 }))
    else {
        return;
    };
    // The same token, given out long ago by the clock of this machine.
    let aged = Document {
        obtained_at: first.obtained_at - 3590,
        expires_at: Some(first.obtained_at + 10),
        ..first.clone()
    };
    std::fs::write(directory.path().join("login"), &*aged.to_bytes()).expect("stored");
    let barrier = Barrier::new(4);
    let documents: Vec<_> = std::thread::scope(|scope| {
        let one = || {
            barrier.wait();
            ready(directory.path(), &plan, false).expect("a token")
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an end")).collect()
    });
    assert!(documents.iter().all(|document| *document == documents[0]));
    assert!(documents[0].access_token != first.access_token);
    assert_eq!(granted(&provider.end(), "refresh_token"), 1);
}

#[test]
fn a_login_that_its_server_ended_says_how_to_log_in_again() {
    let Some((provider, directory, plan, first)) = logged_in(&json!({})) else { return };
    ready(directory.path(), &plan, true).expect("renewed");
    // A copy of the store from before: its refresh token was rotated since.
    std::fs::write(directory.path().join("login"), &*first.to_bytes()).expect("stored");
    let (trouble, reason) = ready(directory.path(), &plan, true).expect_err("over");
    assert_eq!(trouble, Trouble::LoginOver);
    assert!(reason.contains("tenantd login acme tracker"), "{reason}");
    drop(provider);
}

#[test]
fn a_server_that_is_away_takes_no_token_away_that_is_still_good() {
    let Some((provider, directory, plan, first)) = logged_in(&json!({})) else { return };
    drop(provider);
    assert!(ready(directory.path(), &plan, true).expect("the old token") == first);
    let ended = Document {
        obtained_at: first.obtained_at - 7200,
        expires_at: Some(first.obtained_at - 3600),
        ..first
    };
    std::fs::write(directory.path().join("login"), &*ended.to_bytes()).expect("stored");
    let (trouble, reason) = ready(directory.path(), &plan, false).expect_err("ended");
    assert_eq!(trouble, Trouble::Unreachable, "{reason}");
}

#[test]
fn a_clock_that_went_back_makes_no_token_younger() {
    let Some((provider, directory, plan, first)) = logged_in(&json!({})) else { return };
    // By the clock of then it was a day later.
    let day = 24 * 3600;
    let later = Document {
        obtained_at: first.obtained_at + day,
        expires_at: Some(first.obtained_at + day + 3600),
        ..first.clone()
    };
    std::fs::write(directory.path().join("login"), &*later.to_bytes()).expect("stored");
    let renewed = ready(directory.path(), &plan, false).expect("a token");
    assert!(renewed.access_token != first.access_token && renewed.obtained_at < later.obtained_at);
    drop(provider);
}

#[test]
fn what_is_no_login_or_one_of_another_server_is_not_sent_anywhere() {
    let Some((provider, directory, plan, first)) = logged_in(&json!({})) else { return };
    let other = LoginPlan { issuer: Some("https://other.example".into()), ..plan.clone() };
    assert_eq!(ready(directory.path(), &other, true).expect_err("another").0, Trouble::LoginOver);
    std::fs::write(directory.path().join("login"), first.access_token.as_bytes()).expect("stored");
    let (trouble, reason) = ready(directory.path(), &plan, false).expect_err("no login");
    assert_eq!(trouble, Trouble::LoginOver);
    assert!(!reason.contains(first.access_token.as_str()) && reason.contains("tenantd login"));
    std::fs::remove_file(directory.path().join("login")).expect("removed");
    assert_eq!(ready(directory.path(), &plan, false).expect_err("none").0, Trouble::Missing);
    assert_eq!(granted(&provider.end(), "refresh_token"), 0);
}
