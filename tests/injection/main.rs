//! Injection: what a server sends in plain HTTP to a name of its own leaves by HTTPS, with a credential that
//! the server never sees. A real egress process between a program and a real host.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod credentials;
mod egress;
mod inner;
mod refused;
mod secrets;
mod streams;
mod through;
