//! No tenant stands on another's ground, nor on the supervisor's.

use std::os::unix::fs::symlink;

use tenantd::names::TenantId;
use tenantd::paths::Mode;

use crate::{GOOD, Home, is_good, said};

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
