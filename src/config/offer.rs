//! What of the machine could be shown to a server that misses it: for a person who asks why it failed.
//!
//! A server's own words say what it misses, and nobody has checked them. So nothing is offered that is
//! private to a person, another tenant's or tenantd's own, and the line is for the person to add. Looks at
//! file systems that may hang: not for a thread that others wait for.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::host::{Host, real};
use super::surroundings::{is_base, is_wide};
use super::tenant::{Server, Tenant};
use super::territory::Grounds;
use crate::paths::Layout;

/// Where nothing is ever offered: the sandbox has its own, or it is the machine's business.
const NEVER: [&str; 9] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/boot",
    "/root",
    "/var/lib",
    "/tmp/.X11-unix",
    "/tmp/.ICE-unix",
];
/// Hidden directories of a home that hold programs; what else is hidden there is private.
const PROGRAMS: [&str; 20] = [
    ".asdf",
    ".bun",
    ".cargo/bin",
    ".conda",
    ".deno",
    ".linuxbrew",
    ".local/bin",
    ".local/lib",
    ".local/share/mise",
    ".local/share/pipx",
    ".local/share/pnpm",
    ".local/share/uv",
    ".nix-profile",
    ".npm-global",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sdkman",
    ".volta",
];
/// Where the loader is told to look for libraries beside the system's (ldconfig(8)).
const LOADER_SETTINGS: &str = "/etc/ld.so.conf.d";
/// Files and lines of these that are read.
const LOADER_LINES: usize = 256;

/// The machine, one tenant of it, and what belongs to all others.
pub struct Offers<'a> {
    tenant: &'a Tenant,
    layout: &'a Layout,
    home: Option<PathBuf>,
    grounds: Grounds,
    others: &'a [PathBuf],
}

impl<'a> Offers<'a> {
    /// For `tenant`; `others` are directories that other tenants' files name, links followed.
    pub fn new(layout: &'a Layout, tenant: &'a Tenant, others: &'a [PathBuf]) -> Self {
        let home = Host::this(layout).home;
        Self { tenant, layout, home, grounds: Grounds::of(layout), others }
    }

    /// What to add to `sandbox.read`, so that `server` sees `path`: its directory, where that is not too
    /// wide. None where it is not there, is seen already or is not to be offered.
    pub fn to_read(&self, server: &Server, path: &Path) -> Option<PathBuf> {
        let place = path.canonicalize().ok()?;
        if self.sees(server, &place) || is_base(&place) {
            return None;
        }
        let whole = if place.is_dir() { Some(path) } else { path.parent() };
        let mut choices = whole.into_iter().chain([path]);
        choices.find(|choice| self.may_be_offered(choice)).map(Path::to_owned)
    }

    /// What to add to `sandbox.write`, so that `server` can change `path`.
    pub fn to_write(&self, server: &Server, path: &Path) -> Option<PathBuf> {
        let directory = path.ancestors().find(|above| above.is_dir())?;
        let place = directory.canonicalize().ok()?;
        let writes = server.sandbox.write.iter().any(|above| place.starts_with(above));
        // What it runs from is not for it to change.
        let runs = server.needs.read.iter().any(|n| n.starts_with(&place) || place.starts_with(n));
        let good = !writes && !runs && !is_base(&place) && self.may_be_offered(directory);
        good.then(|| directory.to_owned())
    }

    /// The file of a library that the loader of this machine would find outside of the system's directories.
    pub fn library(&self, name: &str) -> Option<PathBuf> {
        let settings = std::fs::read_dir(LOADER_SETTINGS).ok()?.flatten().take(LOADER_LINES);
        let lines = settings.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        let lines: Vec<String> =
            lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let mut directories =
            lines.iter().map(|line| line.trim()).filter(|line| line.starts_with('/'));
        directories.find_map(|dir| Some(Path::new(dir).join(name)).filter(|file| file.is_file()))
    }

    fn sees(&self, server: &Server, place: &Path) -> bool {
        let data =
            self.tenant.data.clone().unwrap_or_else(|| self.layout.tenant_data(&self.tenant.id));
        let own = [real(&data), self.layout.tenant_home(&self.tenant.id)];
        let sandbox = &server.sandbox;
        let mut all =
            sandbox.read.iter().chain(&sandbox.write).chain(&server.needs.read).chain(&own);
        all.any(|above| place.starts_with(above))
    }

    /// Whether a path, and where it leads, is nobody's secret and nobody else's.
    fn may_be_offered(&self, path: &Path) -> bool {
        let Ok(place) = path.canonicalize() else { return false };
        let Ok(meta) = place.metadata() else { return false };
        let home = self.home.as_deref();
        let at_home =
            home.is_some_and(|home| place.starts_with(home) || place.starts_with(real(home)));
        // Outside of a home, what not everybody may read is not offered to a server either.
        let open = at_home || meta.mode() & 0o004 != 0;
        let own = self.others.iter().any(|o| place.starts_with(o) || o.starts_with(&place));
        open && !own
            && (meta.is_dir() || meta.is_file())
            && !NEVER.iter().any(|never| place.starts_with(never))
            && !is_wide(home, &place)
            && !home.is_some_and(|home| is_private(home, &place) || is_private(&real(home), &place))
            && self.grounds.trespass(&self.tenant.id, &place).is_none()
    }
}

/// Whether `place` is, or is in, something hidden of a home that holds no programs.
fn is_private(home: &Path, place: &Path) -> bool {
    let Ok(below) = place.strip_prefix(home) else { return false };
    let hidden = below
        .components()
        .next()
        .is_some_and(|part| part.as_os_str().as_encoded_bytes().first() == Some(&b'.'));
    hidden && !PROGRAMS.iter().any(|programs| below.starts_with(programs))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_hidden_in_a_home_is_private_unless_it_is_for_programs() {
        let home = Path::new("/home/alice");
        for private in [".ssh/id_rsa", ".aws/credentials", ".local/share/keyrings", ".netrc"] {
            assert!(is_private(home, &home.join(private)), "{private}");
        }
        for open in ["work/x", ".nvm/versions", ".local/lib/python3.11"] {
            assert!(!is_private(home, &home.join(open)), "{open}");
        }
        assert!(!is_private(home, Path::new("/srv/.x")));
    }

    #[test]
    fn what_is_offered_is_there_and_nobodys_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        let layout = Layout::rooted(crate::paths::Mode::User, &root);
        let make = |path: &str, mode| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            fs::write(&path, "").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            path
        };
        let [shared, seen, theirs, shut, alone, settings] = [
            make("shared/file", 0o644),
            make("seen/file", 0o644),
            make("theirs/file", 0o644),
            make("shut/file", 0o600),
            make("alone", 0o644),
            make("config/tenantd.toml", 0o644),
        ];
        let [data, state] =
            ["state/tenants/acme/data/x", "state/tenants/globex/data/x"].map(|p| make(p, 0o644));
        fs::set_permissions(root.join("shut"), fs::Permissions::from_mode(0o700)).expect("chmod");
        let text =
            format!("[server]\ncommand = \"sh\"\n[sandbox]\nread = [{:?}]\n", root.join("seen"));
        fs::create_dir_all(layout.tenants()).expect("mkdir");
        fs::write(layout.tenants().join("acme.toml"), text).expect("a file");
        let loaded = crate::config::load(&layout);
        let tenant = loaded.tenants.into_values().next().expect("a file").expect("a tenant");
        let others = [root.join("theirs")];
        let offers = Offers::new(&layout, &tenant, &others);
        let read = |path: &Path| offers.to_read(&tenant.servers[0], path);
        assert_eq!(read(&shared), Some(root.join("shared")));
        assert_eq!(read(&root.join("shared")), Some(root.join("shared")));
        // Its directory holds the configuration: the file alone.
        assert_eq!(read(&alone), Some(alone.clone()));
        let gone = root.join("gone");
        for no in [
            &seen,
            &theirs,
            &shut,
            &settings,
            &state,
            &data,
            &gone,
            &root,
            Path::new("/usr/bin/env"),
            Path::new("/tmp"),
        ] {
            assert_eq!(read(no), None, "{no:?}");
        }
        let write = |path: &Path| offers.to_write(&tenant.servers[0], path);
        assert_eq!(write(&root.join("shared/new/deep")), Some(root.join("shared")));
        assert_eq!(
            write(&root.join("seen/new")),
            Some(root.join("seen")),
            "it may only read there"
        );
        assert_eq!(write(&root.join("theirs/new")), None);
        assert_eq!(write(Path::new("/usr/new")), None);
    }
}
