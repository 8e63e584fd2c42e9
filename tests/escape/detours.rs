//! What is planted now to be followed later, and what is swapped between a look and a use.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{run, shell, strict_tenant};
use crate::support::{Era, Home, Session, Supervisor, said};

fn open(supervisor: &Supervisor<'_>, tenant: &str) -> Session {
    let mut session = supervisor.connect(tenant);
    session.open(Era::Legacy);
    session
}

/// Why a tenant does not serve, as its client hears it.
fn why(supervisor: &Supervisor<'_>, tenant: &str) -> String {
    let mut session = open(supervisor, tenant);
    said(&session.call("tenantd_status", serde_json::json!({}))).to_owned()
}

fn replace_by_link(path: &Path, target: &Path) {
    fs::rename(path, path.with_extension("moved")).expect("moved");
    symlink(target, path).expect("a link");
}

#[test]
fn links_that_a_server_plants_lead_nowhere_now_and_after_a_restart() {
    let home = Home::new();
    for tenant in ["acme", "globex"] {
        home.tenant(tenant, &strict_tenant("", ""));
    }
    let supervisor = home.start();
    drop(open(&supervisor, "globex"));
    let ledger = home.file("state/tenants/globex/data/ledger", "not yours\n");
    let mut session = open(&supervisor, "acme");
    let target = ledger.display();
    let planted = shell(
        &mut session,
        &format!(
            "ln -s {target} $TENANTD_DATA_DIR/file && ln -s {} $TENANTD_DATA_DIR/directory && \
             ln -s {target} $HOME/.profile && ln -s /proc/1/root $HOME/root && echo planted; \
             ln {target} $TENANTD_DATA_DIR/hard 2>/dev/null && echo linked",
            home.data("globex").display()
        ),
    );
    assert_eq!(planted, "planted", "a hard link to another's file was made");
    let look = "cat $TENANTD_DATA_DIR/file $TENANTD_DATA_DIR/directory/ledger $HOME/.profile \
                $TENANTD_DATA_DIR/hard 2>&1; ls $HOME/root/ 2>&1; \
                echo mine > $TENANTD_DATA_DIR/file; echo mine > $TENANTD_DATA_DIR/directory/ledger";
    for _ in 0..2 {
        let seen = shell(&mut session, look);
        assert!(!seen.contains("not yours") && !seen.contains("usr"), "{seen}");
        assert_eq!(fs::read_to_string(&ledger).expect("it is there"), "not yours\n");
        assert!(home.run(&["restart", "acme"]).status.success());
    }
    supervisor.stop();
    // A start with the links in place, by another supervisor.
    let supervisor = home.start();
    let seen = shell(&mut open(&supervisor, "acme"), look);
    assert!(!seen.contains("not yours"), "{seen}");
    supervisor.stop();
}

#[test]
fn a_path_that_became_a_link_after_it_was_read_refuses_the_start_and_says_so() {
    for key in ["read", "write"] {
        for swapped in ["shared/papers", "shared"] {
            let home = Home::new();
            home.directory("shared/papers");
            let papers = home.path().join("shared/papers");
            home.tenant("globex", &strict_tenant("", ""));
            home.tenant("acme", &strict_tenant(&format!("{key} = [{papers:?}]"), ""));
            let supervisor = home.start();
            drop(open(&supervisor, "globex"));
            // Where the configuration looks at every path at each reading, this one comes too late for it.
            home.directory("state/tenants/globex/data/papers");
            replace_by_link(&home.path().join(swapped), &home.data("globex"));
            let why = why(&supervisor, "acme");
            assert!(why.contains("symbolic link"), "{key}, {swapped}: {why}");
            supervisor.stop();
        }
    }
}

#[test]
fn a_data_directory_that_became_a_link_is_not_used() {
    let home = Home::new();
    let data = home.directory("customers/acme");
    let elsewhere = home.directory("elsewhere/acme");
    home.tenant("acme", &format!("data = {data:?}\n{}", strict_tenant("", "")));
    let supervisor = home.start();
    replace_by_link(&data, &elsewhere);
    let why = why(&supervisor, "acme");
    assert!(why.contains("real directory"), "{why}");
    let made = fs::read_dir(&elsewhere).expect("a directory").count();
    assert_eq!(made, 0, "something was written where the link leads");
    supervisor.stop();
}

#[test]
fn a_server_cannot_take_its_own_directories_away() {
    let home = Home::new();
    home.tenant("acme", &strict_tenant("", ""));
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    let said = shell(
        &mut session,
        "for d in $TENANTD_DATA_DIR $HOME; do mv $d $d.moved 2>/dev/null && echo moved; \
         rmdir $d 2>/dev/null && echo removed; done; echo end",
    );
    assert_eq!(said, "end");
    let done = run(&mut session, &["/usr/bin/touch", "still-there"], "");
    assert_eq!(done["code"], 0, "{done}");
    assert!(home.data("acme").join("still-there").exists());
    supervisor.stop();
}
