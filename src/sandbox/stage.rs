//! The stage: one process that receives a plan, forks, and whose child becomes the tenant's server.
//!
//! The steps, in order; none can be taken back:
//!
//! 1. not dumpable: nobody of this uid reads the plan from memory
//! 2. the plan and five descriptors arrive on the birth socket
//! 3. a session of its own and child subreaper: a server that daemonises stays below this process
//! 4. fork: the parent becomes the [`keeper`](super::keeper), the child goes on
//! 5. parent-death signal, standard descriptors, working directory (through its descriptor)
//! 6. session, umask, default signals, limits, no_new_privs
//! 7. every other descriptor closed, then execve with exactly the environment of the plan
//!
//! A failure after the fork travels to the keeper through a pipe that execve closes.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd;
use rustix::net::SendFlags;

use super::keeper;
use crate::post::{self, PostError};
use crate::sys::{self, Forked};
use crate::wire::stage::{KeeperWord, StagePlan};
use crate::wire::{self, Birth};

/// The descriptor that the pipe for failures has in the child; all above are closed.
const FAILURE_FD: i32 = 3;

/// What the stage was given.
struct Given {
    plan: StagePlan,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    lifeline: OwnedFd,
    data: OwnedFd,
}

/// The role's entry.
pub fn main() -> ExitCode {
    if sys::become_undumpable().is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(given) = receive() else { return ExitCode::FAILURE };
    let lifeline = match given.lifeline.try_clone() {
        Ok(lifeline) => lifeline,
        Err(_) => return ExitCode::FAILURE,
    };
    match run(given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = format!("cannot start the server: {error}");
            let word = KeeperWord::NotStarted { reason, permanent: false };
            // The mux may be gone; then nobody waits for this word.
            let _ = post::send(&lifeline, &word, &[], SendFlags::empty());
            ExitCode::FAILURE
        }
    }
}

fn receive() -> Result<Given, PostError> {
    let (birth, descriptors) = post::birth()?;
    if birth != Birth::Stage {
        return Err(PostError::Descriptors(descriptors.len()));
    }
    let [plan, stdin, stdout, stderr, lifeline, data] = post::exactly(descriptors)?;
    Ok(Given { plan: post::unseal(plan)?, stdin, stdout, stderr, lifeline, data })
}

fn run(given: Given) -> io::Result<()> {
    if given.plan.wire != wire::VERSION {
        return Err(io::Error::other("the supervisor speaks another wire version; restart it"));
    }
    // It was started through a descriptor, whose number would be its name.
    nix::sys::prctl::set_name(c"tenantd-keeper")?;
    unistd::setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let watch = keeper::Watch::new()?;
    let (failure, failed) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let parent = unistd::getpid();
    match sys::fork_single_threaded()? {
        Forked::Child => {
            let error = become_server(&given, &failed, parent);
            report(&failed, &error);
            // Nothing may run on in this copy of the stage; there is nothing to clean up either.
            nix::sys::signal::kill(unistd::getpid(), nix::sys::signal::SIGKILL)?;
            Ok(())
        }
        Forked::Parent(server) => {
            drop(failed);
            let Given { plan, lifeline, stdin, stdout, stderr, data } = given;
            // The keeper must not hold the server's pipes: their ends are news to the mux.
            drop((stdin, stdout, stderr, data));
            detach_stdio()?;
            match read_failure(failure) {
                Some(error) => keeper::say(&lifeline, &not_started(&plan, &error)),
                None => watch.keep(&lifeline, server),
            }
            Ok(())
        }
    }
}

/// Steps 5 to 7. Returns only with the reason why this process did not become the server.
fn become_server(given: &Given, failed: &OwnedFd, parent: unistd::Pid) -> io::Error {
    match try_become(given, failed, parent) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_become(
    given: &Given,
    failed: &OwnedFd,
    parent: unistd::Pid,
) -> io::Result<std::convert::Infallible> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGKILL)?;
    if unistd::getppid() != parent {
        return Err(io::Error::other("the keeper died during the start"));
    }
    let plan = &given.plan;
    unistd::fchdir(&given.data)?;
    rustix::stdio::dup2_stdin(&given.stdin)?;
    rustix::stdio::dup2_stdout(&given.stdout)?;
    rustix::stdio::dup2_stderr(&given.stderr)?;
    unistd::setsid()?;
    // As a login gives it: what keeps others out is the mode of the tenant's own directory.
    nix::sys::stat::umask(nix::sys::stat::Mode::S_IWGRP | nix::sys::stat::Mode::S_IWOTH);
    sys::default_signals()?;
    limit(plan)?;
    nix::sys::prctl::set_no_new_privs()?;
    let (program, arguments, environment) = strings(plan)?;
    if failed.as_raw_fd() == FAILURE_FD {
        sys::close_from(FAILURE_FD as u32 + 1)?;
    } else {
        sys::place_and_close_rest(failed.as_fd(), FAILURE_FD)?;
    }
    Ok(unistd::execve(&program, &arguments, &environment)?)
}

fn limit(plan: &StagePlan) -> io::Result<()> {
    // A core dump would put what the server holds on disk, outside its own directory.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if let Some(most) = plan.limits.open_files {
        let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
        let most = most.min(hard);
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    }
    if let Some(most) = plan.limits.file_bytes {
        setrlimit(Resource::RLIMIT_FSIZE, most, most)?;
        // A write beyond it fails, and does not end the server.
        sys::ignore_file_size_signal()?;
    }
    if let Some(most) = plan.limits.data_bytes {
        setrlimit(Resource::RLIMIT_DATA, most, most)?;
    }
    Ok(())
}

type Strings = (CString, Vec<CString>, Vec<CString>);

fn strings(plan: &StagePlan) -> io::Result<Strings> {
    let text = |text: &str| {
        CString::new(text).map_err(|_| {
            io::Error::other("the command, an argument or a variable holds a NUL byte")
        })
    };
    let program = text(&plan.command)?;
    let arguments = std::iter::once(Ok(program.clone()))
        .chain(plan.args.iter().map(|argument| text(argument)))
        .collect::<io::Result<_>>()?;
    let environment = plan
        .env
        .iter()
        .map(|(key, value)| text(&format!("{key}={value}")))
        .collect::<io::Result<_>>()?;
    Ok((program, arguments, environment))
}

/// Child to keeper: four bytes of errno (0 where there is none), then the text.
fn report(failed: &OwnedFd, error: &io::Error) {
    let mut bytes = error.raw_os_error().unwrap_or(0).to_ne_bytes().to_vec();
    bytes.extend(error.to_string().into_bytes());
    // After close_range the pipe is at its fixed place; before, at its own. One of the two is open.
    let fixed = sys::borrow_if_open(FAILURE_FD);
    let _ = rustix::io::write(fixed.unwrap_or(failed.as_fd()), &bytes);
}

fn read_failure(failure: OwnedFd) -> Option<io::Error> {
    let mut bytes = Vec::new();
    let mut pipe = std::fs::File::from(failure);
    if pipe.read_to_end(&mut bytes).is_err() || bytes.is_empty() {
        return None;
    }
    let (number, text) = bytes.split_first_chunk::<4>()?;
    match i32::from_ne_bytes(*number) {
        0 => Some(io::Error::other(String::from_utf8_lossy(text).into_owned())),
        number => Some(io::Error::from_raw_os_error(number)),
    }
}

fn not_started(plan: &StagePlan, error: &io::Error) -> KeeperWord {
    let command = plan.command.escape_debug();
    let (reason, permanent) = match error.kind() {
        io::ErrorKind::NotFound => {
            (format!("{command} or its interpreter does not exist (fix server.command)"), true)
        }
        io::ErrorKind::PermissionDenied => {
            (format!("{command} is not executable (chmod +x, or fix server.command)"), true)
        }
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => {
            (format!("{command} is no program for this machine (fix server.command)"), true)
        }
        _ => (format!("{command} could not be started: {error}"), false),
    };
    KeeperWord::NotStarted { reason, permanent }
}

/// The keeper holds no end of any pipe of the server, nor the birth socket.
fn detach_stdio() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    io::stdout().flush()
}
