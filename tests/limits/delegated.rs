//! User mode: limits where a control group was given to the user, and a word where none was.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::groups::{group_of, hierarchy, told};
use crate::support::{Era, Home, puppet_tenant, tenantd, test_user};

/// Groups below our own that belong to a user, removed at the end.
struct Delegated(Vec<PathBuf>);

impl Delegated {
    fn to(uid: u32, name: &str) -> Option<Self> {
        let all = ["memory", "pids", "cpu"];
        if all.iter().any(|controller| hierarchy(controller).is_none()) {
            return None;
        }
        let own = u64::from(std::process::id());
        let groups = all.map(|controller| group_of(own, controller).join(name));
        for group in &groups {
            fs::create_dir(group).expect("made");
            for path in [group.clone(), group.join("cgroup.procs"), group.join("tasks")] {
                chown(path, Some(uid), Some(uid)).expect("given");
            }
        }
        Some(Self(groups.into()))
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in &self.0 {
            let gone = fs::remove_dir(group);
            assert!(std::thread::panicking() || gone.is_ok(), "{}: {gone:?}", group.display());
        }
    }
}

fn requiring() -> String {
    let file = puppet_tenant(&[], "").replace("\"seccomp\"]", "\"seccomp\", \"cgroup\"]");
    format!("{file}[quota]\nprocesses = 64\n")
}

#[test]
fn a_group_that_was_given_to_the_user_holds_the_users_tenants() {
    let Some(user) = test_user() else {
        return eprintln!(
            "SKIPPED: only root can give a control group away (run tests/run as root)"
        );
    };
    let (uid, gid) = (user.uid.as_raw().to_string(), user.gid.as_raw().to_string());
    let name = format!("tenantd-test-{}", std::process::id());
    let Some(delegated) = Delegated::to(user.uid.as_raw(), &name) else {
        return eprintln!("SKIPPED: there are no v1 controllers here");
    };
    let home = Home::new();
    home.tenant("acme", &requiring());
    let mut command = Command::new("sh");
    let procs = delegated.0.iter().map(|group| group.join("cgroup.procs"));
    command.args(["-c", "for file; do echo $$ > \"$file\"; done; exec setpriv --reuid $U --regid $G --clear-groups \"$TENANTD\" serve --user", "sh"]);
    command.args(procs).env("U", uid).env("G", gid).env("TENANTD", tenantd());
    command.env("TENANTD_HOME", home.path()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let supervisor = home.launch(command);
    assert!(
        home.status()["supervisor"]["limits"]
            .as_str()
            .is_some_and(|by| by.starts_with("cgroup v1"))
    );
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    let bomb = told(&session.call("forks", json!({"count": 200})));
    assert!(bomb["started"].as_u64().is_some_and(|started| started < 64), "{bomb}");
    drop(session);
    supervisor.stop();
}

#[test]
fn without_a_group_of_ones_own_that_is_said_and_what_requires_one_waits() {
    if test_user().is_none() {
        return eprintln!("SKIPPED: who runs this may have control groups (run tests/run as root)");
    }
    let home = Home::new();
    home.tenant("acme", &requiring());
    let supervisor = home.start();
    let status = home.status();
    let limits = status["supervisor"]["limits"].as_str().expect("a text");
    assert!(limits.starts_with("none: ") && limits.contains("start tenantd"), "{limits}");
    let missing = status["supervisor"]["not_isolated"].to_string();
    assert!(missing.contains("cgroup: "), "{missing}");
    let held = home.tenant_status("acme", |_| true)["servers"][0]["held"].take();
    assert!(held.as_str().is_some_and(|held| held.contains("cgroup")), "{held}");
    supervisor.stop();
}
