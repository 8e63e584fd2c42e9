//! The commands of logins at authorization servers.

use clap::Args;

use super::Which;
use crate::names::TenantId;

const LOGIN: &str = "\
A browser is opened on the server's page, and the answer comes back to this machine alone. Where there is no \
display, or with --device, the server gives a short code that is confirmed in a browser anywhere.

The tokens go to the store of secrets. The servers that use this login get its access token, which is renewed by \
itself; nobody else sees any of it. Where each user has a login of their own (scope = \"user\") it is that of whoever \
runs this.";

/// `login`
#[derive(Debug, Args)]
#[command(after_help = LOGIN)]
pub struct Login {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// The name of an [oauth.NAME] in its file
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Confirm a short code in a browser anywhere, instead of one on this machine
    #[arg(long, conflicts_with = "no_browser")]
    pub device: bool,
    /// Print the address of the page, and open no browser
    #[arg(long)]
    pub no_browser: bool,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}

/// `logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// The name of an [oauth.NAME] in its file
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which supervisor.
    #[command(flatten)]
    pub which: Which,
}
