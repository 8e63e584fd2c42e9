//! What people write, read as it was meant.

use std::path::Path;
use std::time::Duration;

use tenantd::config::tenant::{Layer, Limit, Network, Share, Status};
use tenantd::config::{effective, load};
use tenantd::names::TenantId;
use tenantd::paths::{Layout, Mode};

use crate::{GOOD, Home, every_key, said, tenant};

#[test]
fn the_example_tenants_are_without_problems() {
    let home = Home::with(&[
        ("tenants.d/acme.toml", include_str!("../../tenants.d/acme.toml")),
        ("tenants.d/globex.toml", include_str!("../../tenants.d/globex.toml")),
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
    let login = &acme.logins["api"];
    assert_eq!(login.issuer.as_deref(), Some("https://login.example.com/tenant"));
    assert_eq!(login.endpoints["token_endpoint"], "https://login.example.com/token");
    assert_eq!((login.endpoints.len(), login.client_secret), (4, true));
    assert_eq!(login.scopes, ["repo", "read:user"]);
    // A server's own table replaces single keys of the tenant's.
    assert_eq!((&git.sandbox.network, git.sandbox.tmp), (&Network::Host, 1 << 20));
    assert_eq!((files.sandbox.tmp, git.sandbox.data_exec), (64 << 20, true));
    assert_eq!(git.sandbox.require, [Layer::Namespaces, Layer::Seccomp]);
    assert!(matches!(&files.sandbox.network, Network::Allow(to) if to.len() == 3));
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
fn every_value_knows_the_file_that_it_comes_from() {
    let home = Home::with(&[
        ("tenantd.toml", "[defaults.quota]\nsessions = 1\nprocesses = 1\n"),
        ("templates.d/office.toml", "\n[quota]\nsessions = 2\n"),
        ("tenants.d/acme.toml", "template = \"office\"\nserver.command = \"sh\"\n"),
    ]);
    let acme = TenantId::parse("acme").expect("an id");
    let settings = effective(&home.layout, &acme).expect("a file");
    let lines: Vec<_> = settings
        .iter()
        .map(|set| format!("{} = {} # {}:{}", set.key, set.value, set.file, set.line))
        .collect();
    assert_eq!(
        lines,
        [
            "quota.processes = 1 # tenantd.toml:3",
            "quota.sessions = 2 # templates.d/office.toml:3",
            "server.command = \"sh\" # tenants.d/acme.toml:2",
            "template = \"office\" # tenants.d/acme.toml:1",
        ]
    );
    assert_eq!(effective(&home.layout, &TenantId::parse("globex").expect("an id")), None);
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
