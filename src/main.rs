//! The door: one role per process, chosen before anything else exists.
//!
//! The stage forks and the shim stays small, so neither may meet a runtime or the command line's parser.

use std::process::ExitCode;

use tenantd::{cli, credential, egress, mux, probes, sandbox};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    match first.as_ref().and_then(|first| first.to_str()) {
        Some("--role=mux") => mux::main(),
        Some("--role=stage") => sandbox::stage::main(),
        Some("--role=egress") => egress::main(),
        Some("--role=credential") => credential::main(),
        Some("--role=release") => sandbox::cgroup::release(),
        Some("--role=probe") => probes::main(),
        Some("--role=launch") => cli::connect::launch_main(),
        Some("connect") => cli::connect::main(arguments).unwrap_or_else(cli::main),
        _ => cli::main(),
    }
}
