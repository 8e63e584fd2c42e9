//! The door: one role per process, chosen before anything else exists.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments == ["builtin", "documents"] {
        return match tenantd::builtin::documents::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("tenantd: {error}");
                ExitCode::FAILURE
            }
        };
    }
    ExitCode::from(64)
}
