//! The street: the commands that people and clients type.

pub mod check;
pub mod connect;
pub mod schema;

/// Every command but `connect`.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
