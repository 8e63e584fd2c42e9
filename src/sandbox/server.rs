//! The last steps: a process in its place becomes the tenant's server.
//!
//! 1. dies with its parent; standard descriptors; the data directory as working directory
//! 2. a session of its own, the usual umask, default signals, limits
//! 3. no capabilities, no_new_privs, Landlock
//! 4. says which layers hold, closes every other descriptor, the filter of system calls, execve(2)

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{self, Pid};

use super::enter;
use super::failure::{self, Failure};
use super::filter::{self, Around};
use super::ruleset;
use super::stage::Given;
use super::tree::Access;
use crate::config::tenant::Layer;
use crate::sys;
use crate::wire::stage::{Backend, KeeperWord, Limits, Missing, Network, StagePlan};

/// The descriptor that the pipe for failures has in the end; all above are closed.
const FAILURE_FD: i32 = 3;

/// Becomes the server. Returns only with the reason why not, which the keeper has been told.
pub(super) fn become_server(
    given: &Given,
    granted: &[(PathBuf, Access)],
    failed: &OwnedFd,
    parent: Pid,
) -> io::Error {
    let failure = match try_become(given, granted, failed, parent) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // After close_range the pipe is at its fixed place; before, at its own. One of the two is open.
    let fixed = sys::borrow_if_open(FAILURE_FD);
    failure::tell(fixed.unwrap_or(failed.as_fd()), &failure.word());
    io::Error::other(failure.text())
}

fn try_become(
    given: &Given,
    granted: &[(PathBuf, Access)],
    failed: &OwnedFd,
    parent: Pid,
) -> Result<Infallible, Failure> {
    let plan = &given.plan;
    let start = Failure::during("start the server");
    settle(given, parent).map_err(start)?;
    let word = confine(plan, granted)?;
    let (program, arguments, environment) = strings(given).map_err(Failure::during("run it"))?;
    failure::tell(failed, &word);
    let closed = if failed.as_raw_fd() == FAILURE_FD {
        sys::close_from(FAILURE_FD as u32 + 1)
    } else {
        sys::place_and_close_rest(failed.as_fd(), FAILURE_FD)
    };
    closed.map_err(Failure::during("close what is not the server's"))?;
    filter_calls(plan)?;
    let Err(error) = unistd::execve(&program, &arguments, &environment);
    Err(not_executed(plan, error.into()))
}

/// Steps 1 and 2.
fn settle(given: &Given, parent: Pid) -> io::Result<()> {
    let plan = &given.plan;
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGKILL)?;
    if unistd::getppid() != parent {
        return Err(io::Error::other("the parent died during the start"));
    }
    rustix::stdio::dup2_stdin(&given.stdin)?;
    rustix::stdio::dup2_stdout(&given.stdout)?;
    rustix::stdio::dup2_stderr(&given.stderr)?;
    match plan.backend {
        // The descriptor is of the directory; what is bound inside may be another view of it.
        Backend::None => unistd::fchdir(&given.data)?,
        _ => unistd::chdir(plan.data.as_str())?,
    }
    unistd::setsid()?;
    // As a login gives it: what keeps others out is the mode of the tenant's own directory.
    nix::sys::stat::umask(nix::sys::stat::Mode::S_IWGRP | nix::sys::stat::Mode::S_IWOTH);
    sys::default_signals()?;
    limit(&plan.limits)
}

fn limit(limits: &Limits) -> io::Result<()> {
    // A core dump would put what the server holds on disk, outside its own directory.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let bounds = [
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_DATA, limits.data_bytes),
        (Resource::RLIMIT_FSIZE, limits.file_bytes),
        (Resource::RLIMIT_NPROC, limits.processes),
    ];
    for (resource, most) in bounds {
        if let Some(most) = most {
            let (_, hard) = getrlimit(resource)?;
            let most = most.min(hard);
            setrlimit(resource, most, most)?;
        }
    }
    if limits.file_bytes.is_some() {
        // A write beyond it fails, and does not end the server.
        sys::ignore_file_size_signal()?;
    }
    Ok(())
}

/// Step 3, and which layers hold. One that is required and cannot be had is the end of this start.
fn confine(plan: &StagePlan, granted: &[(PathBuf, Access)]) -> Result<KeeperWord, Failure> {
    enter::drop_capabilities().map_err(Failure::during("drop capabilities"))?;
    nix::sys::prctl::set_no_new_privs().map_err(Failure::during("set no_new_privs"))?;
    let mut missing = Vec::new();
    let mut held = vec![Layer::Seccomp];
    let mut judge = |layer: Layer, holds: io::Result<()>| match holds {
        Ok(()) => {
            held.push(layer);
            Ok(())
        }
        Err(error) if plan.require.contains(&layer) => {
            Err(Failure::new("it is required", error).of(layer))
        }
        Err(error) => {
            missing.push(Missing { layer, why: error.to_string() });
            Ok(())
        }
    };
    let lacking = |there: bool, why: &str| if there { Ok(()) } else { Err(io::Error::other(why)) };
    let namespaces = plan.backend != Backend::None;
    judge(Layer::Namespaces, lacking(namespaces, "this machine lets no process make them here"))?;
    judge(Layer::Cgroup, lacking(plan.seat.is_some(), "there is no cgroup that could be divided"))?;
    let connects = namespaces || plan.network == Network::Host;
    let landlock = ruleset::restrict(granted, connects);
    let landlock = landlock.and_then(|there| lacking(there, "this kernel has no Landlock"));
    judge(Layer::Landlock, landlock)?;
    held.sort_unstable();
    Ok(KeeperWord::Confined { held, missing })
}

/// Without its filter no server runs: every kernel that tenantd supports has them.
fn filter_calls(plan: &StagePlan) -> Result<(), Failure> {
    let namespaces = plan.backend != Backend::None;
    let applied = filter::apply(Around { namespaces, network: &plan.network });
    applied.map_err(|error| Failure::new("no filter of system calls", error).of(Layer::Seccomp))
}

type Strings = (CString, Vec<CString>, Vec<CString>);

fn strings(given: &Given) -> io::Result<Strings> {
    let plan = &given.plan;
    let text = |text: &str| {
        CString::new(text).map_err(|_| {
            io::Error::other("the command, an argument or a variable holds a NUL byte")
        })
    };
    let program = text(&plan.command)?;
    let arguments = std::iter::once(Ok(program.clone()))
        .chain(plan.args.iter().map(|argument| text(argument)))
        .collect::<io::Result<_>>()?;
    let plain = plan.env.iter().map(|(key, value)| text(&format!("{key}={value}")));
    // Their copies here are gone with this memory when the program is executed.
    let secret = given.secrets.variables(plan).map(|(key, value)| {
        let whole = [key.as_bytes(), b"=", value.as_slice()].concat();
        // The error of a NUL byte would hold the value.
        CString::new(whole).map_err(|_| {
            io::Error::other(format!(
                "the credential in {key} holds a NUL byte (give it as a file)"
            ))
        })
    });
    let environment = plain.chain(secret).collect::<io::Result<_>>()?;
    Ok((program, arguments, environment))
}

fn not_executed(plan: &StagePlan, error: io::Error) -> Failure {
    let command = plan.command.escape_debug();
    let (what, cure) = match error.kind() {
        io::ErrorKind::NotFound => (
            "or its interpreter does not exist in the sandbox",
            "fix server.command, or name what is missing in sandbox.read",
        ),
        io::ErrorKind::PermissionDenied => ("is not executable", "chmod +x, or fix server.command"),
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => {
            ("is no program for this machine", "fix server.command")
        }
        _ => return Failure::new(format!("{command} could not be started"), error),
    };
    Failure::final_one(format!("{command} {what} ({cure})"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::wire::stage::View;

    const DEED: &str = "TENANTD_TEST_DEED";

    /// A plan without namespaces and without a seat in a control group.
    fn bare(require: &[Layer]) -> StagePlan {
        StagePlan {
            wire: crate::wire::VERSION,
            command: "/bin/true".to_owned(),
            args: Vec::new(),
            env: std::collections::BTreeMap::new(),
            data: "/".to_owned(),
            home: "/".to_owned(),
            identity: None,
            keeper: None,
            backend: Backend::None,
            require: require.to_vec(),
            view: View::default(),
            network: Network::Host,
            limits: Limits::default(),
            seat: None,
            secrets: std::collections::BTreeMap::new(),
        }
    }

    /// Run by the test below in a process of its own, which stays confined.
    #[test]
    fn the_deed() {
        if std::env::var_os(DEED).is_none() {
            return;
        }
        for layer in [Layer::Namespaces, Layer::Cgroup] {
            let refused = confine(&bare(&[layer]), &[]).map(drop);
            let failure = refused.expect_err("it is required");
            assert_eq!(failure.layer, Some(layer), "{}", failure.text());
        }
        let KeeperWord::Confined { held, missing } = confine(&bare(&[]), &[]).expect("confined")
        else {
            panic!("another word")
        };
        assert!(!held.contains(&Layer::Namespaces) && !held.contains(&Layer::Cgroup), "{held:?}");
        assert_eq!(missing.iter().filter(|it| !held.contains(&it.layer)).count(), missing.len());
    }

    #[test]
    fn a_stage_that_lacks_what_is_required_starts_nothing_whatever_the_supervisor_believed() {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "sandbox::server::tests::the_deed"]).env(DEED, "require");
        assert!(command.output().expect("started").status.success());
    }
}
