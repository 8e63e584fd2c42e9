//! Tenant files as the tests need them.

use std::path::{Path, PathBuf};

use super::{child, tenantd};

/// The layers that every machine gives on which tests run. That is the default of user mode; system mode
/// requires a cgroup as well.
const SANDBOX: &str = "[sandbox]\nrequire = [\"namespaces\", \"landlock\", \"seccomp\"]\n";

/// A tenant file with one server, which is this command, in a whole sandbox.
pub(crate) fn tenant(command: &Path, arguments: &[&str]) -> String {
    tenant_with(command, arguments, "")
}

/// As [`tenant`], with more lines in `[server]`.
pub(crate) fn tenant_with(command: &Path, arguments: &[&str], server: &str) -> String {
    format!("[server]\ncommand = {command:?}\nargs = {arguments:?}\n{server}\n{SANDBOX}")
}

/// A tenant on the built-in documents server.
pub(crate) fn documents_tenant() -> String {
    tenant(tenantd(), &["builtin", "documents"])
}

/// As [`documents_tenant`], where one more layer is required: the one that the test user's processes are
/// not given.
pub(crate) fn tenant_out_of_reach() -> String {
    documents_tenant().replace("\"seccomp\"]", "\"seccomp\", \"cgroup\"]")
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
