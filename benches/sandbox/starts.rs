//! From the launch of a program to the end of its stdout, or to its first answer: plain, in the sandbox, in bubblewrap.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags};
use tenantd::wire::stage::{Backend, KeeperWord, Limits, Network, StagePlan, View};
use tenantd::wire::{self, Birth, Identity};
use tenantd::{post, sys};

use super::{percentile, say};
use crate::support::Packages;
use crate::support::tenantd;

/// Starts of each kind.
const ROUNDS: usize = 80;
/// Whom a server of the system's supervisor becomes: the last of the range that is set aside.
const TENANT: u32 = 1_900_065_535;

const HELLO: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}
"#;

/// A program, and when it has started.
struct Program {
    name: &'static str,
    command: String,
    args: Vec<String>,
    /// Timed until it answers `initialize`; else until its stdout ends, as whoever talks to it sees its end.
    answers: bool,
}

pub(crate) fn measure() {
    let own = tenantd().display().to_string();
    let mut programs = vec![
        Program { name: "/bin/true", command: "/bin/true".into(), args: vec![], answers: false },
        Program {
            name: "documents server",
            command: own,
            args: vec!["builtin".into(), "documents".into()],
            answers: true,
        },
    ];
    if let Some(packages) = Packages::find() {
        programs.push(Program {
            name: "node, to its end",
            command: std::fs::canonicalize(packages.node()).expect("node").display().to_string(),
            args: vec!["-e".into(), String::new()],
            answers: false,
        });
    }
    say(
        "| start of | plain p50 | sandbox p50 | bubblewrap p50 | sandbox to plain | plain p95 | sandbox p95 | bubblewrap p95 |",
    );
    say("|---|---:|---:|---:|---:|---:|---:|---:|");
    programs.iter().for_each(compare);
    say("");
}

fn compare(program: &Program) {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let wrapped = Command::new("bwrap").arg("--version").output().is_ok();
    for _ in 0..ROUNDS {
        times[0].push(plain(program));
        times[1].push(sandboxed(program));
        if wrapped {
            times[2].push(bubblewrapped(program));
        }
    }
    let figure = |times: &mut Vec<Duration>, share| match times.is_empty() {
        true => "-".to_owned(),
        false => format!("{:.2} ms", percentile(times, share)),
    };
    let more = percentile(&mut times[1], 0.5) - percentile(&mut times[0], 0.5);
    let p50: Vec<_> = times.iter_mut().map(|times| figure(times, 0.5)).collect();
    let p95: Vec<_> = times.iter_mut().map(|times| figure(times, 0.95)).collect();
    let (name, p50, p95) = (program.name, p50.join(" | "), p95.join(" | "));
    say(&format!("| {name} | {p50} | {more:+.2} ms | {p95} |"));
}

fn plain(program: &Program) -> Duration {
    let mut command = Command::new(&program.command);
    command.args(&program.args);
    let data = tempfile::tempdir().expect("a directory");
    run(command, program, data.path())
}

fn bubblewrapped(program: &Program) -> Duration {
    let mut command = Command::new("bwrap");
    let own = Path::new(&program.command).parent().expect("a directory");
    command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"]);
    for (to, link) in [("usr/bin", "/bin"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64")] {
        command.args(["--symlink", to, link]);
    }
    if !own.starts_with("/usr") && own != Path::new("/bin") {
        command.arg("--ro-bind").args([own, own]);
    }
    let data = tempfile::tempdir().expect("a directory");
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind"]);
    command.args([data.path(), data.path()]).arg("--").arg(&program.command).args(&program.args);
    run(command, program, data.path())
}

fn run(mut command: Command, program: &Program, directory: &Path) -> Duration {
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(directory);
    command.env("TENANTD_TENANT", "bench").env("TENANTD_DATA_DIR", directory);
    command.stderr(Stdio::null()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    if program.answers {
        stdin.write_all(HELLO).expect("written");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
        let took = start.elapsed();
        assert!(line.contains("protocolVersion"), "{command:?}: {line}");
        drop(stdin);
        child.wait().expect("its end");
        return took;
    }
    let took = ended(child.stdout.take().expect("a pipe").into(), start);
    let status = child.wait().expect("its end");
    assert!(status.success(), "{command:?}: {status}");
    took
}

/// When nobody can write there any more.
fn ended(stdout: OwnedFd, start: Instant) -> Duration {
    let mut nothing = Vec::new();
    File::from(stdout).read_to_end(&mut nothing).expect("read");
    assert!(nothing.is_empty(), "{nothing:?}");
    start.elapsed()
}

/// As the supervisor starts a server: the stage, a plan, its descriptors.
fn sandboxed(program: &Program) -> Duration {
    let root = nix::unistd::geteuid().is_root();
    let directory = tempfile::tempdir().expect("a directory");
    if root {
        chown(directory.path(), Some(TENANT), Some(TENANT)).expect("chown");
    }
    let path = directory.path().display().to_string();
    let env = [("PATH", "/usr/bin:/bin"), ("TENANTD_TENANT", "bench"), ("TENANTD_DATA_DIR", &path)];
    let plan = StagePlan {
        wire: wire::VERSION,
        command: program.command.clone(),
        args: program.args.clone(),
        env: env.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        data: path.clone(),
        home: path,
        identity: root.then(|| Identity { uid: TENANT, gid: TENANT, groups: Vec::new() }),
        keeper: None,
        backend: Backend::UserNamespace,
        require: Vec::new(),
        view: View {
            read: vec![program.command.replace("/bin/true", "/usr/bin/true")],
            links: BTreeMap::new(),
            tmp_bytes: 1 << 20,
            ..View::default()
        },
        network: Network::None,
        limits: Limits::default(),
        seat: None,
        secrets: BTreeMap::new(),
    };
    birth(&plan, directory.path(), program)
}

fn birth(plan: &StagePlan, data: &Path, program: &Program) -> Duration {
    let start = Instant::now();
    let sealed = post::seal(plan).expect("a plan");
    let (near, far) = sys::seqpacket_pair().expect("a pair");
    let (lifeline, leash) = sys::seqpacket_pair().expect("a pair");
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let ((stdin, feed), (out, stdout)) = (pipe(), pipe());
    let null = OwnedFd::from(File::options().write(true).open("/dev/null").expect("null"));
    let data = OwnedFd::from(File::open(data).expect("data"));
    let mut child = Command::new(tenantd())
        .arg("--role=stage")
        .env_clear()
        .stdin(Stdio::from(far))
        .stdout(Stdio::null())
        .spawn()
        .expect("a stage");
    let bytes = serde_json::to_vec(&Birth::Stage).expect("JSON");
    let fds = [&sealed, &stdin, &stdout, &null, &lifeline, &data].map(AsFd::as_fd);
    sys::send_datagram(&near, &bytes, &fds, SendFlags::empty()).expect("sent");
    drop((stdin, stdout, lifeline));
    let took = if program.answers {
        File::from(feed.try_clone().expect("dup")).write_all(HELLO).expect("written");
        let mut line = String::new();
        BufReader::new(File::from(out)).read_line(&mut line).expect("read");
        assert!(line.contains("protocolVersion"), "{line} {:?}", word(&leash));
        start.elapsed()
    } else {
        let took = ended(out, start);
        let first = word(&leash);
        assert!(matches!(first, KeeperWord::Confined { .. }), "{first:?}");
        assert_eq!(word(&leash), KeeperWord::Exited { code: 0 });
        took
    };
    drop((feed, leash));
    child.wait().expect("its end");
    took
}

fn word(leash: &OwnedFd) -> KeeperWord {
    post::receive(leash, &mut [0; 16 * 1024], RecvFlags::empty()).expect("a word").0
}
