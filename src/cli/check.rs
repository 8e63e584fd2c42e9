//! `tenantd check`.

use crate::paths::Layout;

/// Checks the configuration.
pub fn run(_layout: &Layout, _json: bool) -> anyhow::Result<u8> {
    anyhow::bail!("no check yet")
}
