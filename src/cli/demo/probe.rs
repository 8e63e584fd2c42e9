//! The probe from outside: a plain program that tries to read what it must not.
//!
//! It is `cat`, a stranger to tenantd. Root may read everything, so as root it runs as another user
//! (`nobody`); anyone else's runs as that same user, against whom a role's memory and environment are
//! closed too. A control that must succeed stands first: a probe that could not even run proves nothing.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::unistd::{User, geteuid};

/// The user that a probe of root's runs as.
const NOBODY: &str = "nobody";

/// Who probes.
pub(super) struct Prober {
    /// Another user's uid and gid; without it the probe runs as ourselves.
    other: Option<(u32, u32)>,
}

impl Prober {
    /// The strongest stranger that we can be.
    pub(super) fn new() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { other: None });
        }
        let nobody = User::from_name(NOBODY)?
            .with_context(|| format!("there is no user {NOBODY} to probe as"))?;
        Ok(Self { other: Some((nobody.uid.as_raw(), nobody.gid.as_raw())) })
    }

    /// The prober, for the transcript.
    pub(super) fn name(&self) -> &'static str {
        if self.other.is_some() { "another user (nobody)" } else { "another program of yours" }
    }

    /// Whether the prober is another user, whom file modes must stop.
    pub(super) fn is_other_user(&self) -> bool {
        self.other.is_some()
    }

    /// Tries to read each of these; an error if any can be read, or if the prober cannot even try.
    pub(super) fn must_fail(&self, paths: &[PathBuf]) -> anyhow::Result<String> {
        if let Seen::Denied(words) = self.look(Path::new("/proc/self/environ"))? {
            bail!("the probe itself does not work: {words}");
        }
        let mut said = Vec::new();
        for path in paths {
            match self.look(path)? {
                Seen::Open => bail!("{} could be read", path.display()),
                Seen::Denied(words) => said.push(words),
            }
        }
        Ok(said.join("; "))
    }

    fn look(&self, path: &Path) -> anyhow::Result<Seen> {
        let mut cat = Command::new("cat");
        cat.arg(path).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        cat.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some((uid, gid)) = self.other {
            cat.uid(uid).gid(gid);
        }
        let output = cat.output().context("cannot run cat")?;
        if output.status.success() {
            return Ok(Seen::Open);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().strip_prefix("cat: ").unwrap_or(words.trim()).to_owned();
        // Any other error, such as "No such file", is a probe that aimed badly and not a wall.
        if words.contains("Permission denied") { Ok(Seen::Denied(words)) } else { bail!(words) }
    }
}

/// What came of one look.
enum Seen {
    /// It could be read.
    Open,
    /// The kernel said no, in these words of `cat`.
    Denied(String),
}

/// What nobody but the role itself may read of a process.
pub(super) fn private_parts(pid: i64) -> [PathBuf; 2] {
    ["environ", "mem"].map(|part| PathBuf::from(format!("/proc/{pid}/{part}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_a_failed_wall() {
        let prober = Prober::new().expect("a prober");
        let error = prober.must_fail(&["/etc/passwd".into()]).expect_err("it is readable");
        assert!(error.to_string().contains("could be read"), "{error}");
    }

    #[test]
    fn a_probe_that_aims_badly_is_not_a_wall() {
        let prober = Prober::new().expect("a prober");
        let error = prober.must_fail(&["/nonexistent".into()]).expect_err("there is nothing");
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
