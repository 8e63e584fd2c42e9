//! The door: one role per process, chosen before anything else exists.

fn main() -> std::process::ExitCode {
    tenantd::cli::main()
}
