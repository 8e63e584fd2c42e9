//! Configuration files as people write them, right and wrong: real files, the real reader.

#![allow(missing_docs, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tenantd::config::tenant::{Layer, Limit, Network, Share, Status, Tenant};
use tenantd::config::{Loaded, load, schema};
use tenantd::names::TenantId;
use tenantd::paths::{Layout, Mode};

/// A configuration directory of its own.
struct Home {
    dir: tempfile::TempDir,
    layout: Layout,
}

impl Home {
    fn new(mode: Mode) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(mode, dir.path());
        std::fs::create_dir_all(layout.tenants()).expect("mkdir");
        std::fs::create_dir_all(layout.templates()).expect("mkdir");
        Self { dir, layout }
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let home = Self::new(Mode::User);
        for (name, text) in files {
            home.write(name, text);
        }
        home
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.layout.config.join(name), text).expect("a file");
    }

    fn load(&self) -> Loaded {
        load(&self.layout)
    }
}

fn said(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

/// What is said about one tenant file.
fn about(text: &str) -> Vec<String> {
    said(&Home::with(&[("tenants.d/acme.toml", text)]).load())
}

fn tenant<'a>(loaded: &'a Loaded, id: &str) -> &'a Tenant {
    let id = TenantId::parse(id).expect("a tenant id");
    let tenant = loaded.tenants.get(&id).expect("a file");
    tenant.as_ref().unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn is_good(loaded: &Loaded, id: &str) -> bool {
    loaded.tenants.get(&TenantId::parse(id).expect("a tenant id")).is_some_and(Result::is_ok)
}

const GOOD: &str = "[server]\ncommand = \"sh\"\n";

// ---------------------------------------------------------------- what is right

#[test]
fn the_example_tenants_are_without_problems() {
    let home = Home::with(&[
        ("tenants.d/acme.toml", include_str!("../tenants.d/acme.toml")),
        ("tenants.d/globex.toml", include_str!("../tenants.d/globex.toml")),
    ]);
    let loaded = home.load();
    assert_eq!(said(&loaded), Vec::<String>::new());
    let acme = tenant(&loaded, "acme");
    assert_eq!(acme.name, "Acme Corp");
    assert_eq!(acme.servers[0].args, ["builtin", "documents"]);
    assert_eq!(acme.servers[0].command, std::env::current_exe().expect("this program"));
    assert_eq!(acme.tools.require["admin_purge"], "admin");
    assert!(acme.features["beta_search"] && acme.grants[0].permissions == ["admin"]);
    assert_eq!(tenant(&loaded, "globex").servers.len(), 1);
}

/// Every key of a tenant file, with two servers.
const EVERY_KEY: &str = r#"
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
network = ["db.acme.lan:5432", "*.example.com:443"]
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

[features]
beta_search = true
"#;

const EVERY_MAIN_KEY: &str = r#"
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

fn every_key() -> Home {
    Home::with(&[
        ("tenantd.toml", EVERY_MAIN_KEY),
        ("templates.d/office.toml", "[sandbox]\ntmp = \"1GiB\"\n"),
        ("tenants.d/acme.toml", EVERY_KEY),
    ])
}

#[test]
fn every_key_of_every_file_is_read() {
    let loaded = every_key().load();
    assert_eq!(said(&loaded), Vec::<String>::new());
    let acme = tenant(&loaded, "acme");
    assert_eq!(acme.status, Status::Trial { until: 1_798_761_599 });
    assert_eq!(acme.data.as_deref(), Some(Path::new("/srv/tenantd-test/acme")));
    let names: Vec<_> = acme.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["git", "files"], "in the order of the file");
    let (git, files) = (&acme.servers[0], &acme.servers[1]);
    assert_eq!((git.share, git.max_children, git.default), (Share::User, 4, true));
    assert_eq!(git.idle_timeout, Limit::Unlimited);
    assert_eq!(git.request_timeout, Limit::At(Duration::from_secs(5400)));
    assert_eq!(acme.quota.cpus, Limit::At(2.0));
    assert_eq!(acme.quota.memory, Limit::At(1 << 20));
    assert_eq!(acme.grants[0].prompts.allow, Some(vec![]));
    assert_eq!(acme.credentials.len(), 3);
    // A server's own table replaces single keys of the tenant's.
    assert_eq!((&git.sandbox.network, git.sandbox.tmp), (&Network::Host, 1 << 20));
    assert_eq!((files.sandbox.tmp, git.sandbox.data_exec), (64 << 20, true));
    assert_eq!(git.sandbox.require, [Layer::Namespaces, Layer::Seccomp]);
    assert!(matches!(&files.sandbox.network, Network::Allow(to) if to.len() == 2));
    let settings = loaded.settings.expect("settings");
    assert_eq!((settings.log_retention, settings.drain), (3, Duration::from_secs(5)));
    assert_eq!(settings.idle_exit, Limit::Unlimited);
}

#[test]
fn defaults_lie_under_the_template_and_the_template_under_the_file() {
    let home = Home::with(&[
        ("tenantd.toml", "[defaults.quota]\nsessions = 1\nmax_tools = 1\nprocesses = 1\n"),
        (
            "templates.d/office.toml",
            "[quota]\nsessions = 2\nmax_tools = 2\n[[grant]]\nusers = [\"a\"]\n",
        ),
        (
            "tenants.d/acme.toml",
            "template = \"office\"\n[server]\ncommand = \"sh\"\n[quota]\nsessions = 3\n",
        ),
        ("tenants.d/globex.toml", "[server]\ncommand = \"sh\"\n[[grant]]\nusers = [\"b\"]\n"),
    ]);
    let loaded = home.load();
    assert_eq!(said(&loaded), Vec::<String>::new());
    let acme = tenant(&loaded, "acme");
    assert_eq!(acme.quota.sessions, Limit::At(3));
    assert_eq!(acme.quota.max_tools, Limit::At(2));
    assert_eq!(acme.quota.processes, Limit::At(1));
    assert_eq!(acme.grants[0].users, ["a"]);
    assert_eq!(tenant(&loaded, "globex").quota.sessions, Limit::At(1));
}

#[test]
fn in_system_mode_a_cgroup_is_required_and_a_tilde_is_nobodys() {
    let home = Home::new(Mode::System);
    home.write("tenants.d/acme.toml", GOOD);
    home.write("tenants.d/globex.toml", format!("data = \"~/x\"\n{GOOD}"));
    let loaded = home.load();
    assert!(tenant(&loaded, "acme").servers[0].sandbox.require.contains(&Layer::Cgroup));
    assert_eq!(
        said(&loaded),
        [
            "tenants.d/globex.toml:1:8: data begins with ~, which is nobody's home in system mode; write the whole path"
        ]
    );
    let user = Home::with(&[("tenants.d/acme.toml", GOOD)]).load();
    assert!(!tenant(&user, "acme").servers[0].sandbox.require.contains(&Layer::Cgroup));
}

#[test]
fn what_is_hidden_or_an_editors_leftover_is_passed_over() {
    let home = Home::with(&[("tenants.d/acme.toml", GOOD)]);
    for name in
        [".acme.toml", ".#acme.toml", "acme.toml~", ".acme.toml.swp", "#acme.toml#", "README"]
    {
        home.write(&format!("tenants.d/{name}"), "not TOML at all");
    }
    let loaded = home.load();
    assert_eq!(said(&loaded), Vec::<String>::new());
    assert_eq!(loaded.tenants.len(), 1);
}

#[test]
fn without_any_file_everything_is_by_default() {
    let dir = tempfile::tempdir().expect("a directory");
    let loaded = load(&Layout::rooted(Mode::User, &dir.path().join("nothing")));
    assert!(loaded.problems.is_empty() && loaded.tenants.is_empty() && loaded.complete);
    assert_eq!(loaded.settings.expect("settings").drain, Duration::from_secs(5));
}

#[test]
fn an_equal_meaning_has_an_equal_digest() {
    let of = |text: &str| {
        let loaded = Home::with(&[("tenants.d/acme.toml", text)]).load();
        let acme = tenant(&loaded, "acme");
        (acme.digest.clone(), acme.start_digest.clone())
    };
    let plain = of(GOOD);
    assert_eq!(plain.0.len(), 64);
    assert_eq!(of("# a remark\nserver.command = 'sh'\n[quota]\nmemory = \"1024MiB\"\n"), plain);
    let live = of("[server]\ncommand = \"sh\"\n[quota]\nsessions = 1\n");
    assert!(live.0 != plain.0 && live.1 == plain.1, "a quota changes nothing that was started");
    let restart = of("[server]\ncommand = \"sh\"\nargs = [\"-c\"]\n");
    assert!(restart.0 != plain.0 && restart.1 != plain.1);
}

// ---------------------------------------------------------------- what is wrong

#[test]
fn every_problem_of_every_file_is_told_at_once_with_its_place() {
    let acme = r#"nmae = "Acme"
status = "paused"

[server]
command = "sh"
idle_timeout = 10

[quota]
memory = "lots"
	sessions = 0

[[grant]]
users = ["alice", 3]
"#;
    let home = Home::with(&[
        ("tenantd.toml", "drain = \"forever\"\n"),
        ("tenants.d/acme.toml", acme),
        ("tenants.d/globex.toml", "[server]\ncomand = \"sh\"\n"),
        ("tenants.d/initech.toml", GOOD),
    ]);
    let loaded = home.load();
    let expected = r#"tenantd.toml:1:9: drain = "forever" is not a duration; write for example drain = "10m"
tenants.d/acme.toml:1:1: unknown key "nmae"; did you mean "name"?
tenants.d/acme.toml:2:10: status = "paused" is not known; write "active", "suspended" or "trial"
tenants.d/acme.toml:6:16: idle_timeout = 10 is not a duration; write for example idle_timeout = "10m"
tenants.d/acme.toml:9:10: memory = "lots" is not a size; write for example memory = "512MiB"
tenants.d/acme.toml:10:13: sessions = 0 is not a whole number of at least 1; write for example sessions = 32
tenants.d/acme.toml:13:19: 3 in users is not text; put it in quotes
tenants.d/globex.toml:2:1: unknown key "comand"; did you mean "command"?"#;
    assert_eq!(said(&loaded).join("\n"), expected);
    assert!(loaded.settings.is_none() && is_good(&loaded, "initech"));
    assert!(!is_good(&loaded, "acme") && !is_good(&loaded, "globex"));
}

#[test]
fn several_mistakes_of_the_syntax_are_told_and_nothing_is_guessed_from_them() {
    let text = "name = \"Acme\nmemory = lots\n[server]\ncommand = \"sh\"\n[server]\nx\n";
    assert_eq!(
        about(text),
        [
            "tenants.d/acme.toml:1:13: not TOML: invalid basic string; expected `\"`",
            "tenants.d/acme.toml:2:10: not TOML: text without quotes; put it in quotes",
            "tenants.d/acme.toml:5:2: not TOML: this key or section is there already; keep one of them",
            "tenants.d/acme.toml:6:2: not TOML: key with no value; expected `=`",
        ]
    );
}

#[test]
fn a_half_written_file_is_never_a_tenant_with_less_in_it_than_its_server() {
    // Cut anywhere before the server is complete, it is no tenant; what follows only adds.
    let text = "name = \"Acme\"\n[server]\ncommand = \"/bin/sh\"\n";
    for end in 0..text.len() - 2 {
        let loaded = Home::with(&[("tenants.d/acme.toml", &text[..end])]).load();
        assert!(!is_good(&loaded, "acme"), "{:?}", &text[..end]);
        assert!(!loaded.problems.is_empty(), "{:?}", &text[..end]);
    }
}

/// A tenant file and a part of what is said about it.
const WRONG: &[(&str, &str)] = &[
    ("", "there is no server; add a section [server]"),
    ("[server]\n", "acme.toml:1:1: [server] has no command; add command"),
    (
        "[server]\ncommand = \"no-such-program\"\n",
        "2:11: command = \"no-such-program\" is in none of",
    ),
    ("[server]\ncommand = \"/nonexistent/x\"\n", "cannot be used: No such file"),
    (
        "[server]\ncommand = \"/etc/passwd\"\n",
        "is not executable; make it so: chmod +x /etc/passwd",
    ),
    ("[server]\ncommand = \"bin/x\"\n", "is not an absolute path"),
    ("[server]\ncommand = \"sh -c x\"\n", "arguments go to args"),
    ("[server]\ncommand = \"npx\"\nargs = [\"-y\", \"x\"]\n", "npx would download the server"),
    ("server = 3\n", "server = 3 is not a table; write a section [server]"),
    (
        "[server]\ncommand = \"sh\"\n[servers.a]\ncommand = \"sh\"\n",
        "[server] stands beside [servers.a]",
    ),
    ("[servers.A]\ncommand = \"sh\"\n", "\"A\" is not a server name"),
    (
        "[servers.a]\ncommand = \"sh\"\ndefault = true\n[servers.b]\ncommand = \"sh\"\ndefault = true\n",
        "acme.toml:6:11: there are two default servers; \"a\" is one already",
    ),
    ("server.command = \"sh\"\nstatus = \"trial\"\n", "does not say how long"),
    (
        "server.command = \"sh\"\ntrial_until = 2030-01-01T00:00:00Z\n",
        "means nothing without status",
    ),
    ("server.command = \"sh\"\nstatus = \"trial\"\ntrial_until = 2030-01-01\n", "is not a moment"),
    ("server.command = \"sh\"\ntemplate = \"none\"\n", "there is no template \"none\""),
    ("server.command = \"sh\"\nname = \"\"\n", "is not a name for people"),
    ("server.command = \"sh\"\nname = \"a\\u001b[31m\"\n", "a\\u{1b}[31m"),
    ("server.command = \"sh\"\ndata = \"Customers/Acme\"\n", "is not an absolute path"),
    ("server.command = \"sh\"\ndata = \"/srv/../etc\"\n", "climbs by \"..\""),
    (
        "[server]\ncommand = \"sh\"\nargs = [\"{Data}\"]\n",
        "{Data} is not a placeholder; did you mean {data}?",
    ),
    ("[server]\ncommand = \"sh\"\nargs = [\"{user}\"]\n", "{user} in args has no meaning"),
    ("[server]\ncommand = \"sh\"\nargs = [\"a\\u0000\"]\n", "holds a NUL character"),
    ("[server]\ncommand = \"sh\"\nenv = { TENANTD_X = \"1\" }\n", "is set by tenantd itself"),
    (
        "[server]\ncommand = \"sh\"\nenv = { \"A B\" = \"1\" }\n",
        "is not the name of an environment variable",
    ),
    ("[server]\ncommand = \"sh\"\nsha256 = \"abc\"\n", "is not a SHA-256"),
    (
        "[server]\ncommand = \"sh\"\nshared_capabilities = [\"all\"]\n",
        "\"all\" in shared_capabilities is not known",
    ),
    ("[server]\ncommand = \"sh\"\nstart_timeout = \"unlimited\"\n", "is not a duration"),
    ("server.command = \"sh\"\n[[grant]]\n", "acme.toml:2:1: [[grant]] names nobody"),
    ("server.command = \"sh\"\n[[grant]]\nusers = [\"a b\"]\n", "cannot be a name"),
    (
        "server.command = \"sh\"\n[[grant]]\nusers = [\"a\"]\nservers = [\"git\"]\n",
        "there is no server \"git\"; this tenant has: main",
    ),
    ("server.command = \"sh\"\n[[grant]]\nusers = [\"a\"]\ntools = [\"[\"]\n", "is not a pattern"),
    ("server.command = \"sh\"\n[tools]\ndeny = [\"\"]\n", "it is empty"),
    ("server.command = \"sh\"\n[tools]\nrequire = { a = \"\" }\n", "cannot be a permission"),
    ("server.command = \"sh\"\n[quota]\ncpus = 0\n", "is not a number of cores"),
    (
        "server.command = \"sh\"\n[quota]\nmemory = 99999999999999999999\n",
        "memory = 99999999999999999999 is not a size",
    ),
    (
        "server.command = \"sh\"\n[sandbox]\nnetwork = \"lan\"\n",
        "network = \"lan\" is not \"none\", \"host\" or a list",
    ),
    ("server.command = \"sh\"\n[sandbox]\nnetwork = [\"*:443\"]\n", "is not a destination"),
    ("server.command = \"sh\"\n[sandbox]\nnetwork = [443]\n", "443 in network is not text"),
    (
        "server.command = \"sh\"\n[sandbox]\nrequire = [\"selinux\"]\n",
        "\"selinux\" in require is not known",
    ),
    ("server.command = \"sh\"\n[sandbox]\ngroups = [\"staff\"]\n", "needs system mode"),
    (
        "server.command = \"sh\"\n[sandbox]\nread = [\"/\"]\n",
        "reaches the sockets of the supervisor",
    ),
    (
        "server.command = \"sh\"\n[[credential]]\nname = \"a\"\n",
        "does not say how the server gets it",
    ),
    ("server.command = \"sh\"\n[[credential]]\nenv = \"A\"\n", "[[credential]] has no name"),
    (
        "server.command = \"sh\"\n[[credential]]\nname = \"a\"\nenv = \"A\"\nfile = \"a\"\n",
        "more than one of env, file and inject",
    ),
    (
        "server.command = \"sh\"\n[[credential]]\nname = \"a\"\nfile = \"../a\"\n",
        "is not a plain file name",
    ),
    (
        "server.command = \"sh\"\n[[credential]]\nname = \"a\"\nscope = \"user\"\nenv = \"A\"\n",
        "is one child for all users",
    ),
    (
        "server.command = \"sh\"\n[[credential]]\nname = \"a\"\ninject = { hosts = [\"*.x\"] }\n",
        "is not an exact host name",
    ),
    (
        "server.command = \"sh\"\n[[credential]]\nname = \"a\"\ninject = {}\n",
        "inject names no host",
    ),
    (
        "[servers.a]\ncommand = \"sh\"\n[servers.b]\ncommand = \"sh\"\n[[credential]]\nname = \"x\"\nenv = \"X\"\n",
        "does not say which of several servers gets it",
    ),
    (
        "[server]\ncommand = \"sh\"\nenv = { A = \"1\" }\n[[credential]]\nname = \"x\"\nenv = \"A\"\n",
        "is also in its env table",
    ),
    (
        "server.command = \"sh\"\n[[credential]]\nname = \"x\"\nenv = \"A\"\n[[credential]]\nname = \"y\"\nenv = \"A\"\n",
        "has two credentials",
    ),
    ("server.command = \"sh\"\n[features]\nBeta = true\n", "is not the name of a feature"),
    (
        "server.command = \"sh\"\n[features]\nbeta = 1\n",
        "beta = 1 is not true or false; write for example beta = true",
    ),
    (
        "server.command = \"sh\"\nverbose = true\n",
        "unknown key \"verbose\"; known here: name, status",
    ),
];

#[test]
fn each_mistake_is_told_once_with_its_cure_and_makes_no_tenant() {
    for (text, part) in WRONG {
        let loaded = Home::with(&[("tenants.d/acme.toml", text)]).load();
        let said = said(&loaded);
        assert_eq!(said.len(), 1, "{text}\n{said:#?}");
        assert!(said[0].contains(part), "{text}\n{said:#?}\nlacks {part:?}");
        assert!(!is_good(&loaded, "acme"), "{text}");
    }
}

#[test]
fn each_mistake_in_the_main_file_is_told() {
    for (text, part) in [
        ("admins = [\"a b\"]", "cannot be a name"),
        ("uid_range = [1, 2]", "is not two uids"),
        ("uid_range = [1900000000]", "is not two uids"),
        ("orphan_timeout = \"unlimited\"", "is not a duration"),
        ("[log]\nlevel = \"lots\"", "is not a log level"),
        ("[log]\nlevel = \"info,x=lots\"", "is not a log level"),
        ("[metrics]\nlisten = \"0.0.0.0:9464\"", "is not a loopback address"),
        ("[egress]\nupstream_proxy = \"http://me:secret@proxy:1\"", "is not http://HOST:PORT"),
        ("[egress]\nca_file = \"/nonexistent/ca.pem\"", "is not there"),
        ("[hooks]\nprovision = []", "provision is empty"),
        ("[hooks]\nremove = [\"/nonexistent/x\"]", "cannot be used"),
        ("[audit]\nsinks = [{ command = [] }]", "command is empty"),
        ("[audit]\nsinks = [\"kafka\"]", "\"kafka\" in sinks is not known"),
        ("[credentials]\nstore = \"plain\"", "\"encrypted-file\" or \"keyutils\""),
        ("[defaults]\ntemplate = \"x\"", "cannot name a template"),
        ("[defaults.quota]\nsesions = 3", "did you mean \"sessions\"?"),
        ("drain = ", "not TOML"),
    ] {
        let home = Home::with(&[("tenantd.toml", text), ("tenants.d/acme.toml", GOOD)]);
        let loaded = home.load();
        let said = said(&loaded);
        assert!(said.len() == 1 && said[0].contains(part), "{text}\n{said:#?}");
        assert!(!said[0].contains("secret@"), "{said:?}");
        assert!(loaded.settings.is_none(), "{text}");
        let untrusted = text.contains("defaults") || said[0].contains("not TOML");
        assert_eq!(is_good(&loaded, "acme"), !untrusted, "{text}");
    }
}

#[test]
fn a_broken_template_breaks_those_who_name_it_and_nobody_else() {
    let home = Home::with(&[
        ("templates.d/office.toml", "[quota]\nmemory = true\n"),
        ("templates.d/nested.toml", "template = \"office\"\n"),
        ("tenants.d/acme.toml", "template = \"office\"\nserver.command = \"sh\"\n"),
        ("tenants.d/globex.toml", GOOD),
    ]);
    let loaded = home.load();
    let said = said(&loaded);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].contains("nested.toml:1:12: a template cannot name a template"), "{said:?}");
    assert!(said[1].contains("office.toml:2:10: memory = true is not a size"), "{said:?}");
    assert!(
        said[2].contains("acme.toml:1:12: template \"office\" has problems of its own"),
        "{said:?}"
    );
    assert!(!is_good(&loaded, "acme") && is_good(&loaded, "globex"));
}

#[test]
fn what_is_wrong_in_the_defaults_is_told_where_it_stands_and_once() {
    let home = Home::with(&[
        ("tenantd.toml", "[defaults.sandbox]\nread = [\"relative\"]\n"),
        ("tenants.d/acme.toml", GOOD),
        ("tenants.d/globex.toml", GOOD),
    ]);
    let loaded = home.load();
    assert_eq!(
        said(&loaded),
        [
            "tenantd.toml:2:9: sandbox.read = \"relative\" is not an absolute path; write the whole path, or one that begins with ~/"
        ]
    );
    assert!(!is_good(&loaded, "acme") && !is_good(&loaded, "globex"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for text in [
        "[server]\ncommand = \"sh\"\nenv = { KEY = 5551234 }\n",
        "[server]\ncommand = \"sh\"\nenv = { KEY = \"5551234{Data}\" }\n",
        "server.command = \"sh\"\n[[credential]]\nname = \"5551234 \"\nenv = \"A\"\n",
        "server.command = \"sh\"\n[[credential]]\nname = \"a\"\ninject = { hosts = [\"a\"], value = \"5551234\" }\n",
    ] {
        let said = about(text);
        assert_eq!(said.len(), 1, "{text}\n{said:?}");
        assert!(!said[0].contains("5551234"), "{said:?}");
    }
}

// ---------------------------------------------------------------- files that cannot be read

#[test]
fn a_file_that_cannot_be_read_is_a_problem_of_its_tenant_alone() {
    let home = Home::with(&[("tenants.d/initech.toml", GOOD)]);
    let tenants = home.layout.tenants();
    symlink("loop.toml", tenants.join("loop.toml")).expect("symlink");
    symlink("/nonexistent", tenants.join("dangling.toml")).expect("symlink");
    symlink("/dev/zero", tenants.join("device.toml")).expect("symlink");
    std::fs::create_dir(tenants.join("directory.toml")).expect("mkdir");
    nix::unistd::mkfifo(&tenants.join("fifo.toml"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    home.write("tenants.d/huge.toml", vec![b'#'; (1 << 20) + 1]);
    home.write("tenants.d/latin.toml", b"name = \"x\"\nx = \"Z\xfcrich\"\n");
    home.write("tenants.d/open.toml", GOOD);
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(tenants.join("open.toml"), open).expect("chmod");
    home.write("tenants.d/Upper.toml", GOOD);
    symlink("initech.toml", tenants.join("linked.toml")).expect("symlink");

    let loaded = home.load();
    let said = said(&loaded);
    let expected = [
        ("tenants.d/Upper.toml: ", "is not a tenant id"),
        ("tenants.d/dangling.toml: ", "the link leads nowhere"),
        ("tenants.d/device.toml: ", "is not a regular file"),
        ("tenants.d/directory.toml: ", "is not a regular file"),
        ("tenants.d/fifo.toml: ", "is not a regular file"),
        ("tenants.d/huge.toml: ", "is larger than 1 MiB"),
        ("tenants.d/latin.toml:2:7: ", "not UTF-8"),
        ("tenants.d/loop.toml: ", "cannot be read"),
        ("tenants.d/open.toml: ", "everybody on this machine may change the file"),
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (line, (start, part)) in said.iter().zip(expected) {
        assert!(line.starts_with(start) && line.contains(part), "{line}");
    }
    assert!(is_good(&loaded, "initech") && is_good(&loaded, "linked") && loaded.complete);
}

#[test]
fn a_file_without_the_right_to_read_it_says_so() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root may read every file; the same path is tested by a link to itself");
        return;
    }
    let home = Home::with(&[("tenants.d/acme.toml", GOOD)]);
    let shut = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(home.layout.tenants().join("acme.toml"), shut).expect("chmod");
    let said = said(&home.load());
    assert!(said.len() == 1 && said[0].contains("the right to read it"), "{said:?}");
}

#[test]
fn a_directory_that_cannot_be_listed_is_not_an_empty_one() {
    let home = Home::new(Mode::User);
    std::fs::remove_dir(home.layout.tenants()).expect("rmdir");
    home.write("tenants.d", "a file");
    let loaded = home.load();
    assert!(!loaded.complete && said(&loaded)[0].starts_with("tenants.d: cannot be read"));
}

// ---------------------------------------------------------------- ground of one's own

#[test]
fn no_two_tenants_share_ground() {
    let home = Home::new(Mode::User);
    let root = home.dir.path().canonicalize().expect("a path");
    let root = root.join("data");
    std::fs::create_dir_all(root.join("acme")).expect("mkdir");
    symlink("acme", root.join("alias")).expect("symlink");
    let data = |path: &str| format!("data = \"{}/{path}\"\n{GOOD}", root.display());
    home.write("tenants.d/acme.toml", data("acme"));
    home.write("tenants.d/alias.toml", data("alias/inside"));
    home.write("tenants.d/apart.toml", data("acme-2"));
    let reads = format!("{GOOD}[sandbox]\nread = [\"{}\"]\n", root.display());
    home.write("tenants.d/reader.toml", reads);
    let loaded = home.load();
    let said = said(&loaded);
    assert!(said[0].starts_with("tenants.d/acme.toml:1:8: this path and "), "{said:#?}");
    assert!(said[0].contains("data/acme/inside of tenant alias contain one another"), "{said:#?}");
    assert!(said[1].starts_with("tenants.d/alias.toml:1:8: "), "{said:#?}");
    assert!(
        said[2..].iter().all(|line| line.starts_with("tenants.d/reader.toml:4:9: ")),
        "{said:#?}"
    );
    assert!(is_good(&loaded, "apart") && !is_good(&loaded, "reader"));
}

#[test]
fn no_tenant_reaches_the_supervisor_or_the_state_of_another() {
    let home = Home::new(Mode::User);
    let root = home.dir.path().to_owned();
    // The check must see through a link, too.
    symlink(&home.layout.config, root.join("innocent")).expect("symlink");
    for (path, part) in [
        ("run", "the sockets of the supervisor"),
        ("run/session.sock", "the sockets of the supervisor"),
        ("config/tenants.d", "the configuration"),
        ("innocent/tenants.d", "the configuration"),
        ("log", "the logs"),
        ("state", "the state of other tenants"),
        ("state/tenants/globex/data", "the state of other tenants"),
        ("", "the sockets of the supervisor"),
    ] {
        let path = root.join(path);
        for key in ["read", "write"] {
            let text = format!("{GOOD}[sandbox]\n{key} = [\"{}\"]\n", path.display());
            home.write("tenants.d/acme.toml", text);
            let said = said(&home.load());
            assert!(said.len() == 1 && said[0].contains(part), "{path:?}: {said:?}");
        }
    }
    let own = home.layout.tenant_data(&TenantId::parse("acme").expect("an id"));
    home.write("tenants.d/acme.toml", format!("data = \"{}\"\n{GOOD}", own.display()));
    assert_eq!(said(&home.load()), Vec::<String>::new());
}

// ---------------------------------------------------------------- the documentation

/// `section.key` of the documentation with its row; the section is the first word of the heading.
fn documented() -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    let mut section = String::new();
    for line in include_str!("../docs/configuration.md").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            section = heading.split(':').next().unwrap_or_default().to_owned();
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| !section.is_empty()) {
            let cells: Vec<String> = row.split(" | ").map(str::to_owned).collect();
            let key = cells[0].trim_end_matches('`');
            assert_eq!(cells.len(), 7, "{line}");
            assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{line}");
            rows.insert(format!("{section}.{key}"), cells);
        }
    }
    rows
}

/// `section.key` of the schemas, with the shape of the key.
fn specified() -> BTreeMap<String, serde_json::Value> {
    let mut keys = BTreeMap::new();
    for (name, schema) in [("TenantFile", schema::tenant_file()), ("MainFile", schema::main_file())]
    {
        let definitions = schema["$defs"].as_object().expect("definitions").clone();
        let sections = definitions.into_iter().chain([(name.to_owned(), schema)]);
        for (section, table) in sections {
            for (key, shape) in table["properties"].as_object().expect("a table") {
                keys.insert(format!("{section}.{key}"), shape.clone());
            }
        }
    }
    keys
}

#[test]
fn every_key_of_the_schema_is_documented_and_no_other() {
    let (documented, specified) = (documented(), specified());
    let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(documented.keys().collect()), names(specified.keys().collect()));
    for (key, shape) in &specified {
        let said = &documented[key][2];
        match shape.get("default") {
            Some(default) => assert_eq!(*said, format!("`{default}`"), "the default of {key}"),
            None => {
                assert!(!said.starts_with('`') || said == "`[sandbox]`", "{key} has no default")
            }
        }
        assert!(shape["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
}

#[test]
fn the_schema_knows_no_null_and_no_unknown_keys() {
    for schema in [schema::tenant_file(), schema::main_file()] {
        let text = schema.to_string();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
    }
}

#[test]
fn the_documented_defaults_are_what_a_file_without_them_means() {
    let mut written = String::from("server.command = \"sh\"\n");
    for (key, shape) in specified() {
        let (section, name) = key.split_once('.').expect("a section");
        let table = match section {
            "Server" => "server",
            "Tools" => "tools",
            "Quota" => "quota",
            "Sandbox" => "sandbox",
            "TenantFile" => "",
            _ => continue,
        };
        let Some(default) = shape.get("default") else { continue };
        let path = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
        written.push_str(&format!("{path} = {default}\n"));
    }
    let of = |text: &str| {
        let loaded = Home::with(&[("tenants.d/acme.toml", text)]).load();
        let mut acme = tenant(&loaded, "acme").clone();
        acme.not_enforced.clear();
        // "All" written out is all the same.
        acme.tools.patterns.allow = None;
        acme.digest.clear();
        acme
    };
    assert_eq!(of(&written), of(GOOD), "{written}");

    let main = specified().into_iter().filter_map(|(key, shape)| {
        let (section, name) = key.split_once('.')?;
        let path = match section {
            "MainFile" => name.to_owned(),
            "Log" => format!("log.{name}"),
            _ => return None,
        };
        Some(format!("{path} = {}\n", shape.get("default")?))
    });
    let home = Home::with(&[("tenantd.toml", &main.collect::<String>())]);
    let mut written = home.load().settings.expect("settings");
    written.not_enforced.clear();
    assert_eq!(written, Home::new(Mode::User).load().settings.expect("settings"));
}

#[test]
fn what_the_documentation_calls_enforced_is_what_check_does_not_list() {
    let loaded = every_key().load();
    let tenant = tenant(&loaded, "acme");
    let settings = loaded.settings.as_ref().expect("settings");
    let idle: BTreeSet<&str> =
        tenant.not_enforced.iter().chain(&settings.not_enforced).map(String::as_str).collect();
    for (key, cells) in documented() {
        let (section, name) = key.split_once('.').expect("a section");
        let path = match section {
            "TenantFile" | "MainFile" => name.to_owned(),
            "Server" => format!("servers.git.{name}"),
            "Inject" => format!("credential.inject.{name}"),
            other => format!("{}.{name}", other.to_lowercase()),
        };
        match cells[5].as_str() {
            "yes" => assert!(!idle.contains(path.as_str()), "{path} is said to be enforced"),
            "not yet" => assert!(idle.contains(path.as_str()), "{path} is not listed: {idle:?}"),
            "-" => {}
            other => panic!("{key}: {other}"),
        }
    }
}

// ---------------------------------------------------------------- anything at all

/// Lines that look like a tenant file, and lines that look like nothing.
fn toml_ish() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("name"),
        Just("status"),
        Just("data"),
        Just("server"),
        Just("server.command"),
        Just("args"),
        Just("command"),
        Just("env"),
        Just("memory"),
        Just("users"),
        Just("x"),
        Just("trial_until"),
        Just("template"),
        Just("network"),
        Just("\"a b\""),
        Just(""),
    ];
    let value = prop_oneof![
        Just("\"sh\"".to_owned()),
        Just("3".to_owned()),
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[1, \"x\", {a = 1}]".to_owned()),
        Just("{ sandbox = { read = [\"/\"] } }".to_owned()),
        Just("2026-01-01T00:00:00Z".to_owned()),
        Just("1e999".to_owned()),
        Just("99999999999999999999999".to_owned()),
        "[ -~]{0,12}".prop_map(|text| format!("\"{text}\"")),
        "\\PC{0,8}",
    ];
    let header = prop_oneof![
        Just("[server]"),
        Just("[servers.a]"),
        Just("[[grant]]"),
        Just("[quota]"),
        Just("[sandbox]"),
        Just("[[credential]]"),
        Just("[features]"),
        Just("[tools]"),
        Just("[[server]]"),
        Just("[a.b"),
    ];
    let line = prop_oneof![
        6 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        3 => header.prop_map(str::to_owned),
        1 => "\\PC{0,20}",
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_tenant_or_at_least_one_problem(text in toml_ish()) {
        let home = Home::with(&[("tenants.d/acme.toml", &text)]);
        let loaded = home.load();
        prop_assert_eq!(loaded.tenants.len(), 1);
        prop_assert_eq!(is_good(&loaded, "acme"), loaded.problems.is_empty());
        for problem in &loaded.problems {
            prop_assert_eq!(&problem.file, "tenants.d/acme.toml");
            prop_assert!(problem.line > 0 && problem.column > 0, "{}", problem);
            prop_assert!(!problem.to_string().chars().any(char::is_control), "{:?}", problem);
        }
    }

    #[test]
    fn any_bytes_in_any_file_leave_the_others_alone(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let home = Home::with(&[("tenants.d/globex.toml", GOOD)]);
        home.write("tenants.d/acme.toml", &bytes);
        home.write("templates.d/office.toml", &bytes);
        let loaded = home.load();
        prop_assert!(is_good(&loaded, "globex"));
        prop_assert!(is_good(&loaded, "acme") != loaded.problems.iter().any(|p| p.file.contains("acme")));
    }
}
