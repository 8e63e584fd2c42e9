//! The attempt from inside: a tenant whose server is an attacker's script, in the very sandbox that every
//! server is in.
//!
//! It is a shell with the programs of the system, told what to go for: another tenant's document and
//! process and the supervisor's socket, each by the name that it has outside. What came of each attempt
//! comes back through a FIFO in its own data directory, and what is its own must work: a script that could
//! do nothing at all proves nothing.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::house::House;

/// Its tenant.
pub(super) const ATTACKER: &str = "mallory";
/// How long a changed file may take to be seen, and the script to run.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is read of it, bytes: it is an attacker's.
const WORDS_MAX: usize = 64 * 1024;
/// The last line of the script.
const END: &str = "end";

/// One line for each attempt: its name, the exit code, what was said. Then it does as little as it can, so
/// that it ends with its supervisor and not before.
const SCRIPT: &str = r#"
set -f
exec 3> "$TENANTD_DATA_DIR/words"
try() { name=$1; shift; said=$("$@" 2>&1); code=$?; echo "$name $code" $said >&3; }
echo mine > "$TENANTD_DATA_DIR/note"
try own cat "$TENANTD_DATA_DIR/note"
try document cat "$1"
try process kill -9 "$2"
try socket ls "$3"
try network cat /proc/net/dev
echo end >&3
exec 3>&- 4>&1 cat > /dev/null
"#;

/// What the attacker goes for.
#[derive(Debug)]
pub(super) struct Targets {
    /// Another tenant's document.
    pub(super) document: PathBuf,
    /// Another tenant's server.
    pub(super) process: i64,
    /// The door of the supervisor.
    pub(super) socket: PathBuf,
}

/// What came of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    name: String,
    code: i32,
    words: String,
}

/// Everything that it tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attack(Vec<Attempt>);

impl Attack {
    /// Writes the attacker's tenant into the house, whose supervisor finds it by itself and starts its
    /// server, and hears what came of it.
    pub(super) fn launch(house: &House, data: &Path, targets: &Targets) -> anyhow::Result<Self> {
        fs::create_dir(data).context("cannot make a directory for the attacker")?;
        fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
        let fifo = data.join("words");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).context("cannot make a FIFO")?;
        let words = fs::File::options().read(true).custom_flags(O_NONBLOCK).open(&fifo)?;
        house.add(ATTACKER, &tenant(data, targets)?)?;
        let told = listen(words, house).with_context(|| match house.tenant(ATTACKER) {
            Ok(tenant) => format!("its server: {:?}", tenant.servers),
            Err(error) => format!("{error:#}"),
        })?;
        Self::parse(&told)
    }

    fn parse(told: &str) -> anyhow::Result<Self> {
        let attempt = |line: &str| {
            let (name, rest) = line.split_once(' ')?;
            let (code, words) = rest.split_once(' ').unwrap_or((rest, ""));
            Some(Attempt { name: name.into(), code: code.parse().ok()?, words: words.into() })
        };
        let lines = told.lines().filter(|line| *line != END);
        let attempts = lines.map(attempt).collect::<Option<_>>();
        attempts.map(Self).with_context(|| format!("the script said {told:?}"))
    }

    fn attempt(&self, name: &str) -> anyhow::Result<&Attempt> {
        let found = self.0.iter().find(|attempt| attempt.name == name);
        found.with_context(|| format!("it never came to {name}"))
    }

    /// It ran, and could do what it may.
    pub(super) fn did(&self, name: &str, says: &str) -> anyhow::Result<()> {
        let attempt = self.attempt(name)?;
        if attempt.code == 0 && attempt.words == says {
            Ok(())
        } else {
            bail!("it could not even do what it may: {}", attempt.words)
        }
    }

    /// It could not, and these words say why: any others are an attempt that aimed badly, and no wall.
    pub(super) fn was_kept_from(&self, name: &str, because: &str) -> anyhow::Result<String> {
        let attempt = self.attempt(name)?;
        match attempt.code {
            0 => bail!("it could: {}", attempt.words),
            _ if attempt.words.contains(because) => Ok(attempt.words.clone()),
            code => bail!("it failed with code {code} for another reason: {}", attempt.words),
        }
    }

    /// The interfaces that it has (/proc/net/dev, proc(5): each row begins with a name and a colon).
    pub(super) fn interfaces(&self) -> anyhow::Result<Vec<&str>> {
        let attempt = self.attempt("network")?;
        let names = attempt.words.split_whitespace().filter_map(|word| word.strip_suffix(':'));
        if attempt.code == 0 { Ok(names.collect()) } else { bail!("{}", attempt.words) }
    }
}

/// The attacker's tenant file. Its server is started at once, and is no MCP server: it is given time.
fn tenant(data: &Path, targets: &Targets) -> anyhow::Result<String> {
    let process = targets.process.to_string();
    let words: [&OsStr; 6] = [
        "-c".as_ref(),
        SCRIPT.as_ref(),
        "sh".as_ref(),
        targets.document.as_ref(),
        process.as_ref(),
        targets.socket.as_ref(),
    ];
    let args = words.into_iter().map(text).collect::<anyhow::Result<Vec<_>>>()?;
    let mut server = toml::Table::new();
    server.insert("command".into(), "/bin/sh".into());
    server.insert("args".into(), args.into());
    server.insert("start".into(), "always".into());
    server.insert("start_timeout".into(), "1m".into());
    let mut tenant = toml::Table::new();
    tenant.insert("name".into(), "Mallory".into());
    tenant.insert("data".into(), text(data.as_os_str())?.into());
    tenant.insert("server".into(), server.into());
    Ok(toml::to_string(&tenant)?)
}

/// As a tenant file can hold it.
fn text(word: &OsStr) -> anyhow::Result<String> {
    Ok(word.to_str().context("a path that is not UTF-8")?.to_owned())
}

/// Reads until the script is at its end, the supervisor is, or time is up.
fn listen(mut words: fs::File, house: &House) -> anyhow::Result<String> {
    let until = Instant::now() + PATIENCE;
    let mut told = Vec::new();
    while !told.ends_with(format!("{END}\n").as_bytes()) {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut watched = [
            PollFd::new(words.as_fd(), PollFlags::POLLIN),
            PollFd::new(house.process(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, timeout) {
            Ok(0) => bail!("the attacker's server never ran to its end"),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) if watched[1].any() == Some(true) => bail!("the supervisor ended"),
            Ok(_) => {}
        }
        let mut buffer = [0; 4096];
        match words.read(&mut buffer) {
            Ok(0) => bail!("the attacker's server ended before its end"),
            Ok(count) => told.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if told.len() > WORDS_MAX {
            bail!("the attacker's server says too much");
        }
    }
    Ok(String::from_utf8_lossy(&told).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "own 0 mine\ndocument 1 cat: /a: No such file or directory\nprocess 0\n\
                        network 0 Inter-| Receive face |bytes lo: 0 0 eth0: 1 2\nend\n";

    #[test]
    fn each_attempt_is_judged_by_its_code_and_its_words() {
        let attack = Attack::parse(TOLD).expect("lines");
        attack.did("own", "mine").expect("it did");
        attack.did("document", "mine").expect_err("it could not");
        let why = attack.was_kept_from("document", "No such file").expect("a wall");
        assert_eq!(why, "cat: /a: No such file or directory");
        attack.was_kept_from("document", "Permission denied").expect_err("another reason");
        let open = attack.was_kept_from("process", "No such process").expect_err("it could");
        assert!(open.to_string().contains("it could"), "{open}");
        attack.was_kept_from("socket", "").expect_err("never tried");
        assert_eq!(attack.interfaces().expect("names"), ["lo", "eth0"]);
    }

    #[test]
    fn what_is_no_line_of_the_script_is_refused() {
        Attack::parse("own\n").expect_err("no code");
        Attack::parse("own zero x\n").expect_err("no number");
    }

    #[test]
    fn its_tenant_file_says_what_it_is_told() {
        let targets = Targets { document: "/a \"b".into(), process: 7, socket: "/s".into() };
        let file: toml::Table =
            toml::from_str(&tenant(Path::new("/d"), &targets).expect("a file")).expect("TOML");
        let args = file["server"]["args"].as_array().expect("words");
        let args: Vec<_> = args.iter().filter_map(|word| word.as_str()).collect();
        assert_eq!((args[0], &args[2..]), ("-c", &["sh", "/a \"b", "7", "/s"][..]));
    }
}
