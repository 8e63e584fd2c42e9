//! Logins by a code that is confirmed elsewhere.

use serde_json::json;
use tenantd::credential::oauth::{
    Client, Codes, Document, OauthError, Registration, Server, refresh,
};

use crate::provider::{Person, Provider};
use crate::{bad, good, plan};

#[tokio::test]
async fn a_code_that_is_confirmed_in_a_browser_elsewhere_logs_this_machine_in() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let (client, plan) = (Client::new(None), plan(&provider.issuer));
    let server = good(Server::discover(&client, &plan).await);
    let registration = Registration::new(&server, "by-hand", None);
    let codes = good(Codes::begin(&client, &server, &plan, &registration).await);
    person.confirm(&codes.verification_uri, &codes.user_code);
    let granted = good(codes.wait(&client, &server, &registration).await);
    let document = Document::new(&server, &plan, registration, granted);
    good(refresh(&client, &document).await);
}

#[tokio::test]
async fn a_code_that_nobody_confirms_ends_with_its_time() {
    let Some(provider) = Provider::start(&json!({ "deviceCode": 8 })) else { return };
    let (client, plan) = (Client::new(None), plan(&provider.issuer));
    let server = good(Server::discover(&client, &plan).await);
    let registration = Registration::new(&server, "by-hand", None);
    let codes = good(Codes::begin(&client, &server, &plan, &registration).await);
    let error = bad(codes.wait(&client, &server, &registration).await);
    assert!(matches!(error, OauthError::TimedOut), "{error}");
    let said = provider.end();
    let asked = said.iter().filter(|line| line["refused"] == "authorization_pending").count();
    assert_eq!(asked, 1, "every 5 s: {said:?}");
}
