//! Programs that run other files: which they are by name, and which of their arguments are files that
//! they run. Pure.

use std::path::Path;

/// What an interpreter makes of a script, and so what a script needs around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Packages in `node_modules`.
    Node,
    /// Packages in `site-packages`.
    Python,
    /// Nothing, but for wrappers that start something else.
    Shell,
    /// Nothing that is known.
    Other,
}

impl Kind {
    /// The interpreter at `path`, if its name is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        // python3.12, ruby3.1, lua5.4, but no python3-config.
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        match bare {
            "node" | "nodejs" | "bun" | "deno" | "tsx" => Some(Self::Node),
            "python" | "pypy" => Some(Self::Python),
            "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" => Some(Self::Shell),
            "ruby" | "perl" | "php" | "lua" | "java" | "tclsh" | "guile" => Some(Self::Other),
            _ => None,
        }
    }

    /// Options whose value is the next argument and is a file that is loaded.
    fn loads(self) -> &'static [&'static str] {
        match self {
            Self::Node => {
                &["-r", "--require", "--import", "--loader", "--experimental-loader", "--preload"]
            }
            Self::Python | Self::Shell | Self::Other => &[],
        }
    }

    /// Options whose value is the next argument and is none.
    fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Node => &["-C", "--conditions", "--env-file", "--title", "--stack-trace-limit"],
            Self::Python => &["-W", "-X", "--check-hash-based-pycs"],
            Self::Shell => &["-o", "-O", "--rcfile", "--init-file"],
            Self::Other => &["-I", "-cp", "-classpath", "--class-path"],
        }
    }

    /// Options after which there is no script: what is run is the text or the module that follows.
    fn instead(self) -> &'static [&'static str] {
        match self {
            Self::Node => &["-e", "--eval", "-p", "--print"],
            Self::Python | Self::Shell => &["-c", "-m", "-s"],
            Self::Other => &["-e", "-E", "-n"],
        }
    }
}

/// The arguments that are whole paths of files which the interpreter loads: what is preloaded, then the
/// script. What comes after it is the script's own.
pub(super) fn files<'a>(kind: Kind, args: &[&'a str]) -> Vec<&'a str> {
    let mut files = Vec::new();
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        if (kind, arg) == (Kind::Other, "-jar") {
            files.extend(args.next());
            break;
        } else if kind.loads().contains(&arg) {
            files.extend(args.next());
        } else if kind.takes().contains(&arg) {
            args.next();
        } else if kind.instead().contains(&arg) && !(kind == Kind::Python && arg == "-s") {
            break;
        } else if arg.starts_with('-') {
            let loaded = arg.split_once('=').filter(|(option, _)| kind.loads().contains(option));
            files.extend(loaded.map(|(_, file)| file));
        } else if !(kind == Kind::Node && arg == "run") {
            // `deno run` and `bun run` have a word before it.
            files.push(arg);
            break;
        }
    }
    files.retain(|file| file.starts_with('/'));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_known_by_its_name() {
        for (path, kind) in [
            ("/usr/bin/node", Some(Kind::Node)),
            ("/x/python3.12", Some(Kind::Python)),
            ("/x/python", Some(Kind::Python)),
            ("/bin/bash", Some(Kind::Shell)),
            ("/usr/bin/perl5.36.0", Some(Kind::Other)),
            ("/usr/bin/python3-config", None),
            ("/usr/bin/mcp-server", None),
            ("/", None),
        ] {
            assert_eq!(Kind::of(Path::new(path)), kind, "{path}");
        }
    }

    #[test]
    fn the_script_is_the_first_argument_that_is_no_option() {
        let files = |kind, line: &str| files(kind, &line.split(' ').collect::<Vec<_>>()).join(" ");
        assert_eq!(files(Kind::Node, "/a.js /b.json"), "/a.js");
        assert_eq!(files(Kind::Node, "--no-warnings /a.js"), "/a.js");
        assert_eq!(files(Kind::Node, "--import /hook.mjs /a.js /secret"), "/hook.mjs /a.js");
        assert_eq!(files(Kind::Node, "--require=/hook.js a.js /secret"), "/hook.js");
        assert_eq!(files(Kind::Node, "-e 0 /secret"), "");
        assert_eq!(files(Kind::Node, "run -A /a.ts"), "/a.ts");
        assert_eq!(files(Kind::Python, "-u -X utf8 /a.py"), "/a.py");
        assert_eq!(files(Kind::Python, "-s /a.py"), "/a.py");
        assert_eq!(files(Kind::Python, "-m mcp_server_git --repository /srv/repo"), "");
        assert_eq!(files(Kind::Shell, "-c true /secret"), "");
        assert_eq!(files(Kind::Other, "-jar /a.jar /secret"), "/a.jar");
    }
}
