//! `tenantd schema`.

/// Prints the schema.
pub fn run() -> anyhow::Result<u8> {
    anyhow::bail!("no schema yet")
}
