//! People's desktops: whatever environment, namespace, process tree or standard streams a client gives
//! `connect`, it reaches the one supervisor of its user, and that supervisor outlives the client.

#![allow(missing_docs, reason = "a test binary has no API")]

mod containers;
mod environments;
mod kills;
mod manager;
mod silence;
mod starts;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod vanishing;

use serde_json::json;
use support::{Era, Person, Session, documents_tenant};

/// A person with the tenant `acme`; `None` where the test cannot run.
fn person() -> Option<Person> {
    let person = Person::new()?;
    person.tenant("acme", &documents_tenant());
    Some(person)
}

/// The session works: its server answers.
fn assert_works(session: &mut Session) {
    session.open(Era::Modern);
    assert_echoes(session);
}

/// An open session still works.
fn assert_echoes(session: &mut Session) {
    let result = session.call("echo", json!({"text": "well"}));
    assert_eq!(result["content"][0]["text"], "well");
}

/// What a client shows of a refusal, and the exit code.
fn refused(mut session: Session) -> (String, Option<i32>) {
    let error = session.initialize(json!({}))["error"].take();
    let message = error["message"].as_str().unwrap_or_else(|| panic!("no refusal: {error}"));
    assert!(message.len() < 300, "{message}");
    session.hang_up();
    let code = session.wait().code();
    (message.to_owned(), code)
}
