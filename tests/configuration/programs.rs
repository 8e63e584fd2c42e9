//! Commands with what they need around them: found, judged as if the file named it, and shown.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tenantd::config::effective;
use tenantd::names::TenantId;
use tenantd::paths::Mode;

use crate::{Home, is_good, said, tenant};

fn root(home: &Home) -> PathBuf {
    let root = home.dir.path().canonicalize().expect("a path");
    fs::set_permissions(&root, Permissions::from_mode(0o711)).expect("chmod");
    root
}

/// A program of two files: `tools/bin/server`, whose interpreter is `tools/bin/run`, with `tools/lib`.
fn install(at: &Path) -> PathBuf {
    fs::create_dir_all(at.join("tools/bin")).expect("mkdir");
    fs::create_dir_all(at.join("tools/lib")).expect("mkdir");
    let (run, server) = (at.join("tools/bin/run"), at.join("tools/bin/server"));
    fs::write(&run, "\x7fELF").expect("a file");
    fs::write(&server, format!("#!{}\n", run.display())).expect("a file");
    for path in [&run, &server] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod");
    }
    server
}

fn with_command(command: &Path, more: &str) -> String {
    format!("[server]\ncommand = \"{}\"\n{more}", command.display())
}

#[test]
fn what_a_command_needs_is_part_of_its_server_and_shown_with_its_origin() {
    let home = Home::new(Mode::User);
    let root = root(&home);
    let server = install(&root);
    symlink("tools/bin/server", root.join("link")).expect("symlink");
    home.write("tenants.d/acme.toml", with_command(&root.join("link"), ""));
    let loaded = home.load();
    assert_eq!(said(&loaded), Vec::<String>::new());
    let acme = tenant(&loaded, "acme");
    assert_eq!(acme.servers[0].needs.read, [root.join("tools")]);
    assert_eq!(acme.servers[0].command, root.join("link"), "it is executed by the name as written");
    let settings = effective(&home.layout, &acme.id).expect("a file");
    let found: Vec<_> = settings.iter().filter(|set| set.line == 0).collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|set| set.file == "found for server.command"));
    assert_eq!(found[0].value, format!("\"{}\"", root.join("tools").display()));
    assert!(
        found[1].key == "server.needs.link" && found[1].value.ends_with("\"tools/bin/server\"")
    );
    // Another place, another start: what runs has to be restarted for it.
    let before = acme.start_digest.clone();
    fs::create_dir(root.join("moved")).expect("mkdir");
    install(&root.join("moved"));
    fs::remove_file(root.join("link")).expect("removed");
    symlink("moved/tools/bin/server", root.join("link")).expect("symlink");
    assert_ne!(tenant(&home.load(), "acme").start_digest, before);
    assert!(server.is_file());
}

#[test]
fn a_server_never_needs_what_is_the_supervisors() {
    let home = Home::new(Mode::User);
    let root = root(&home);
    // A prefix that holds the configuration, the sockets and the state.
    fs::create_dir_all(root.join("bin")).expect("mkdir");
    fs::create_dir_all(root.join("lib")).expect("mkdir");
    let program = root.join("bin/server");
    fs::write(&program, "\x7fELF").expect("a file");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("chmod");
    home.write("tenants.d/acme.toml", with_command(&program, ""));
    let said = said(&home.load());
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with("tenants.d/acme.toml:2:11: the command needs "), "{said:#?}");
    assert!(said[0].contains("the sockets of the supervisor") && said[0].contains("; install it"));
}

#[test]
fn what_one_tenant_can_write_no_other_tenant_runs() {
    let home = Home::new(Mode::User);
    let root = root(&home);
    let server = install(&root);
    home.write("tenants.d/acme.toml", with_command(&server, ""));
    home.write("tenants.d/other.toml", with_command(&server, ""));
    let shared =
        format!("data = \"{}\"\n[server]\ncommand = \"sh\"\n", root.join("tools/lib").display());
    home.write("tenants.d/writer.toml", shared);
    let loaded = home.load();
    let said = said(&loaded);
    for (tenant, start) in [
        ("acme", "tenants.d/acme.toml:2:11: "),
        ("other", "tenants.d/other.toml:2:11: "),
        ("writer", "tenants.d/writer.toml:1:8: this path and "),
    ] {
        assert!(said.iter().any(|line| line.starts_with(start)), "{said:#?}");
        assert!(!is_good(&loaded, tenant), "{tenant}");
    }
    assert!(said[0].contains("which this command needs, and "), "{said:#?}");
}

#[test]
fn a_command_in_the_tenants_own_data_needs_the_right_to_be_executed_there() {
    let home = Home::new(Mode::User);
    let root = root(&home);
    let data = root.join("data");
    let server = install(&data);
    let head = format!("data = \"{}\"\n", data.display());
    home.write("tenants.d/acme.toml", head.clone() + &with_command(&server, ""));
    let said_of = |home: &Home| said(&home.load());
    let lines = said_of(&home);
    assert!(lines.len() == 1 && lines[0].contains("sandbox.data_exec = true"), "{lines:#?}");
    // With it the command runs, and nothing is followed: all there is the tenant's to change.
    home.write(
        "tenants.d/acme.toml",
        head.clone() + &with_command(&server, "sandbox.data_exec = true\n"),
    );
    let loaded = home.load();
    assert_eq!(said(&loaded), Vec::<String>::new());
    assert_eq!(tenant(&loaded, "acme").servers[0].needs.read, Vec::<PathBuf>::new());
    // Nor is a link from outside into it followed.
    symlink("data/tools/bin/server", root.join("link")).expect("symlink");
    home.write("tenants.d/acme.toml", head + &with_command(&root.join("link"), ""));
    assert!(said_of(&home)[0].contains("which the tenant can write"));
    // The default data directory is the tenant's as well.
    let own = home.layout.tenant_data(&TenantId::parse("acme").expect("an id"));
    let server = install(&own);
    home.write("tenants.d/acme.toml", with_command(&server, ""));
    assert!(said_of(&home)[0].contains("which the tenant can write"));
}

#[test]
fn system_mode_refuses_by_name_what_the_tenants_own_user_cannot_read() {
    let home = Home::new(Mode::System);
    let root = root(&home);
    let server = install(&root);
    home.write("tenants.d/acme.toml", with_command(&server, ""));
    assert_eq!(said(&home.load()), Vec::<String>::new());
    let shut = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        let said = said(&home.load());
        assert_eq!(said.len(), 1, "{said:#?}");
        said[0].clone()
    };
    let said = shut(&root.join("tools"), 0o700);
    assert!(said.contains("by the tenant's own user"), "{said}");
    let place = root.join("tools").display().to_string();
    assert!(said.contains(&format!("({place} shuts it out); chmod o+x {place}")), "{said}");
    fs::set_permissions(root.join("tools"), Permissions::from_mode(0o755)).expect("chmod");
    let said = shut(&server, 0o711);
    assert!(said.contains("is not readable") && said.contains("chmod o+rX"), "{said}");
    fs::set_permissions(&server, Permissions::from_mode(0o755)).expect("chmod");
    let said = shut(&root.join("tools/bin/run"), 0o700);
    assert!(said.contains("tools/bin/run, which the command needs, is not executable"), "{said}");
}

#[test]
fn a_path_of_the_sandbox_is_bound_where_it_is_and_found_by_the_name_as_written() {
    let home = Home::new(Mode::User);
    let root = root(&home);
    fs::create_dir_all(root.join("real/inner")).expect("mkdir");
    symlink("real", root.join("name")).expect("symlink");
    let name = root.join("name/inner");
    let text = format!("[server]\ncommand = \"sh\"\n[sandbox]\nread = [\"{}\"]\n", name.display());
    home.write("tenants.d/acme.toml", text);
    let loaded = home.load();
    let server = &tenant(&loaded, "acme").servers[0];
    assert_eq!(server.sandbox.read, [root.join("real/inner")]);
    assert_eq!(
        server.needs.links.get(&root.join("name")).map(PathBuf::as_path),
        Some(Path::new("real"))
    );
}
