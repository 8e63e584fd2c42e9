//! Tenant files as the tests need them.

use std::path::{Path, PathBuf};

use super::{child, tenantd};

/// A tenant file with one server, which is this command. No sandbox layer is required: the tests that
/// use it are about what lies around the sandbox.
pub(crate) fn tenant(command: &Path, arguments: &[&str]) -> String {
    tenant_with(command, arguments, "")
}

/// As [`tenant`], with more lines in `[server]`.
pub(crate) fn tenant_with(command: &Path, arguments: &[&str], server: &str) -> String {
    format!(
        "[server]\ncommand = {command:?}\nargs = {arguments:?}\n{server}\n[sandbox]\nrequire = []\n"
    )
}

/// A tenant on the built-in documents server.
pub(crate) fn documents_tenant() -> String {
    tenant(tenantd(), &["builtin", "documents"])
}

/// A tenant on the scriptable test server of `tests/servers/puppet`, with this environment.
pub(crate) fn puppet_tenant(environment: &[(&str, &str)], server: &str) -> String {
    let puppet = puppet();
    let pairs: Vec<_> =
        environment.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
    tenant_with(&puppet, &[], &format!("env = {{ {} }}\n{server}", pairs.join(", ")))
}

/// The scriptable test server.
pub(crate) fn puppet() -> PathBuf {
    child("puppet")
}
