//! Asking another program of the system, for a bounded time.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take: they answer in milliseconds, or hang on a bus.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(5);
/// The most that is read of an answer, bytes: less than a pipe holds, so that no program waits for us.
const ANSWER: u64 = 32 * 1024;
/// Where programs are looked for: not in the caller's PATH, which may be anything.
const PLACES: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];

/// Where a program is.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(program)).find(|path| path.is_file())
}

/// What a program says, if it ends well and in time.
pub(super) fn ask(
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Option<String> {
    let mut command = Command::new(find(program)?);
    command.args(arguments).env_clear().envs(environment.iter().copied()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    if !ends_well(&mut child) {
        return None;
    }
    let mut said = String::new();
    child.stdout.take()?.take(ANSWER).read_to_string(&mut said).ok()?;
    Some(said.trim().to_owned())
}

fn ends_well(child: &mut Child) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => break,
        }
    }
    // It may have ended by itself just now.
    let _ = child.kill();
    let _ = child.wait();
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_or_fails_says_nothing() {
        assert_eq!(ask("echo", &["hi"], &[]).as_deref(), Some("hi"));
        assert_eq!(ask("false", &[], &[]), None);
        assert_eq!(ask("sleep", &["60"], &[]), None);
        assert_eq!(ask("no-such-program-anywhere", &[], &[]), None);
    }
}
