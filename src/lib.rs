//! tenantd: one sandboxed stdio MCP server per tenant, and many client sessions brought to the right one.
//!
//! The map. A room imports rooms of lower floors only; `tests/architecture.rs` looks.
//!
//! | floor | rooms |
//! |---|---|
//! | 0 ground | [`names`], [`paths`], [`sys`] (the unsafe file) |
//! | 1 papers | [`config`], [`mcp`], [`wire`], [`post`], [`control`], [`redact`] |
//! | 2 authorities | [`registry`], [`auth`], [`credential`] |
//! | 3 workshop | [`policy`], [`sandbox`], [`lifecycle`], [`egress`], [`builtin`], [`probes`] |
//! | 4 exchange | [`mux`] |
//! | 5 house | [`supervisor`] |
//! | 6 street | [`cli`] |

pub mod names;
pub mod paths;
pub mod sys;

pub mod config;
pub mod control;
pub mod mcp;
pub mod post;
pub mod redact;
pub mod wire;

pub mod auth;
pub mod credential;
pub mod registry;

pub mod builtin;
pub mod egress;
pub mod lifecycle;
pub mod policy;
pub mod probes;
pub mod sandbox;

pub mod mux;

pub mod supervisor;

pub mod cli;
