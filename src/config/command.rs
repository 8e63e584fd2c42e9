//! Which program a `command` is: found at load, so that a wrong one is a line in a file and not a failed
//! start in the night.
//!
//! Looks and never runs. What the program needs around it (interpreter, prefix) is the sandbox's matter.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::explain::nearest;
use super::host::{Host, Wrong};
use super::problem::quotable;
use crate::paths::Mode;

/// Where a bare name is looked for. The client's PATH plays no part: the same file means the same
/// program whoever starts the supervisor.
const PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// The bare name that means this very program.
const OURSELVES: &str = "tenantd";

/// The program that `command` names.
pub(super) fn resolve(host: &Host, command: &str, args: &[&str]) -> Result<PathBuf, Wrong> {
    refuse_launcher(command, args)?;
    if command.contains('/') || command.starts_with('~') {
        let path = host.path("command", command)?;
        return executable(&path).map(|()| path);
    }
    if command == OURSELVES {
        let program = host.program.clone().ok_or_else(|| {
            Wrong::new("the path of this program is not known", "write the whole path of tenantd")
        })?;
        return executable(&program).map(|()| program);
    }
    search(host, command)
}

fn search(host: &Host, command: &str) -> Result<PathBuf, Wrong> {
    let quoted = quotable(command);
    if command.is_empty() || command.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let what = format!("command = \"{quoted}\" is not a program");
        return Err(Wrong::new(what, "write its path alone; arguments go to args"));
    }
    let mut places: Vec<PathBuf> = PATH.iter().map(PathBuf::from).collect();
    if let (Mode::User, Some(home)) = (host.mode, &host.home) {
        places.push(home.join(".local/bin"));
    }
    let found = places.iter().map(|place| place.join(command)).find(|path| path.is_file());
    let Some(path) = found else {
        let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let cure = match nearest(command, &[OURSELVES]) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "install it, or write its whole path".to_owned(),
        };
        let what = format!("command = \"{quoted}\" is in none of {}", looked.join(", "));
        return Err(Wrong::new(what, cure));
    };
    executable(&path).map(|()| path)
}

/// Whether `path` is a file that may be executed.
pub(super) fn executable(path: &Path) -> Result<(), Wrong> {
    let shown = quotable(&path.display().to_string());
    let meta = path.metadata().map_err(|error| {
        let cure = match error.kind() {
            std::io::ErrorKind::NotFound => "install it, or correct the path",
            _ => "give the supervisor's user the right to reach it",
        };
        Wrong::new(format!("command {shown} cannot be used: {error}"), cure)
    })?;
    if !meta.is_file() {
        return Err(Wrong::new(format!("command {shown} is not a file"), "name a program"));
    }
    access(path, AccessFlags::X_OK).map_err(|_| {
        let what = format!("command {shown} is not executable");
        Wrong::new(what, format!("make it so: chmod +x {shown}"))
    })
}

/// Programs that fetch a server from a registry when it starts: the code that runs would be whatever
/// the registry has that day, and the sandbox has no network to fetch it with.
pub(super) fn refuse_launcher(command: &str, args: &[&str]) -> Result<(), Wrong> {
    let program = command.rsplit('/').next().unwrap_or(command);
    let words: Vec<&str> = args.iter().copied().filter(|arg| !arg.starts_with('-')).collect();
    if program == "env" {
        let rest: Vec<&str> = words.into_iter().filter(|word| !word.contains('=')).collect();
        return rest.split_first().map_or(Ok(()), |(program, rest)| refuse_launcher(program, rest));
    }
    let (launcher, install) = match (program, words.as_slice()) {
        ("npx" | "pnpx", _) => (program.to_owned(), "npm install -g PACKAGE"),
        ("bunx", _) => (program.to_owned(), "bun add -g PACKAGE"),
        ("uvx", _) => (program.to_owned(), "uv tool install PACKAGE"),
        ("uv", ["tool", "run", ..]) => ("uv tool run".to_owned(), "uv tool install PACKAGE"),
        // What it would fetch is what the project needs; its own environment has that already.
        ("uv", words) if words.contains(&"run") => ("uv run".to_owned(), "uv sync, into .venv/bin"),
        ("pipx", ["run", ..]) => ("pipx run".to_owned(), "pipx install PACKAGE"),
        ("npm", [word @ ("exec" | "x"), ..]) => (format!("npm {word}"), "npm install -g PACKAGE"),
        ("bun", ["x", ..]) => ("bun x".to_owned(), "bun add -g PACKAGE"),
        ("pnpm" | "yarn", ["dlx", ..]) => (format!("{program} dlx"), "npm install -g PACKAGE"),
        _ => return Ok(()),
    };
    Err(Wrong::new(
        format!("{launcher} would download the server when it starts"),
        format!("install the server ({install}) and write the path of its program"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn host() -> Host {
        let program = std::env::current_exe().expect("a program");
        Host { mode: Mode::System, home: None, program: Some(program) }
    }

    #[test]
    fn a_bare_name_is_looked_for_in_fixed_places() {
        let sh = resolve(&host(), "sh", &[]).expect("a shell");
        assert!(sh == Path::new("/usr/bin/sh") || sh == Path::new("/bin/sh"), "{sh:?}");
        let wrong = resolve(&host(), "no-such-program", &[]).expect_err("not there");
        assert!(wrong.what.contains("/usr/local/bin"), "{wrong:?}");
    }

    #[test]
    fn tenantd_is_this_very_program() {
        let host = host();
        assert_eq!(resolve(&host, "tenantd", &["builtin", "documents"]).ok(), host.program);
    }

    #[test]
    fn a_program_that_is_missing_or_not_executable_says_the_cure() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("server");
        let text = path.to_str().expect("a path").to_owned();
        assert!(resolve(&host(), &text, &[]).expect_err("missing").cure.contains("install"));
        std::fs::write(&path, "#!/bin/sh\n").expect("a file");
        assert!(resolve(&host(), &text, &[]).expect_err("mode").cure.contains("chmod +x"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(resolve(&host(), &text, &[]), Ok(path));
        let dir = dir.path().to_str().expect("a path");
        assert!(resolve(&host(), dir, &[]).expect_err("a directory").what.contains("not a file"));
    }

    #[test]
    fn a_launcher_that_downloads_is_refused() {
        for line in [
            "npx -y some-server",
            "/usr/bin/npx some-server",
            "uvx some-server",
            "uv --quiet tool run some-server",
            "uv --directory /srv/project run some-server",
            "pipx run some-server",
            "npm exec some-server",
            "bunx some-server",
            "/usr/bin/env FOO=1 npx some-server",
        ] {
            let (command, args) = line.split_once(' ').expect("arguments");
            let args: Vec<_> = args.split(' ').collect();
            let wrong = resolve(&host(), command, &args).expect_err(line);
            assert!(wrong.what.contains("would download"), "{line}: {wrong:?}");
        }
    }
}
