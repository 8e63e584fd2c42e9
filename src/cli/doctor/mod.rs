//! `doctor`: what this machine can isolate, and whether two tenants are isolated from each other.

mod ask;
mod facts;
mod groups;
mod isolation;
mod lent;
mod machine;
mod mount;
mod report;
mod standing;
mod storage;
mod victims;

use super::args::Doctor;

/// `tenantd doctor`
pub(super) fn run(args: &Doctor) -> anyhow::Result<u8> {
    match args.isolation.as_deref() {
        Some([inside, other]) => isolation::run(args, inside, other),
        _ => machine::run(args),
    }
}
