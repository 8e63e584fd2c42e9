//! The table of commands. Help, completions and man pages are generated from it, so that they cannot
//! say something else than what is parsed.
//!
//! This file declares and parses; it opens nothing and runs nothing. `connect` stands here for help,
//! completions and the man page alone: the shim parses its few flags itself, before any of this.

pub mod credential;
pub mod login;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::tenant::Limit;
use crate::names::{Target, TenantId};

/// The longest time that an option accepts: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const AFTER: &str = "\
Exit codes: 0 done, 1 the tool or the work failed, 64 wrong usage, 69 unavailable, \
77 no permission, 78 the configuration is wrong.

See what it does first: tenantd demo";

const DOCTOR: &str = "\
Everything is found out by trying it, on a program that does nothing. Exit codes: 0 every layer holds that a \
tenant requires by default, 1 one does not.

With --isolation: 0 nothing is open but what the report lists as accepted, with the reason; 1 something is. It \
needs an administrator of the supervisor. The same probes run once more as the same user without a sandbox: what \
is refused there as well is counted apart, because it says nothing about the sandbox. The last line of the report \
is the BLAKE3 digest of all above it.";

/// One sandboxed stdio MCP server per tenant, and many MCP client sessions brought to the right one.
#[derive(Debug, Parser)]
#[command(name = "tenantd", version, after_help = AFTER, propagate_version = false)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which supervisor.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Which {
    /// The supervisor of this user, not that of the system
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// The supervisor of the system, not that of this user
    #[arg(long)]
    pub system: bool,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the supervisor
    Serve(Serve),
    /// Be the stdio MCP server that a client starts: hand its session to the tenant
    Connect(Connect),
    /// Check the configuration, without a supervisor
    Check(Check),
    /// Print the JSON schema of a tenant file
    Schema,
    /// Show the supervisor, its tenants, servers and sessions
    Status(Status),
    /// Say why a tenant does not serve, or did not, and what to do
    Why(Why),
    /// Show what a tenant's files say
    Tenant(Tenant),
    /// Read the configuration again now
    Reload(Reload),
    /// Restart the servers of a tenant, or the supervisor itself; sessions go on
    Restart(Restart),
    /// Stop the supervisor and all that it started
    Stop(Stop),
    /// Show what a tenant's servers wrote to stderr
    Logs(Logs),
    /// List the tools of a tenant
    Tools(Tools),
    /// Call one tool of a tenant
    Call(Call),
    /// Store, list and remove the secrets of tenants
    Credential(credential::Credential),
    /// Log in at an authorization server, for a credential of a tenant's
    Login(login::Login),
    /// Log out there, and forget the tokens
    Logout(login::Logout),
    /// Print the entry for an MCP client's configuration
    Entry(Entry),
    /// See it work: two tenants in a temporary home, nothing of yours touched
    Demo,
    /// Say what this machine can isolate, by trying it, and what to do about what it cannot
    Doctor(Doctor),
    /// Print the completions for a shell
    Completions(Completions),
    /// Print the man page, or write all of them into a directory
    Man(Man),
    /// Be one of the servers that come with tenantd
    #[command(hide = true)]
    Builtin(Builtin),
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// The configuration directory: tenantd.toml, tenants.d/, templates.d/
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// The directory of the sockets
    #[arg(long, value_name = "DIR")]
    pub socket: Option<PathBuf>,
    /// Leave after this long without a session, for example 15m, or "unlimited"
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub idle_exit: Option<Limit<Duration>>,
}

/// `connect`
#[derive(Debug, Args)]
pub struct Connect {
    /// The tenant, and the server where it has several; the only one without
    #[arg(value_name = "TENANT[/SERVER]")]
    pub target: Option<Target>,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// Fail at once where the session could wait for a cure
    #[arg(long)]
    pub strict: bool,
}

/// `check`
#[derive(Debug, Args)]
pub struct Check {
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// The configuration directory
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `tenant`
#[derive(Debug, Args)]
pub struct Tenant {
    /// What to do.
    #[command(subcommand)]
    pub command: TenantCommand,
}

/// Commands about one tenant's files.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Show what its own file sets, or all that holds for it
    Show(Show),
}

/// `tenant show`
#[derive(Debug, Args)]
pub struct Show {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// What results from defaults, template and file, and what was found around its commands, each with
    /// where it comes from
    #[arg(long)]
    pub effective: bool,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// The configuration directory
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `status`
#[derive(Debug, Args)]
pub struct Status {
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `why`
#[derive(Debug, Args)]
pub struct Why {
    /// The tenant
    pub tenant: TenantId,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `reload`
#[derive(Debug, Args)]
pub struct Reload {
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `restart`
#[derive(Debug, Args)]
pub struct Restart {
    /// The tenant, and the server where not all of them are meant
    #[arg(value_name = "TENANT[/SERVER]", required_unless_present = "supervisor")]
    pub target: Option<Target>,
    /// Replace the supervisor by the program that is installed now; servers go on as well
    #[arg(long, conflicts_with = "target")]
    pub supervisor: bool,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}

/// `stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The tenant, and the server where not all of them are meant
    #[arg(value_name = "TENANT[/SERVER]")]
    pub target: Target,
    /// The connections of its servers instead of what they wrote
    #[arg(long)]
    pub network: bool,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// The last N lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub lines: u32,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}

/// `tools`
#[derive(Debug, Args)]
pub struct Tools {
    /// The tenant, and the server where it has several
    #[arg(value_name = "TENANT[/SERVER]")]
    pub target: Target,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// For machines: the definitions as the server gave them
    #[arg(long)]
    pub json: bool,
}

/// `call`
#[derive(Debug, Args)]
pub struct Call {
    /// The tenant, and the server where it has several
    #[arg(value_name = "TENANT[/SERVER]")]
    pub target: Target,
    /// The tool
    pub tool: String,
    /// Its arguments as a JSON object, or - to read them from stdin
    #[arg(value_name = "JSON | -", default_value = "{}")]
    pub arguments: String,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// For machines: the result as the server gave it
    #[arg(long)]
    pub json: bool,
    /// How long to wait for the result
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
}

/// `entry`
#[derive(Debug, Args)]
pub struct Entry {
    /// The MCP client
    pub client: Client,
    /// The tenant, and the server where it has several
    #[arg(value_name = "TENANT[/SERVER]")]
    pub target: Target,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}

/// An MCP client whose configuration `entry` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// Claude Desktop
    ClaudeDesktop,
    /// Claude Code
    ClaudeCode,
    /// Cursor
    Cursor,
    /// Visual Studio Code
    Vscode,
    /// Zed
    Zed,
}

/// `doctor`
#[derive(Debug, Args)]
#[command(after_help = DOCTOR)]
pub struct Doctor {
    /// Run the escape probes inside the first tenant's sandbox, against the second one while it lives, and
    /// print a report to be filed
    #[arg(long, num_args = 2, value_names = ["TENANT[/SERVER]", "TENANT[/SERVER]"])]
    pub isolation: Option<Vec<Target>>,
    /// Which supervisor; without one the mode in which this user would run it.
    #[command(flatten)]
    pub which: Which,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Args)]
pub struct Man {
    /// Where to write one page for each command; without it the main page goes to stdout
    pub dir: Option<PathBuf>,
}

/// `builtin`
#[derive(Debug, Args)]
pub struct Builtin {
    /// The server
    #[command(subcommand)]
    pub server: BuiltinServer,
}

/// A server that comes with tenantd.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum BuiltinServer {
    /// Documents in the tenant's data directory
    Documents,
}

/// Parses a duration as the configuration writes it: a whole number and `ms`, `s`, `m`, `h` or `d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write for example 30s, 15m or 2h");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (count, unit) = text.split_at(at);
    let count: u64 = count.parse().map_err(|_| wrong())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let span = count.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)?;
    if span.is_zero() || span > LONGEST {
        return Err(format!("{text:?} is out of range; write 1ms to 365d"));
    }
    Ok(span)
}

fn limit(text: &str) -> Result<Limit<Duration>, String> {
    if text == "unlimited" { Ok(Limit::Unlimited) } else { duration(text).map(Limit::At) }
}

#[cfg(test)]
mod tests;
