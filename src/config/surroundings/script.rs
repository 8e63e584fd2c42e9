//! The first line of a script: which interpreter it asks for, through `env` or by path. Pure, but for
//! [`Opening::of`], which reads it.
//!
//! execve(2): the interpreter is a path, and all that follows it on the line is one argument.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::search;

/// What the kernel reads of the first line, bytes (BINPRM_BUF_SIZE).
const LINE_MAX: usize = 256;

/// How a file begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// `#!`: the interpreter, and its one argument.
    Script(PathBuf, Option<String>),
    /// The machine's own code.
    Elf,
    /// Something else, or not for us to read.
    Other,
}

impl Opening {
    /// That of the file `path`, which may be of any kind and is never waited for.
    pub(super) fn of(path: &Path) -> Self {
        let mut start = [0; LINE_MAX];
        let Some(mut file) = search::open(path) else { return Self::Other };
        let mut filled = 0;
        while filled < LINE_MAX {
            match file.read(&mut start[filled..]) {
                Ok(0) | Err(_) => break,
                Ok(read) => filled += read,
            }
        }
        parse(&start[..filled])
    }
}

fn parse(start: &[u8]) -> Opening {
    if start.starts_with(b"\x7fELF") {
        return Opening::Elf;
    }
    let Some(line) = start.strip_prefix(b"#!") else { return Opening::Other };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or(line);
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t' | 0)).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    if interpreter.is_empty() {
        return Opening::Other;
    }
    let argument = String::from_utf8_lossy(argument.trim_ascii()).into_owned();
    let interpreter = PathBuf::from(OsStr::from_bytes(interpreter));
    Opening::Script(interpreter, Some(argument).filter(|argument| !argument.is_empty()))
}

/// Whether `path` is env(1), which looks its program up.
pub(super) fn is_env(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "env")
}

/// The program that env(1) looks up, given its arguments, and what that program is given.
pub(super) fn env_program<'a>(words: &[&'a str]) -> Option<(&'a str, Vec<&'a str>)> {
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "-u" | "--unset" | "-C" | "--chdir" => {
                words.next();
            }
            "-S" | "--split-string" => {}
            _ if word.starts_with('-') => {
                // `-Snode`, `--split-string=node`, `-vS` before a split text: the rest is a word.
                let rest = word.strip_prefix("--split-string=").or_else(|| {
                    word.strip_prefix("-S")
                        .or_else(|| word.strip_prefix("-vS"))
                        .or_else(|| word.strip_prefix("-iS"))
                });
                if let Some(program) = rest.filter(|rest| !rest.is_empty() && !rest.contains('=')) {
                    return Some((program, words.collect()));
                }
            }
            _ if word.contains('=') => {}
            program => return Some((program, words.collect())),
        }
    }
    None
}

/// The program that `#!/usr/bin/env ARGUMENT` looks up. Without `-S` the whole argument is one name, which
/// is then none that exists; the words are read as if it were there, which finds more and never less.
pub(super) fn env_of_line(argument: &str) -> Option<(&str, Vec<&str>)> {
    let words: Vec<&str> = argument.split_ascii_whitespace().collect();
    let (program, rest) = env_program(&words)?;
    Some((program.trim_matches(['"', '\'']), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn script(line: &str) -> Option<(String, Option<String>)> {
        match parse(line.as_bytes()) {
            Opening::Script(path, argument) => Some((path.display().to_string(), argument)),
            _ => None,
        }
    }

    #[test]
    fn the_line_is_read_as_the_kernel_reads_it() {
        let some = |path: &str, arg: Option<&str>| Some((path.to_owned(), arg.map(str::to_owned)));
        assert_eq!(script("#!/bin/sh\necho"), some("/bin/sh", None));
        assert_eq!(script("#! /usr/bin/env  node \n"), some("/usr/bin/env", Some("node")));
        assert_eq!(script("#!/x/python -s -E\n"), some("/x/python", Some("-s -E")));
        assert_eq!(script("#!/no/newline"), some("/no/newline", None));
        assert_eq!(script("#!\n/bin/sh"), None);
        assert_eq!(script("echo #!/bin/sh"), None);
        assert_eq!(parse(b"\x7fELF\x02\x01"), Opening::Elf);
        assert_eq!(parse(b""), Opening::Other);
    }

    #[test]
    fn env_looks_up_the_first_word_that_is_a_program() {
        for (argument, program) in [
            ("node", Some("node")),
            ("-S node --no-warnings", Some("node")),
            ("-Snode --no-warnings", Some("node")),
            ("--split-string=node -x", Some("node")),
            ("-S NODE_ENV=production node", Some("node")),
            ("FOO=1 BAR=2 python3", Some("python3")),
            ("-i -u HOME bash", Some("bash")),
            ("-S uv run --script", Some("uv")),
            ("FOO=1", None),
            ("", None),
        ] {
            assert_eq!(env_of_line(argument).map(|(name, _)| name), program, "{argument}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Opening::Script(path, Some(argument)) = parse(&bytes) {
                prop_assert!(!path.as_os_str().is_empty());
                let _ = env_of_line(&argument);
            }
        }
    }
}
