//! Every mistake gets its place, its words and its cure.

use crate::{GOOD, Home, about, is_good, said};

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
        "server.command = \"sh\"\nsandbox.network = [\"a:443\"]\n[[credential]]\nname = \"x\"\ninject = { hosts = [\"a\", \"b.lan\"] }\n",
        "cannot reach b.lan, to which inject sends a credential; add \"b.lan:443\" to its sandbox.network",
    ),
    (
        "server.command = \"sh\"\nsandbox.network = [\"a:80\"]\n[[credential]]\nname = \"x\"\ninject = { hosts = [\"a\"] }\n",
        "add \"a:443\" to its sandbox.network",
    ),
    (
        "server.command = \"sh\"\nsandbox.network = [\"*.b.lan:443\"]\n[[credential]]\nname = \"x\"\ninject = { hosts = [\"b.lan\"] }\n",
        "cannot reach b.lan",
    ),
    (
        "server.command = \"sh\"\nsandbox.network = \"host\"\n[[credential]]\nname = \"x\"\ninject = { hosts = [\"a\"] }\n",
        "it has the host's; write sandbox.network = [\"a:443\"]",
    ),
    (
        "server.command = \"sh\"\nsandbox.network = [\"a:443\"]\n[[credential]]\nname = \"x\"\ninject = { hosts = [\"a\"], header = \"Host\" }\n",
        "header = \"Host\" cannot hold a secret",
    ),
    (
        "server.command = \"sh\"\nsandbox.network = [\"a:443\"]\n[[credential]]\nname = \"x\"\ninject = { hosts = [\"a\", \"A\"] }\n",
        "\"A\" is in hosts twice",
    ),
    (
        "server.command = \"sh\"\nsandbox.network = [\"a:443\", \"b:443\"]\n[[credential]]\nname = \"x.y\"\ninject = { hosts = [\"a\"] }\n[[credential]]\nname = \"X_Y\"\ninject = { hosts = [\"b\"] }\n",
        "x-y.tenantd.internal of server \"main\" has two credentials",
    ),
    (
        "server.command = \"sh\"\nsandbox.network = [\"x.tenantd.internal:80\"]\n",
        "is a name of tenantd's own",
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
    ("server.command = \"sh\"\n[oauth.a]\nscopes = [\"x\"]\n", "does not say where one logs in"),
    (
        "server.command = \"sh\"\n[oauth.a]\nissuer = \"http://example.com\"\n",
        "issuer is not the address of an authorization server",
    ),
    (
        "server.command = \"sh\"\n[oauth.a]\nrevocation_endpoint = \"https://a/r\"\n",
        "has neither issuer nor token_endpoint",
    ),
    (
        "server.command = \"sh\"\n[oauth.a]\nauthorization_endpoint = \"https://a/l\"\ntoken_endpoint = \"https://a/t\"\n",
        "has neither issuer nor client_id",
    ),
    (
        "server.command = \"sh\"\n[oauth.a]\nissuer = \"https://a.b\"\nclient_secret = true\n",
        "client_secret = true without a client_id",
    ),
    (
        "server.command = \"sh\"\n[oauth.a]\nissuer = \"https://a.b\"\nscopes = [\"a b\"]\n",
        "in scopes is not a scope",
    ),
    (
        "server.command = \"sh\"\n[oauth.a]\nissuer = \"https://a.b\"\nresource = \"/a\"\n",
        "is not an absolute URI",
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
        ("templates.d/office.toml", "server.command = \"sh\"\n[quota]\nmemory = true\n"),
        ("templates.d/nested.toml", "template = \"office\"\n"),
        ("tenants.d/acme.toml", "template = \"office\"\n"),
        ("tenants.d/globex.toml", GOOD),
    ]);
    let loaded = home.load();
    let said = said(&loaded);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].contains("nested.toml:1:12: a template cannot name a template"), "{said:?}");
    assert!(said[1].contains("office.toml:3:10: memory = true is not a size"), "{said:?}");
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
        "server.command = \"sh\"\nsandbox.network = [\"a:443\"]\n[[credential]]\nname = \"a\"\ninject = { hosts = [\"a\"], value = \"5551234\" }\n",
        "server.command = \"sh\"\n[oauth.a]\nissuer = \"https://a:5551234@b.c\"\n",
    ] {
        let said = about(text);
        assert_eq!(said.len(), 1, "{text}\n{said:?}");
        assert!(!said[0].contains("5551234"), "{said:?}");
    }
}
