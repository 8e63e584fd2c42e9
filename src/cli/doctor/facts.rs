//! What explains what holds here and what does not: switches of the kernel, programs, services; and the one
//! line that changes it.

use std::path::Path;

use nix::libc::SYS_landlock_create_ruleset;

use super::ask::{ask, find};
use super::machine::Fact;
use crate::config::tenant::Layer;
use crate::paths::{Layout, Mode};
use crate::sys::{Argument, attempt};
use crate::wire::stage::Backend;

/// The oldest version of Landlock that tenantd is made for: that of Linux 6.1.
const LANDLOCK: i64 = 2;
/// The version of Landlock that keeps servers from the ports of others also without namespaces.
const LANDLOCK_NETWORK: i64 = 4;

const USER_NAMESPACES: &str = "user namespaces";
/// The profile that leaves user namespaces to bubblewrap: part of Ubuntu's AppArmor.
const PROFILE: &str = "/etc/apparmor.d/bwrap-userns-restrict";

/// Everything, in the order of the page.
pub(super) fn all(layout: &Layout, backend: Backend) -> Vec<Fact> {
    let namespaces = match backend {
        Backend::Bubblewrap => by_bubblewrap(),
        _ => user_namespaces(),
    };
    let mut all = vec![kernel(), landlock(), namespaces, bubblewrap()];
    all.extend(systemd(layout.mode));
    all.push(keyring(layout.mode));
    all
}

/// What to type where a layer does not hold.
pub(super) fn cure(mode: Mode, layer: Layer) -> String {
    match (layer, mode) {
        (Layer::Namespaces, _) => user_namespaces()
            .cure
            .unwrap_or_else(|| "unshare --user true (it says what forbids it)".to_owned()),
        (Layer::Landlock, _) => match read("/sys/kernel/security/lsm") {
            Some(active) => format!("boot with lsm=landlock,{active}"),
            None => "boot a kernel with CONFIG_SECURITY_LANDLOCK, with lsm=landlock".to_owned(),
        },
        (Layer::Seccomp, _) => "boot a kernel with CONFIG_SECCOMP_FILTER".to_owned(),
        (Layer::Cgroup, Mode::System) => "systemctl enable --now tenantd.socket".to_owned(),
        (Layer::Cgroup, Mode::User) => "systemctl --user enable --now tenantd.socket".to_owned(),
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> Fact {
    Fact::good("kernel", read("/proc/sys/kernel/osrelease").unwrap_or_default())
}

fn landlock() -> Fact {
    let version = [Argument::Number(0), Argument::Number(0), Argument::Number(1)]; // the ABI, landlock(7)
    match attempt(SYS_landlock_create_ruleset, &version) {
        Ok(abi) if abi >= LANDLOCK_NETWORK => Fact::good("landlock ABI", abi.to_string()),
        Ok(abi) if abi >= LANDLOCK => Fact::good(
            "landlock ABI",
            format!("{abi}, of files only: ports are kept apart by namespaces"),
        ),
        Ok(abi) => Fact::poor("landlock ABI", abi.to_string(), "boot Linux 6.1 or newer"),
        Err(error) => {
            Fact::poor("landlock ABI", error.to_string(), cure(Mode::System, Layer::Landlock))
        }
    }
}

/// Where it was tried, and bubblewrap did what this program may not.
fn by_bubblewrap() -> Fact {
    let found = user_namespaces().found;
    Fact::good(USER_NAMESPACES, format!("{found}; bubblewrap makes them for tenantd"))
}

/// By making one. Where that works and namespaces do not hold, it has no capabilities (AppArmor).
fn user_namespaces() -> Fact {
    const NAME: &str = USER_NAMESPACES;
    let zero = |path: &str| read(path).as_deref() == Some("0");
    let apparmor = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let unprivileged = !nix::unistd::geteuid().is_root();
    if zero("/proc/sys/user/max_user_namespaces") {
        let cure = "sudo sysctl -w user.max_user_namespaces=15000";
        return Fact::poor(NAME, "none may be made (user.max_user_namespaces = 0)", cure);
    }
    if unprivileged && zero("/proc/sys/kernel/unprivileged_userns_clone") {
        let cure = "sudo sysctl -w kernel.unprivileged_userns_clone=1";
        return Fact::poor(NAME, "for root only (kernel.unprivileged_userns_clone = 0)", cure);
    }
    if unprivileged && apparmor.is_some_and(|restricts| restricts != "0") {
        let found = "only by programs that AppArmor names \
                     (kernel.apparmor_restrict_unprivileged_userns = 1)";
        if find("bwrap").is_none() && Path::new(PROFILE).exists() {
            return Fact::poor(NAME, found, "sudo apt-get install bubblewrap");
        }
        // A profile that allows it to this program alone.
        let program = std::env::current_exe().unwrap_or_default();
        let profile =
            format!("profile tenantd {} flags=(unconfined) {{ userns, }}", program.display());
        let cure = format!(
            "printf 'abi <abi/4.0>,\\n{profile}\\n' | sudo tee /etc/apparmor.d/tenantd && \
             sudo systemctl reload apparmor"
        );
        return Fact::poor(NAME, found, cure);
    }
    match ask("unshare", &["--user", "--map-current-user", "true"], &[]) {
        Some(_) => Fact::good(NAME, "can be made"),
        None if find("unshare").is_none() => {
            Fact::good(NAME, "nothing forbids them that we know of")
        }
        None => Fact::poor(NAME, "cannot be made", "unshare --user true (it says why)"),
    }
}

fn bubblewrap() -> Fact {
    match find("bwrap") {
        Some(path) => Fact::good("bubblewrap", path.display().to_string()),
        None => Fact::good(
            "bubblewrap",
            "not installed; needed only where AppArmor leaves user namespaces to it",
        ),
    }
}

fn systemd(mode: Mode) -> Vec<Fact> {
    const NAME: &str = "systemd";
    if !Path::new("/run/systemd/system").exists() {
        let cure = "nothing; start it yourself: tenantd serve (without control groups by systemd)";
        return vec![Fact::poor(NAME, "does not run this machine", cure)];
    }
    let version = ask("systemctl", &["--version"], &[]).unwrap_or_default();
    let version = version.lines().next().unwrap_or("it does not answer").to_owned();
    let mut facts = vec![Fact::good(NAME, version)];
    facts.push(if mode == Mode::System { service() } else { manager() });
    facts
}

/// The unit of system mode.
fn service() -> Fact {
    let shown =
        ask("systemctl", &["show", "tenantd.service", "--property=LoadState,Delegate"], &[]);
    let shown = shown.unwrap_or_default();
    let has = |line: &str| shown.lines().any(|it| it == line);
    match (has("LoadState=loaded"), has("Delegate=yes")) {
        (true, true) => {
            Fact::good("service", "tenantd.service is installed and divides its control group")
        }
        (true, false) => Fact::poor(
            "service",
            "tenantd.service has no Delegate=yes",
            "sudo install -m644 systemd/tenantd.service /etc/systemd/system/ && sudo systemctl daemon-reload",
        ),
        (false, _) => {
            let cure = "sudo install -m644 systemd/tenantd.service systemd/tenantd.socket /etc/systemd/system/";
            Fact::poor("service", "tenantd.service is not installed", cure)
        }
    }
}

/// The user manager.
fn manager() -> Fact {
    const NAME: &str = "user manager";
    let uid = nix::unistd::getuid();
    let run = format!("/run/user/{uid}");
    if !Path::new(&run).join("systemd/private").exists() {
        let cure = format!("sudo loginctl enable-linger {uid}");
        return Fact::poor(
            NAME,
            "there is none for this user, so no control group to divide",
            cure,
        );
    }
    let below = "/sys/fs/cgroup/user.slice";
    let controllers = format!("{below}/user-{uid}.slice/user@{uid}.service/cgroup.controllers");
    match read(&controllers) {
        Some(controllers) if !controllers.is_empty() => {
            Fact::good(NAME, format!("runs, with the controllers {controllers}"))
        }
        _ => {
            let cure = "boot with systemd.unified_cgroup_hierarchy=1";
            Fact::poor(NAME, "runs, without controllers of unified control groups", cure)
        }
    }
}

/// Where secrets can be kept.
fn keyring(mode: Mode) -> Fact {
    const NAME: &str = "keyring";
    if mode == Mode::System {
        return match (
            find("systemd-creds"),
            Path::new("/var/lib/systemd/credential.secret").exists(),
        ) {
            (Some(_), true) => Fact::good(NAME, "systemd credentials, by the key of this host"),
            (Some(_), false) => Fact::poor(
                NAME,
                "systemd credentials, but this host has no key yet",
                "sudo systemd-creds setup",
            ),
            (None, _) => Fact::poor(NAME, "no systemd-creds", "sudo apt-get install systemd"),
        };
    }
    let bus = format!("/run/user/{}/bus", nix::unistd::getuid());
    if !Path::new(&bus).exists() {
        return Fact::poor(
            NAME,
            format!("no session bus at {bus}"),
            "log in, or: dbus-run-session",
        );
    }
    let address = format!("--address=unix:path={bus}");
    let names = ask("busctl", &[&address, "list", "--no-legend"], &[]);
    let serves =
        |names: &String| names.lines().any(|line| line.starts_with("org.freedesktop.secrets "));
    match names {
        Some(names) if serves(&names) => Fact::good(NAME, "a Secret Service is on the session bus"),
        Some(_) => {
            let cure = "sudo apt-get install gnome-keyring (or open KWallet or KeePassXC)";
            Fact::poor(NAME, "no Secret Service on the session bus", cure)
        }
        None => {
            Fact::poor(NAME, "the session bus does not answer", format!("busctl {address} list"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_poor_says_what_to_type() {
        for mode in [Mode::User, Mode::System] {
            let layout = Layout::rooted(mode, Path::new("/nonexistent"));
            for fact in all(&layout, Backend::UserNamespace) {
                assert!(fact.good || fact.cure.is_some(), "{fact:?}");
                assert!(!fact.found.is_empty(), "{fact:?}");
            }
            for layer in crate::supervisor::LAYERS {
                assert!(!cure(mode, layer).contains('\n'), "{layer:?}");
            }
        }
    }
}
