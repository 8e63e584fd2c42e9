//! The street: the commands that people and clients type.

pub mod connect;

/// Every command but `connect`.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
