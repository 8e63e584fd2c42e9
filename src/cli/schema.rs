//! `tenantd schema`: the JSON Schema of a tenant file, for editors.

use std::io::Write;

use crate::config::schema;

/// Prints the schema of a tenant file (draft 2020-12).
///
/// # Errors
/// If standard output cannot be written.
pub fn run() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &schema::tenant_file())?;
    writeln!(out)?;
    Ok(out.flush()?)
}
