//! The layout and what is written where, on plain directories that imitate the kernel's.

use super::*;

const CONTROLLERS: &str = "cpuset cpu io memory pids\n";

fn tree(controllers: &str) -> tempfile::TempDir {
    let own = tempfile::tempdir().expect("a directory");
    fs::write(own.path().join("cgroup.controllers"), controllers).expect("written");
    fs::write(own.path().join("cgroup.type"), "domain\n").expect("written");
    fs::write(own.path().join("cgroup.procs"), "").expect("written");
    own
}

fn unified(own: &Path) -> Cgroups {
    Cgroups { driver: Ok(Box::new(v2::Tree::open(own).expect("a tree"))) }
}

fn says(own: &Path, file: &str) -> String {
    fs::read_to_string(own.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn acme() -> TenantId {
    TenantId::parse("acme").expect("an id")
}

const HALF: Bounds =
    Bounds { memory: Some(1 << 30), cpus: Some(0.5), processes: Some(512), io: None };

#[test]
fn the_supervisor_moves_to_a_leaf_and_hands_its_controllers_on() {
    let own = tree(CONTROLLERS);
    let cgroups = unified(own.path());
    assert_eq!(cgroups.strength(), Ok("cgroup v2"));
    assert_eq!(says(own.path(), "supervisor/cgroup.procs"), std::process::id().to_string());
    // A plain file keeps the last of what is written one by one.
    assert_eq!(says(own.path(), "cgroup.subtree_control"), "+io");
    assert_eq!(says(own.path(), "tenants/cgroup.subtree_control"), "+io");
}

#[test]
fn a_supervisor_that_starts_in_the_leaf_stays_there() {
    let own = tree(CONTROLLERS);
    fs::create_dir(own.path().join("supervisor")).expect("made");
    unified(&own.path().join("supervisor"));
    assert!(own.path().join("tenants").is_dir());
    assert!(!own.path().join("supervisor/supervisor").exists());
    assert!(!own.path().join("supervisor/cgroup.procs").exists(), "it is there already");
}

#[test]
fn what_does_not_hold_is_named_with_its_cure() {
    let own = tree("memory pids\n");
    let why = v2::Tree::open(own.path()).expect_err("no cpu");
    assert!(why.contains("controllers cpu") && why.contains("Delegate=yes"), "{why}");
    let own = tree(CONTROLLERS);
    fs::write(own.path().join("cgroup.procs"), "1\n").expect("written");
    let why = v2::Tree::open(own.path()).expect_err("shared");
    assert!(why.contains("other programs"), "{why}");
    let own = tree(CONTROLLERS);
    fs::remove_file(own.path().join("cgroup.type")).expect("removed");
    let why = v2::Tree::open(own.path()).expect_err("the root");
    assert!(why.contains("no control group of its own"), "{why}");
}

#[test]
fn without_io_the_rest_holds_and_a_set_quota_of_it_is_refused() {
    let own = tree("cpu memory pids\n");
    let cgroups = unified(own.path());
    assert_eq!(cgroups.strength(), Ok("cgroup v2 without io"));
    cgroups.open(&acme(), &HALF).expect("opened");
    cgroups.bound(&acme(), &HALF, Path::new("/")).expect("nothing of io is asked");
    let said = cgroups.bound(&acme(), &Bounds { io: Some(1), ..HALF }, Path::new("/"));
    assert!(said.expect_err("refused").to_string().contains("quota.io"));
}

#[test]
fn a_tenant_is_bounded_and_its_servers_leave_a_reserve() {
    let own = tree(CONTROLLERS);
    let cgroups = unified(own.path());
    assert!(cgroups.open(&acme(), &HALF).expect("opened"));
    let tenant = own.path().join("tenants/acme");
    assert_eq!(says(&tenant, "memory.max"), (1u64 << 30).to_string());
    assert_eq!(says(&tenant, "memory.swap.max"), "0");
    assert_eq!(says(&tenant, "pids.max"), "512");
    assert_eq!(says(&tenant, "cpu.max"), "50000 100000");
    assert_eq!(says(&tenant, "cpu.weight"), "50");
    assert_eq!(says(&tenant, "cgroup.subtree_control"), "+pids");
    assert_eq!(says(&tenant, "servers/memory.max"), ((1u64 << 30) - (128 << 20)).to_string());
    assert_eq!(says(&tenant, "servers/pids.max"), "448");
    assert!(!tenant.join("servers/cpu.max").exists(), "it is the tenant's");
    assert!(tenant.join("mux").is_dir() && tenant.join("egress").is_dir());
    assert!(!cgroups.open(&acme(), &HALF).expect("opened"), "it is there already");
}

#[test]
fn a_server_sits_in_a_group_that_is_killed_whole() {
    let own = tree(CONTROLLERS);
    let cgroups = unified(own.path());
    cgroups.open(&acme(), &HALF).expect("opened");
    let seat = cgroups.server(&acme(), Place(3, 1), &HALF).expect("made").expect("a seat");
    let server = own.path().join("tenants/acme/servers/3-1");
    let text = |name: &str| server.join(name).to_str().expect("text").to_owned();
    assert_eq!(seat.procs, [text("cgroup.procs")]);
    assert_eq!(seat.memory_events, Some(text("memory.events")));
    assert_eq!(seat.pids_events, Some(text("pids.events")));
    assert_eq!(says(&server, "memory.oom.group"), "1");
    assert_eq!(says(&server, "pids.max"), "448");
}

#[test]
fn a_changed_quota_reaches_the_tenant_and_all_that_runs() {
    let own = tree(CONTROLLERS);
    let cgroups = unified(own.path());
    cgroups.open(&acme(), &HALF).expect("opened");
    cgroups.server(&acme(), Place(3, 1), &HALF).expect("made");
    let more = Bounds { processes: None, memory: Some(2 << 30), cpus: None, io: None };
    cgroups.bound(&acme(), &more, Path::new("/")).expect("set");
    let tenant = own.path().join("tenants/acme");
    assert_eq!(says(&tenant, "pids.max"), "max");
    assert_eq!(says(&tenant, "cpu.max"), "max 100000");
    assert_eq!(says(&tenant, "cpu.weight"), "100");
    let servers = ((2u64 << 30) - (128 << 20)).to_string();
    assert_eq!(says(&tenant, "servers/memory.max"), servers);
    assert_eq!(says(&tenant, "servers/3-1/memory.max"), servers);
    assert_eq!(says(&tenant, "servers/3-1/pids.max"), "max");
}

#[test]
fn a_process_is_held_only_where_it_is_listed() {
    let own = tree(CONTROLLERS);
    let cgroups = unified(own.path());
    cgroups.open(&acme(), &HALF).expect("opened");
    assert!(!cgroups.holds(&acme(), 42), "an unreadable list holds nobody");
    fs::write(&cgroups.mux(&acme())[0], "7\n42\n").expect("written");
    assert!(cgroups.holds(&acme(), 42) && !cgroups.holds(&acme(), 4));
    let other = TenantId::parse("globex").expect("an id");
    assert!(!cgroups.holds(&other, 42));
}

#[test]
fn only_what_can_be_a_tenant_is_one() {
    let own = tree(CONTROLLERS);
    let cgroups = unified(own.path());
    cgroups.open(&acme(), &HALF).expect("opened");
    fs::create_dir(own.path().join("tenants/Not One")).expect("made");
    assert_eq!(cgroups.tenants(), [acme()]);
}

#[test]
fn what_was_handed_on_is_taken_back_from_below() {
    let own = tree(CONTROLLERS);
    let cgroups = unified(own.path());
    cgroups.open(&acme(), &HALF).expect("opened");
    let handed = ["", "tenants", "tenants/acme", "tenants/acme/servers"];
    let file = |group: &str| own.path().join(group).join("cgroup.subtree_control");
    handed.iter().for_each(|group| fs::write(file(group), "memory pids").expect("written"));
    v2::release(&own.path().join(".control")).expect("released");
    for group in handed {
        // A plain file keeps the last of what is written.
        assert_eq!(fs::read_to_string(file(group)).expect("there"), "-pids", "{group}");
    }
    // The next supervisor hands them on again.
    cgroups.bound(&acme(), &HALF, Path::new("/")).expect("bounded");
    assert_eq!(says(own.path(), "tenants/acme/cgroup.subtree_control"), "+pids");
    assert_eq!(says(own.path(), "tenants/acme/servers/cgroup.subtree_control"), "+pids");
}
