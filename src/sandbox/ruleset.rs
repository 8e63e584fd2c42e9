//! Landlock (landlock(7)): the kernel's own list of what a server may do with which path. It says the
//! same as the mounts do, by other means; where one has a hole the other holds.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};

use super::tree::Access;

/// The newest that this program knows; of an older kernel what it has (6.1: ABI 2).
const NEWEST: ABI = ABI::V6;

/// Grants what the list says and nothing else. False where the kernel has no Landlock. `connects` says
/// whether TCP stays as it is: in a network namespace of its own a server reaches what is there.
///
/// # Errors
/// As landlock_restrict_self(2), and where a path is not there.
pub(super) fn restrict(granted: &[(PathBuf, Access)], connects: bool) -> io::Result<bool> {
    let open = |(path, access): &(PathBuf, Access)| {
        let opened = PathFd::new(path).map_err(io::Error::other)?;
        Ok((opened, rights(*access, !path.is_dir())))
    };
    let rules: Vec<_> = granted.iter().map(open).collect::<io::Result<_>>()?;
    let status = apply(rules, connects).map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Takes away whatever has a name: files, and ports, sockets and processes of others. False where the kernel
/// has no Landlock (before 5.13, or not enabled).
///
/// # Errors
/// As landlock_restrict_self(2).
pub fn restrict_to_nothing() -> io::Result<bool> {
    restrict(&[], false)
}

fn apply(
    rules: Vec<(PathFd, BitFlags<AccessFs>)>,
    connects: bool,
) -> Result<RestrictionStatus, RulesetError> {
    let mut set = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    if !connects {
        set = set.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut set = set.create()?;
    for (opened, rights) in rules {
        set = set.add_rule(PathBeneath::new(opened, rights))?;
    }
    set.restrict_self()
}

fn rights(access: Access, file: bool) -> BitFlags<AccessFs> {
    let mut rights = AccessFs::from_read(NEWEST);
    if access.write {
        rights |= AccessFs::from_write(NEWEST);
    }
    rights.set(AccessFs::Execute, access.execute);
    if file { rights & AccessFs::from_file(NEWEST) } else { rights }
}
