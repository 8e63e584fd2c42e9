//! A secret is in the server that has it, and nowhere else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::delivery::shown;
use crate::house::{is_root, keep_in_files, set, shell, with};
use crate::support::{Era, Home};

/// In two halves, so that no program or file of the test holds it whole.
const HALVES: [&str; 2] = ["Pl4nted-v4lue-", "of-4cme-0123456789"];

fn planted() -> String {
    HALVES.concat()
}

fn holds(bytes: &[u8], value: &str) -> bool {
    memchr::memmem::find(bytes, value.as_bytes()).is_some()
}

/// Whether a process has it in memory that is its own: what is mapped from a file is looked at as a file.
fn remembers(pid: u32, value: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("memory");
    let mut looked = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').expect("a range");
        if !rest.starts_with('r') || line.contains("[vvar") || line.contains("[vsyscall") {
            continue;
        }
        let (from, to) = range.split_once('-').expect("two addresses");
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        let mut bytes = vec![0; usize::try_from(to - from).expect("fits")];
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            looked += bytes.len();
            if holds(&bytes, value) {
                return true;
            }
        }
    }
    assert!(looked > 0, "nothing of {pid} was read");
    false
}

#[test]
fn a_secret_is_nowhere_but_in_its_server() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    keep_in_files(&home, false);
    let credentials =
        ["name = \"token\"\nenv = \"API_TOKEN\"", "name = \"cert\"\nfile = \"cert.pem\""];
    home.tenant("acme", &with(&credentials, ""));
    home.tenant("other", &with(&[], ""));
    let supervisor = home.start();
    let value = planted();
    set(&home, &["acme", "token"], value.as_bytes());
    set(&home, &["acme", "cert"], value.as_bytes());
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    // It is not asked for: what a server says goes through its mux.
    let lengths =
        shell(&mut session, "echo ${#API_TOKEN}; wc -c < $CREDENTIALS_DIRECTORY/cert.pem");
    assert_eq!(lengths, format!("{0}\n{0}\n", value.len()));
    let server = home.server("acme").pid;
    assert!(remembers(server, &value), "the search finds nothing");
    let init = home.process("acme", 1).pid;
    let mut searched = 0;
    for process in supervisor.descendants() {
        if [server, init].contains(&process.pid) {
            continue;
        }
        searched += 1;
        assert!(!remembers(process.pid, &value), "{} has it", process.name);
    }
    assert!(searched >= 2, "mux and keeper: {searched}");
    assert!(!remembers(supervisor.pid(), &value), "the supervisor has it");
    for pid in [supervisor.pid(), init].into_iter().chain([home.keeper("acme").pid]) {
        for what in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{what}")).expect("read");
            assert!(!holds(&bytes, &value), "{what} of {pid}");
        }
    }
    let line = fs::read(format!("/proc/{server}/cmdline")).expect("read");
    assert!(!holds(&line, &value), "the server's arguments");
    for (name, bytes) in shown(&home) {
        assert!(!holds(&bytes, &value), "{name}");
    }
    let limits = fs::read_to_string(format!("/proc/{server}/limits")).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("it");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let [one, other] = HALVES;
    let mut stranger = supervisor.connect("other");
    stranger.open(Era::Legacy);
    let search = format!(
        "p={one}; p=\"${{p}}{other}\"; ls /run/credentials; env | grep -c \"$p\"; cat /proc/*/environ | grep -c \"$p\"; \
         grep -rls \"$p\" /run /tmp /etc $HOME $TENANTD_DATA_DIR; echo searched"
    );
    let found = shell(&mut stranger, &search);
    assert!(!found.contains("cert.pem") && found.contains("searched"), "{found}");
    assert_eq!(found.lines().filter(|line| line.trim() == "0").count(), 2, "{found}");
    // Its own server can have it from what is its own, and from nothing of pid 1.
    let pry = "cat /proc/1/environ /proc/1/mem; ls /proc/1/fd; kill -0 1 && echo reached";
    let pried = shell(&mut session, pry);
    assert_eq!(pried.matches("Permission denied").count(), 3, "{pried}");
    for session in [session, stranger] {
        assert_eq!(session.close().code(), Some(0));
    }
    supervisor.stop();
}
