//! The commands about secrets. None of them takes a secret as an argument.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Which;
use crate::names::TenantId;

const SET: &str = "\
On a terminal it is asked for twice and not shown; else the whole of stdin is taken, without its one trailing \
newline. It is never an argument: those are seen by every process and kept by the shell.

Where each user has one of their own (scope = \"user\") it is that of whoever runs this.";

const IMPORT: &str = "\
Nothing is shown but names. FILE is a .env file, or the configuration of an MCP client: Claude Desktop, Claude \
Code (.mcp.json), Cursor, VS Code (mcp.json), Zed.

What is stored is offered to be replaced in FILE; the file as it was stays beside it, readable by you alone, \
until you remove it.";

/// `credential`
#[derive(Debug, Args)]
pub struct Credential {
    /// What to do.
    #[command(subcommand)]
    pub command: CredentialCommand,
}

/// Commands about secrets.
#[derive(Debug, Subcommand)]
pub enum CredentialCommand {
    /// Store a secret: typed without echo, or from stdin
    Set(SetCredential),
    /// List secrets and whether they are set, never their values
    List(ListCredentials),
    /// Remove a secret from the store
    Remove(RemoveCredential),
    /// Replace a secret that is set; servers that run get the new one
    Rotate(SetCredential),
    /// Store the secrets of a .env file or of an MCP client's configuration
    Import(ImportCredentials),
    /// Make the key of the encrypted files (store = "encrypted-file")
    Init(InitCredential),
}

/// `credential set`, `credential rotate`
#[derive(Debug, Args)]
#[command(after_help = SET)]
pub struct SetCredential {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// The name of a [[credential]] in its file
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}

const INIT: &str = "\
As root, on a machine with systemd, the key is encrypted for the machine (its TPM, or its host key) and given to the \
service alone: LoadCredentialEncrypted= in its unit. Elsewhere it is a file that only its owner can read, in the state \
directory. A key that is there is never replaced.";

/// `credential init`
#[derive(Debug, Args)]
#[command(after_help = INIT)]
pub struct InitCredential {
    /// Whose: root's is the system's, anyone else's their own, unless said otherwise.
    #[command(flatten)]
    pub which: Which,
}

/// `credential list`
#[derive(Debug, Args)]
pub struct ListCredentials {
    /// The tenant; without it every one that you may use
    #[arg(value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `credential remove`
#[derive(Debug, Args)]
pub struct RemoveCredential {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// The name of the secret
    #[arg(value_name = "NAME")]
    pub name: String,
    /// That of this user, where each has one of their own (admin)
    #[arg(long, value_name = "USER")]
    pub of: Option<String>,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}

/// `credential import`
#[derive(Debug, Args)]
#[command(after_help = IMPORT)]
pub struct ImportCredentials {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The tenant; without it the only one that you may use
    #[arg(value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Do it without asking: store, and replace in the file
    #[arg(long)]
    pub yes: bool,
    /// Leave the file as it is
    #[arg(long)]
    pub keep: bool,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}
