//! What the tests of the whole program share: raw sessions, test children, a supervisor of one's own.
//!
//! Real parts only: the real binary, real processes, real files. Nothing here waits by sleeping.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod door;
mod groups;
mod home;
mod https;
mod light;
mod load;
mod lots;
mod packages;
mod person;
mod processes;
mod pulse;
mod session;
mod side_by_side;
mod tenants;
mod transcript;
mod weapon;

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use door::{Thing, ask_door, door_answer, knock};
pub(crate) use home::{Home, Supervisor, as_owner, as_test_user, own, test_user};
pub(crate) use https::{Authority, Upstream};
pub(crate) use light::{Ended, Light};
pub(crate) use load::{Ending, Load, a_while};
pub(crate) use lots::{Lots, amount};
pub(crate) use packages::Packages;
pub(crate) use person::Person;
pub(crate) use processes::{Held, descendants, left_after, working_below};
pub(crate) use pulse::{LATE, Pulse};
pub(crate) use session::{DEADLINE, Era, LEGACY, Lines, MODERN, Session, readable, said};
pub(crate) use side_by_side::{Run, Setup, SideBySide, Speak, Way, assert_same, at_home, connect};
pub(crate) use tenants::{
    documents_tenant, puppet, puppet_tenant, tenant, tenant_out_of_reach, tenant_with,
};
pub(crate) use transcript::{Transcript, assert_same_bytes};
pub(crate) use weapon::{
    Fuse, Weapon, as_user, become_user, open_descriptors, send_with, threads,
    wait_for_few_descriptors, wait_until, while_stopped,
};

/// The binary under test.
pub(crate) fn tenantd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tenantd"))
}

/// A test child of `tests/servers`, built by cargo as an example beside the binary under test.
pub(crate) fn child(name: &str) -> PathBuf {
    let path = tenantd().parent().expect("a directory").join("examples").join(name);
    assert!(path.exists(), "{} is not built (cargo build --examples)", path.display());
    path
}

/// A command for the built-in documents server on `data`, without tenantd between.
pub(crate) fn documents(data: &Path) -> Command {
    let mut command = Command::new(tenantd());
    command.args(["builtin", "documents"]).env("TENANTD_DATA_DIR", data);
    command
}
