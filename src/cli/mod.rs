//! The street: the commands that people and clients type.
//!
//! A command parses, asks a room or the supervisor, prints, and returns an exit code. It holds no state
//! of its own and has no way into a supervisor but its two doors. A command's stdout is its answer;
//! where stdout is a session's (`connect`, `builtin`), nothing here writes to it.

pub mod args;
pub mod check;
pub mod connect;
pub mod schema;

mod admin;
mod call;
mod client;
mod control;
mod credential;
mod demo;
mod doctor;
mod entry;
mod failure;
mod lending;
mod login;
mod logs;
mod pages;
mod print;
mod rooms;
mod serve;
mod show;
mod status;
mod stream;
mod why;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{BuiltinServer, Cli, Command, TenantCommand};
use failure::{DONE, Failure, USAGE};

/// Runs the command of this process's arguments; the caller has answered roles and `connect` already.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(unparsed(&error)),
    };
    let code = run(cli.command).unwrap_or_else(|error| {
        if failure::is_closed_output(&error) {
            return DONE;
        }
        complain(&format!("{error:#}"));
        failure::code(&error)
    });
    ExitCode::from(code)
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Connect(_) => {
            Err(Failure::usage("connect stands first: tenantd connect [TENANT[/SERVER]]").into())
        }
        Command::Check(args) => serve::check(&args),
        Command::Schema => rooms::schema(),
        Command::Status(args) => status::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Tenant(args) => match args.command {
            TenantCommand::Show(args) => show::run(&args),
        },
        Command::Reload(args) => admin::reload(&args),
        Command::Restart(args) => admin::restart(&args),
        Command::Stop(args) => admin::stop(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Tools(args) => call::tools(&args),
        Command::Call(args) => call::call(&args),
        Command::Demo => demo::run(),
        Command::Doctor(args) => doctor::run(&args),
        Command::Credential(args) => credential::run(&args),
        Command::Login(args) => login::run(&args),
        Command::Logout(args) => login::out(&args),
        Command::Entry(args) => entry::run(&args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
        Command::Builtin(args) => match args.server {
            BuiltinServer::Documents => rooms::documents().map(|()| DONE),
        },
    }
}

/// Help and version are answers; everything else is wrong usage.
fn unparsed(error: &clap::Error) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return DONE;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return USAGE;
    }
    if error.kind() != ErrorKind::MissingRequiredArgument
        && credential::may_hold_secret(std::env::args_os())
    {
        complain(credential::NOT_AS_ARGUMENT);
        return USAGE;
    }
    let text = error.render().to_string();
    complain(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    USAGE
}

/// Says what is wrong, on stderr, escaped: it may quote anything. With stderr closed there is nobody to
/// tell.
fn complain(message: &str) {
    use std::io::Write as _;
    // Without stderr the exit code says it alone.
    let _ = writeln!(std::io::stderr(), "tenantd: {}", print::text(message));
}
