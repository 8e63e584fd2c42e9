//! `credential init`: makes the key of the encrypted files, once.
//!
//! Where there is systemd, only the machine itself can decrypt it (its host key, or its TPM), and only the service is
//! given it. Elsewhere it is a file of its owner's, which is said.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::super::args::Which;
use super::super::args::credential::InitCredential;
use super::super::failure::DONE;
use super::super::rooms;
use crate::credential::key;
use crate::paths::{Layout, Mode};
use crate::sys;

/// Where the service manager looks for what LoadCredentialEncrypted= names (systemd.exec(5)).
const CREDENTIAL_STORE: &str = "/etc/credstore.encrypted";
/// There where systemd is the init of this machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

pub(super) fn run(args: &InitCredential) -> anyhow::Result<u8> {
    sys::become_undumpable().context("cannot protect the memory of this process")?;
    let root = nix::unistd::geteuid().is_root();
    let layout = rooms::layout(match args.which {
        Which { system: true, .. } => Mode::System,
        Which { user: true, .. } => Mode::User,
        Which { .. } if root => Mode::System,
        Which { .. } => Mode::User,
    })?;
    let encrypted = Path::new(CREDENTIAL_STORE).join(key::NAME);
    let serves = layout == Layout::system();
    if let Some(there) = [(serves, encrypted.clone()), (true, layout.secrets_key())]
        .into_iter()
        .find_map(|(looked_at, path)| (looked_at && path.exists()).then_some(path))
    {
        writeln!(
            io::stdout(),
            "there is a key already, nothing was changed: {} (with another, what is stored cannot be read any more)",
            there.display()
        )?;
        return Ok(DONE);
    }
    let mut key = Zeroizing::new([0; key::LENGTH]);
    fill(&mut *key)?;
    if serves && Path::new(BOOTED).is_dir() {
        match encrypt(&*key) {
            Ok(sealed) => return with_systemd(&encrypted, &sealed),
            Err(why) => writeln!(io::stderr(), "systemd cannot keep the key: {why:#}")?,
        }
    }
    beside(&layout, &*key)
}

fn fill(key: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = key.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// What only this machine decrypts again (systemd-creds(1)).
fn encrypt(key: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut creds = Command::new("systemd-creds")
        .args(["encrypt", "--name", key::NAME, "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start systemd-creds")?;
    // It is there before anything is read: a pipe has room for it.
    creds.stdin.take().context("no pipe")?.write_all(key)?;
    let output = creds.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "systemd-creds failed: {}", said.trim());
    anyhow::ensure!(!output.stdout.is_empty(), "systemd-creds wrote nothing");
    Ok(output.stdout)
}

fn with_systemd(path: &Path, sealed: &[u8]) -> anyhow::Result<u8> {
    write_new(path, 0o700, sealed)?;
    writeln!(
        io::stdout(),
        "the key is in {}, and only this machine can decrypt it (systemd-creds(1)).\n\
         The service is given it by this line, which the unit that comes with tenantd has in [Service]:\n\n    \
         LoadCredentialEncrypted={}\n\nIt takes effect with: systemctl restart tenantd.service",
        path.display(),
        key::NAME
    )?;
    Ok(DONE)
}

/// A file beside what it protects.
fn beside(layout: &Layout, key: &[u8]) -> anyhow::Result<u8> {
    let path = layout.secrets_key();
    // As the supervisor makes it: others pass through the system's to their sockets and data.
    let mode = if layout.mode == Mode::System { 0o711 } else { 0o700 };
    write_new(&path, mode, key)?;
    writeln!(io::stdout(), "the key is in {}", path.display())?;
    writeln!(
        io::stderr(),
        "warning: it lies beside the secrets that it protects: whoever can read all of {} has both (keep copies of \
         the key apart from copies of the secrets)",
        layout.state.display()
    )?;
    if layout.mode == Mode::User {
        writeln!(
            io::stdout(),
            "it is used where tenantd.toml in {} says: [credentials] store = \"encrypted-file\"",
            layout.config.display()
        )?;
    }
    Ok(DONE)
}

/// Writes a file that is not there yet, for good; makes its directory with this mode.
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let place = path.parent().with_context(cannot)?;
    DirBuilder::new().recursive(true).mode(mode).create(place).with_context(cannot)?;
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let mut file = options.open(path).with_context(cannot)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let written = written.and_then(|()| File::open(place)?.sync_all());
    if written.is_err() {
        // Half a key would be taken for one.
        let _ = fs::remove_file(path);
    }
    written.with_context(cannot)
}
