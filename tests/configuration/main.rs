//! Configuration files as people write them, right and wrong: real files, the real reader.

#![allow(missing_docs, reason = "tests")]

mod anything;
mod documentation;
mod files;
mod ground;
mod programs;
mod right;
mod wrong;

use tenantd::config::tenant::Tenant;
use tenantd::config::{Loaded, load};
use tenantd::names::TenantId;
use tenantd::paths::{Layout, Mode};

/// A configuration directory of its own.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) layout: Layout,
}

impl Home {
    pub(crate) fn new(mode: Mode) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(mode, dir.path());
        std::fs::create_dir_all(layout.tenants()).expect("mkdir");
        std::fs::create_dir_all(layout.templates()).expect("mkdir");
        Self { dir, layout }
    }

    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let home = Self::new(Mode::User);
        for (name, text) in files {
            home.write(name, text);
        }
        home
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.layout.config.join(name), text).expect("a file");
    }

    pub(crate) fn load(&self) -> Loaded {
        load(&self.layout)
    }
}

pub(crate) fn said(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

/// What is said about one tenant file.
pub(crate) fn about(text: &str) -> Vec<String> {
    said(&Home::with(&[("tenants.d/acme.toml", text)]).load())
}

pub(crate) fn tenant<'a>(loaded: &'a Loaded, id: &str) -> &'a Tenant {
    let id = TenantId::parse(id).expect("a tenant id");
    let tenant = loaded.tenants.get(&id).expect("a file");
    tenant.as_ref().unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(crate) fn is_good(loaded: &Loaded, id: &str) -> bool {
    loaded.tenants.get(&TenantId::parse(id).expect("a tenant id")).is_some_and(Result::is_ok)
}

pub(crate) const GOOD: &str = "[server]\ncommand = \"sh\"\n";

/// Every key of a tenant file, with two servers.
pub(crate) const EVERY_KEY: &str = r#"
name = "Acme Corp"
status = "trial"
trial_until = 2026-12-31T23:59:59Z
template = "office"
data = "/srv/tenantd-test/acme"

[servers.git]
command = "/bin/sh"
args = ["{data}", "{user}", "{\"json\": {}}"]
env = { LOG_LEVEL = "info" }
share = "user"
max_children = 4
start = "always"
idle_timeout = "unlimited"
request_timeout = "1h30m"
start_timeout = "9s"
shared_capabilities = ["elicitation", "roots"]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
default = true
sandbox = { network = "host", tmp = "1MiB" }

[servers.files]
command = "sh"

[[grant]]
users = ["alice", "1000"]
groups = ["acme-staff"]
servers = ["git"]
permissions = ["admin"]
tools = ["*"]
deny_tools = ["export_*"]
resources = ["file:///*"]
deny_resources = []
prompts = []
deny_prompts = []

[tools]
allow = ["*"]
deny = []
require = { admin_purge = "admin" }
pin = false

[quota]
requests_per_minute = 1000
concurrent_requests = 64
sessions = 32
max_tools = 100
max_resources = 1000
storage = "1GiB"
memory = 1048576
cpus = 2
processes = 512
open_files = 1024
io = "unlimited"
message_size = "4MiB"

[sandbox]
network = ["db.acme.lan:5432", "*.example.com:443", "api.github.com:443"]
read = ["/opt/tenantd-test"]
write = ["/srv/tenantd-test/extra"]
tmp = "64MiB"
data_exec = true
groups = []
require = ["seccomp", "namespaces"]

[[credential]]
name = "github-token"
scope = "user"
servers = ["git"]
env = "GITHUB_TOKEN"

[[credential]]
name = "key"
servers = ["files"]
file = "key.pem"

[[credential]]
name = "api"
servers = ["files"]
inject = { hosts = ["api.github.com"], header = "X-Token", value = "token {}" }

[oauth.api]
issuer = "https://login.example.com/tenant"
authorization_endpoint = "https://login.example.com/authorize"
token_endpoint = "https://login.example.com/token"
device_authorization_endpoint = "https://login.example.com/device"
revocation_endpoint = "http://127.0.0.1:8080/revoke?x=1"
client_id = "tenantd"
client_secret = true
scopes = ["repo", "read:user"]
resource = "https://api.example.com/"

[features]
beta_search = true
"#;

pub(crate) const EVERY_MAIN_KEY: &str = r#"
admins = ["root", "@wheel"]
uid_range = [1900000000, 1900065535]
idle_exit = "unlimited"
orphan_timeout = "30s"
drain = "5s"
[defaults.quota]
sessions = 7
[credentials]
store = "secret-service"
[audit]
durability = "power"
arguments = "masked"
segment_size = "64MiB"
retention = "90d"
sinks = ["journald", "syslog", { command = ["/bin/cat", "-u"] }]
[metrics]
listen = "[::1]:9464"
[egress]
upstream_proxy = "http://proxy.lan:3128"
ca_file = "/etc/passwd"
[log]
level = "info,tenantd::auth=debug"
retention = 3
[hooks]
provision = ["/bin/true", "{tenant}"]
archive = ["/bin/true"]
remove = ["/bin/true"]
"#;

pub(crate) fn every_key() -> Home {
    Home::with(&[
        ("tenantd.toml", EVERY_MAIN_KEY),
        ("templates.d/office.toml", "[sandbox]\ntmp = \"1GiB\"\n"),
        ("tenants.d/acme.toml", EVERY_KEY),
    ])
}
