//! Becomes the program of its arguments, which can then make no user namespace by itself, as on a host that
//! leaves that to bubblewrap. Unprivileged.
//!
//! The way that is closed is unshare(2), which tenantd takes; bubblewrap takes clone(2), which stays open. What
//! such a host's kernel decides by the program is decided here by the call.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let user = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let asks = SeccompCmpOp::MaskedEq(user);
    let asks = SeccompCondition::new(0, SeccompCmpArgLen::Dword, asks, user)?;
    let rules = BTreeMap::from([(libc::SYS_unshare, vec![SeccompRule::new(vec![asks])?])]);
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into()?;
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?;
    seccompiler::apply_filter(&filter)?;
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("name a program")?;
    Err(Command::new(program).args(words).exec().into())
}
