//! A server that queries a real PostgreSQL through one exact entry of its allowlist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Home, Packages, as_test_user, own, wait_until};
use crate::world::{World, logged, scripts, tool};

/// The newest PostgreSQL of this machine; `None`, said loudly, where there is none. In CI that is a failure.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max();
    if newest.is_none() {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is missing (run tests/run)");
        eprintln!("SKIPPED: PostgreSQL is missing (run tests/run, which installs it)");
    }
    newest
}

/// A cluster of the test's own, served on 127.0.0.1:5432 of a world.
struct Cluster(Child);

impl Cluster {
    fn start(world: &World, programs: &Path, home: &Home) -> Self {
        let (data, password) =
            (home.directory("postgres"), home.file("password", "correct horse\n"));
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.args([
            "--no-sync",
            "--auth=scram-sha-256",
            "--username=acme",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(&data).current_dir("/");
        let made = as_test_user(&mut initdb).output().expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = Command::new(programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", "5432", "-F", "-k", ""]);
        server.current_dir("/").stdin(Stdio::null());
        let log = fs::File::create(home.path().join("postgres.log")).expect("a log");
        server.stdout(log.try_clone().expect("a copy")).stderr(log);
        let started = world.inside(|| as_test_user(&mut server).spawn().expect("postgres"));
        let cluster = Self(started);
        wait_until("PostgreSQL answers", || {
            let mut ready = Command::new(programs.join("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", "5432"]);
            world.inside(|| ready.status().is_ok_and(|status| status.success()))
        });
        cluster
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        // Its immediate shutdown: nothing of it is kept.
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.0.wait();
    }
}

fn tenant(packages: &Packages, network: &str) -> String {
    let root = packages.root().join("python").canonicalize().expect("a directory");
    let (python, read) = (root.join("bin/python"), [scripts(), root]);
    format!(
        "[server]\ncommand = {python:?}\nargs = [{:?}]\n\
         env = {{ PGHOST = \"db.acme.lan\", PGPASSWORD = \"correct horse\" }}\n\
         [sandbox]\nnetwork = {network}\nread = {read:?}\n",
        scripts().join("postgres.py")
    )
}

#[test]
fn a_server_queries_a_real_postgresql_through_one_exact_entry_and_without_it_reaches_none() {
    let (Some(world), Some(packages)) = (World::make(), Packages::find()) else { return };
    let Some(programs) = programs() else { return };
    let home = Home::new();
    own(home.path());
    let _cluster = Cluster::start(&world, &programs, &home);
    home.tenant("acme", &tenant(&packages, r#"["db.acme.lan:5432"]"#));
    home.tenant("globex", &tenant(&packages, r#"["db.acme.lan:5433", "*.acme.lan:5432"]"#));
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let mut query = |sql: &str| tool(&mut session, "query", json!({"sql": sql}));
    query("CREATE TABLE rooms (name text, floor int)");
    query("INSERT INTO rooms SELECT 'room ' || n, n % 7 FROM generate_series(1, 20000) AS n");
    let counted = query("SELECT count(*), max(floor) FROM rooms");
    assert_eq!(counted["rows"], json!([["20000", "6"]]), "{counted}");
    let all = query("SELECT name FROM rooms ORDER BY floor, name");
    assert_eq!(all["rows"].as_array().map(Vec::len), Some(20_000));
    let here = query("SELECT host(inet_client_addr()) = '127.0.0.1', current_user");
    assert_eq!(here["rows"], json!([["True", "acme"]]), "{here}");
    let lines = logged(&home, "acme", &["main allowed", "host=db.acme.lan port=5432"], 5);
    assert!(!lines.concat().contains("room 1"), "{lines:?}");
    // A wildcard leads to no database of the house, and another port is another door.
    let mut other = supervisor.connect("globex");
    other.initialize(json!({}));
    let refused: Value = tool(&mut other, "query", json!({"sql": "SELECT 1"}));
    assert!(refused["error"].is_string(), "{refused}");
    session.close();
    other.close();
    supervisor.stop();
}
