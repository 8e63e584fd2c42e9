//! Logins through a browser: authorization code, PKCE, a loopback address.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tenantd::credential::oauth::{
    Attempt, Callback, Client, Document, Registration, Server, exchange, refresh, register, revoke,
};
use tenantd::wire::credential::LoginPlan;

use crate::provider::{Person, Provider, granted};
use crate::{bad, good, plan};

/// How long a person needs at most.
const PERSON: Duration = Duration::from_secs(60);

/// Logs in as a person does.
pub(crate) async fn login(
    plan: &LoginPlan,
    person: &mut Person,
    registration: Option<Registration>,
) -> Document {
    let client = Client::new(None);
    let server = good(Server::discover(&client, plan).await);
    let callback = good(Callback::bind().await);
    let registration = match (registration, &plan.client_id) {
        (Some(registration), _) => registration,
        (None, Some(id)) => Registration::new(&server, id, None),
        (None, None) => good(register(&client, &server, plan, &callback.uri()).await),
    };
    let attempt = Arc::new(good(Attempt::new(&server, plan, &registration, callback.uri())));
    person.open(attempt.url());
    let code = good(callback.wait(Arc::clone(&attempt), PERSON).await);
    let sees = person.sees();
    assert!(sees.contains("You can close this window"), "{sees}");
    let (verifier, redirect) = attempt.proof();
    let code = (code.as_str(), verifier, redirect);
    let resource = plan.resource.as_deref();
    let granted = good(exchange(&client, &server, &registration, code, resource).await);
    Document::new(&server, plan, registration, granted)
}

#[tokio::test]
async fn a_login_through_a_browser_lasts_through_rotations_until_a_rotated_token_is_used_again() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let client = Client::new(None);
    let mut document = login(&plan(&provider.issuer), &mut person, None).await;
    let first = document.clone();
    for _ in 0..3 {
        let next = document.renewed(good(refresh(&client, &document).await));
        assert!(next.access_token != document.access_token);
        assert!(next.refresh_token != document.refresh_token, "rotated");
        let stored = Document::parse(&next.to_bytes()).expect("a document");
        assert!(stored == next);
        document = stored;
    }
    let left = document.expires_at.expect("an end") - document.obtained_at;
    assert_eq!(left, 3600);
    assert!(bad(refresh(&client, &first).await).is("invalid_grant"), "a rotated token used again");
    assert!(bad(refresh(&client, &document).await).is("invalid_grant"), "ends the whole login");
    drop(person);
    assert_eq!(granted(&provider.end(), "refresh_token"), 3);
}

#[tokio::test]
async fn a_program_that_nobody_registered_registers_itself() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let plan = LoginPlan { client_id: None, ..plan(&provider.issuer) };
    let document = login(&plan, &mut person, None).await;
    assert!(document.client.client_secret.is_none());
    good(refresh(&Client::new(None), &document).await);
    let id = document.client.client_id.clone();
    assert!(provider.end().iter().any(|line| line["registered"] == id.as_str()));
}

#[tokio::test]
async fn a_client_with_a_secret_shows_it_whatever_is_in_it() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let plan = LoginPlan { client_id: Some("with secret".into()), ..plan(&provider.issuer) };
    let server = good(Server::discover(&Client::new(None), &plan).await);
    let secret = "a secret: 50% & more".to_owned().into();
    let registration = Registration::new(&server, "with secret", Some(secret));
    let document = login(&plan, &mut person, Some(registration)).await;
    good(refresh(&Client::new(None), &document).await);
}

#[tokio::test]
async fn a_token_is_for_the_resource_that_was_asked_for() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let resource = Some("urn:tests:api".to_owned());
    let plan = LoginPlan { resource: resource.clone(), ..plan(&provider.issuer) };
    let document = login(&plan, &mut person, None).await;
    let document = document.renewed(good(refresh(&Client::new(None), &document).await));
    assert_eq!(document.resource, resource);
    let other = Document::parse(&document.to_bytes()).expect("a document");
    assert!(
        other.belongs_to(&plan) && !other.belongs_to(&LoginPlan { resource: None, ..plan.clone() })
    );
}

#[tokio::test]
async fn a_login_that_was_revoked_is_over_at_the_server() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let client = Client::new(None);
    let document = login(&plan(&provider.issuer), &mut person, None).await;
    assert!(good(revoke(&client, &document).await));
    assert!(bad(refresh(&client, &document).await).is("invalid_grant"));
}

#[tokio::test]
async fn a_person_who_says_no_ends_the_login_at_once() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let (client, plan) = (Client::new(None), plan(&provider.issuer));
    let server = good(Server::discover(&client, &plan).await);
    let callback = good(Callback::bind().await);
    let registration = Registration::new(&server, "by-hand", None);
    let attempt = Arc::new(good(Attempt::new(&server, &plan, &registration, callback.uri())));
    person.refuse(attempt.url());
    assert!(bad(callback.wait(attempt, PERSON).await).is("access_denied"));
    assert!(person.sees().contains("did not succeed"));
}

#[tokio::test]
async fn a_code_is_good_once_and_for_its_own_request() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let (client, plan) = (Client::new(None), plan(&provider.issuer));
    let server = good(Server::discover(&client, &plan).await);
    let registration = Registration::new(&server, "by-hand", None);
    for with_own_verifier in [true, false] {
        let callback = good(Callback::bind().await);
        let attempt = Arc::new(good(Attempt::new(&server, &plan, &registration, callback.uri())));
        person.open(attempt.url());
        let code = good(callback.wait(Arc::clone(&attempt), PERSON).await);
        person.sees();
        let (own, redirect) = attempt.proof();
        let other = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let verifier = if with_own_verifier { own } else { other };
        let code = (code.as_str(), verifier, redirect);
        let first = exchange(&client, &server, &registration, code, None).await;
        assert_eq!(first.is_ok(), with_own_verifier);
        assert!(
            bad(exchange(&client, &server, &registration, code, None).await).is("invalid_grant")
        );
    }
}
