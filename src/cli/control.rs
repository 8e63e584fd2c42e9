//! The client of the control API: finds the supervisor, asks it, translates its errors.
//!
//! The user's supervisor is asked before the system's. A socket is trusted only where nobody else could
//! have put it: in user mode its directory must be ours and private, and the listener's uid must be ours
//! (system mode: root's or ours). Nothing here knows what a command does with the answer.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use zlink::tokio::unix::{Connection, Stream};

use super::args::Which;
use super::connect::door;
use super::failure::{CONFIG, Failure, NO_PERMISSION};
use super::print;
use super::rooms;
use crate::control::{
    Control as _, ControlError, CredentialsReply, ListReply, LoggedOutReply, LoginReply,
    ProbeReply, ReloadReply, RemovedReply, ReplacedReply, StatusReply, WhyReply,
};
use crate::paths::{Layout, Mode, is_private};
use crate::sys;

/// How long the supervisor may take for one answer. It answers from memory: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the answer to a stop may take: it comes when everything has ended, up to 5.4 s later.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How long the answer to a replacement may take: five seconds for the version, two for who is at the doors.
const REPLACES_WITHIN: Duration = Duration::from_secs(10);

/// How long a run of the escape probes may take: the supervisor gives it up after 45 s.
const PROBES_WITHIN: Duration = Duration::from_secs(50);
/// How long the removal of a secret may take: the store has 30 s.
const REMOVES_WITHIN: Duration = Duration::from_secs(45);

/// A connection to a supervisor.
pub(super) struct Control {
    runtime: Runtime,
    connection: Connection,
}

impl Control {
    /// Connects to the supervisor that is meant: the first that listens, the user's before the system's.
    pub(super) fn find(which: Which) -> Result<Self, Failure> {
        let mut absent = Vec::new();
        for mode in modes(which) {
            let layout = rooms::layout(mode)?;
            match Self::at(&layout) {
                Ok(control) => return Ok(control),
                Err(Absence::Nobody) => absent.push(layout.control_socket().display().to_string()),
                // Something is there that must not be passed over in silence.
                Err(Absence::Because(failure)) if which.user || which.system => {
                    return Err(failure);
                }
                Err(Absence::Because(failure)) => absent.push(failure.message),
            }
        }
        absent.dedup();
        Err(Failure::unavailable(format!(
            "no supervisor listens on {} (start one: tenantd serve --user; as a system service: \
             systemctl start tenantd.socket)",
            absent.join(" or ")
        )))
    }

    /// Connects to the supervisor of this layout.
    pub(super) fn at(layout: &Layout) -> Result<Self, Absence> {
        let socket = layout.control_socket();
        trust_directory(layout)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| cannot("start", &socket, &error))?;
        let stream = runtime.block_on(connect(&socket))?;
        trust_listener(layout.mode, &stream, &socket)?;
        let _context = runtime.enter();
        let stream = Stream::try_from(stream)
            .map_err(|error| cannot("use", &socket, &io::Error::other(error)))?;
        Ok(Self { connection: Connection::new(stream), runtime })
    }

    /// Everything that we may see.
    pub(super) fn status(&mut self) -> Result<StatusReply, Failure> {
        let call = self.connection.status();
        answer(wait(&self.runtime, PATIENCE, call), PATIENCE)
    }

    /// Why a tenant does not serve, or did not; nothing where there is none that we may know of.
    pub(super) fn why(&mut self, tenant: &str) -> Result<Option<WhyReply>, Failure> {
        let call = self.connection.why(tenant);
        known(wait(&self.runtime, PATIENCE, call), PATIENCE)
    }

    /// The tenants that we may use.
    pub(super) fn list(&mut self) -> Result<ListReply, Failure> {
        let call = self.connection.list_tenants();
        answer(wait(&self.runtime, PATIENCE, call), PATIENCE)
    }

    /// Reads the configuration again.
    pub(super) fn reload(&mut self) -> Result<ReloadReply, Failure> {
        let call = self.connection.reload();
        answer(wait(&self.runtime, PATIENCE, call), PATIENCE)
    }

    /// Restarts a server of a tenant, or all of them.
    pub(super) fn restart(&mut self, tenant: &str, server: Option<&str>) -> Result<(), Failure> {
        let call = self.connection.restart_server(tenant, server);
        answer(wait(&self.runtime, PATIENCE, call), PATIENCE)
    }

    /// Tells the supervisor to be replaced by the program on disk.
    pub(super) fn restart_supervisor(&mut self) -> Result<ReplacedReply, Failure> {
        let call = self.connection.restart_supervisor();
        answer(wait(&self.runtime, REPLACES_WITHIN, call), REPLACES_WITHIN)
    }

    /// Runs the escape probes in a sandbox of a tenant's.
    pub(super) fn probe(
        &mut self,
        tenant: &str,
        server: Option<&str>,
        brief: &str,
    ) -> Result<ProbeReply, Failure> {
        let call = self.connection.probe_tenant(tenant, server, brief);
        answer(wait(&self.runtime, PROBES_WITHIN, call), PROBES_WITHIN)
    }

    /// The secrets that we may know of; nothing where the tenant is none that we may know of.
    pub(super) fn list_credentials(
        &mut self,
        tenant: Option<&str>,
    ) -> Result<Option<CredentialsReply>, Failure> {
        let call = self.connection.list_credentials(tenant);
        known(wait(&self.runtime, PATIENCE, call), PATIENCE)
    }

    /// Removes a secret; nothing where the tenant is none that we may know of.
    pub(super) fn remove_credential(
        &mut self,
        tenant: &str,
        name: &str,
        user: Option<&str>,
    ) -> Result<Option<RemovedReply>, Failure> {
        let call = self.connection.remove_credential(tenant, name, user);
        known(wait(&self.runtime, REMOVES_WITHIN, call), REMOVES_WITHIN)
    }

    /// Where we log in; nothing where the tenant is none that we may know of.
    pub(super) fn login(
        &mut self,
        tenant: &str,
        name: &str,
    ) -> Result<Option<LoginReply>, Failure> {
        let call = self.connection.login(tenant, name);
        known(wait(&self.runtime, PATIENCE, call), PATIENCE)
    }

    /// Ends a login; nothing where the tenant is none that we may know of.
    pub(super) fn logout(
        &mut self,
        tenant: &str,
        name: &str,
    ) -> Result<Option<LoggedOutReply>, Failure> {
        let call = self.connection.logout(tenant, name);
        known(wait(&self.runtime, REMOVES_WITHIN, call), REMOVES_WITHIN)
    }

    /// Tells the supervisor to stop.
    pub(super) fn stop(&mut self) -> Result<(), Failure> {
        let call = self.connection.stop();
        match wait(&self.runtime, STOPS_WITHIN, call) {
            // It was in such a hurry that the answer did not make it.
            Ok(Err(zlink::Error::UnexpectedEof)) => Ok(()),
            other => answer(other, STOPS_WITHIN),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Absence {
    /// Nobody listens there.
    Nobody,
    /// Somebody does, but not one to talk to.
    Because(Failure),
}

/// The modes that are meant, in the order in which they are asked.
pub(super) fn modes(which: Which) -> Vec<Mode> {
    match which {
        Which { user: true, .. } => vec![Mode::User],
        Which { system: true, .. } => vec![Mode::System],
        Which { .. } => vec![Mode::User, Mode::System],
    }
}

/// In user mode the directory below /tmp can be made by anyone first: look before connecting.
fn trust_directory(layout: &Layout) -> Result<(), Absence> {
    let ours = nix::unistd::getuid().as_raw();
    if layout.mode == Mode::User {
        door::tell_apart(ours).map_err(|refusal| Absence::Because(refusal.into()))?;
    }
    if layout.mode == Mode::System || is_private(&layout.runtime, ours) {
        return Ok(());
    }
    if !layout.runtime.exists() {
        return Err(Absence::Nobody);
    }
    Err(Absence::Because(Failure::new(
        NO_PERMISSION,
        format!(
            "not trusting the sockets in {}: it is not a private directory of yours (chmod 0700 it \
             if it is yours, else remove it or set TENANTD_RUNTIME)",
            layout.runtime.display()
        ),
    )))
}

async fn connect(socket: &Path) -> Result<UnixStream, Absence> {
    match tokio::time::timeout(PATIENCE, UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Err(Absence::Nobody),
            _ => Err(cannot("connect to", socket, &error)),
        },
        Err(_) => Err(cannot("connect to", socket, &io::Error::from(io::ErrorKind::TimedOut))),
    }
}

/// The uid that listens: of system mode root's (or ours, in a copy of our own), of user mode ours.
fn trust_listener(mode: Mode, stream: &UnixStream, socket: &Path) -> Result<(), Absence> {
    let peer = sys::peer_credentials(stream).map_err(|error| cannot("check", socket, &error))?;
    let ours = nix::unistd::getuid().as_raw();
    if peer.uid == ours || (mode == Mode::System && peer.uid == 0) {
        return Ok(());
    }
    Err(Absence::Because(Failure::new(
        NO_PERMISSION,
        format!(
            "not trusting {}: uid {} listens there, not you or root (remove it, or set TENANTD_RUNTIME)",
            socket.display(),
            peer.uid
        ),
    )))
}

fn cannot(deed: &str, socket: &Path, error: &io::Error) -> Absence {
    Absence::Because(Failure::unavailable(format!(
        "cannot {deed} the supervisor's socket {}: {error}",
        socket.display()
    )))
}

/// A reply of the interface; the error is that none came in time.
type Reply<T> = Result<zlink::Result<Result<T, ControlError>>, tokio::time::error::Elapsed>;

fn wait<T>(
    runtime: &Runtime,
    within: Duration,
    call: impl Future<Output = zlink::Result<Result<T, ControlError>>>,
) -> Reply<T> {
    // The timer is made inside: it needs the runtime.
    runtime.block_on(async { tokio::time::timeout(within, call).await })
}

/// As [`answer`]; nothing where the tenant is not known there.
fn known<T>(reply: Reply<T>, within: Duration) -> Result<Option<T>, Failure> {
    match reply {
        Ok(Ok(Err(ControlError::UnknownTenant { .. }))) => Ok(None),
        reply => answer(reply, within).map(Some),
    }
}

/// One answer of the interface, or why there is none.
fn answer<T>(reply: Reply<T>, within: Duration) -> Result<T, Failure> {
    match reply {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(refused))) => Err(refusal(refused)),
        Ok(Err(error)) => Err(Failure::unavailable(format!(
            "the supervisor's answer could not be read: {error} (do client and supervisor have the \
             same version?)"
        ))),
        Err(_) => Err(Failure::unavailable(format!(
            "the supervisor did not answer within {} s (see its log; systemctl status tenantd)",
            within.as_secs()
        ))),
    }
}

fn refusal(error: ControlError) -> Failure {
    let message = match error {
        ControlError::UnknownTenant { tenant } => format!(
            "there is no tenant {}, or none that you may use (tenantd status lists yours)",
            print::word(&tenant)
        ),
        ControlError::UnknownServer { tenant, server } => format!(
            "tenant {} has no server {} (tenantd status lists them)",
            print::word(&tenant),
            print::word(&server)
        ),
        ControlError::AdminOnly { method, cure } => {
            let (method, cure) = (print::word(&method), print::cut(&cure, 300));
            format!("{method} needs an administrator ({cure})")
        }
        ControlError::UnknownCredential { tenant, choices } => {
            let (tenant, list) = (print::word(&tenant), print::cut(&choices.join(", "), 300));
            let list = if list.is_empty() { "none" } else { &list };
            return Failure::new(
                CONFIG,
                format!("{tenant} has no such credential (choices: {list})"),
            );
        }
        ControlError::NotYours { reason } => print::cut(&reason, 600),
        ControlError::StoreFailed { reason, .. } | ControlError::Failed { reason } => {
            return Failure::unavailable(print::cut(&reason, 600));
        }
    };
    Failure::new(NO_PERMISSION, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn rooted() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, root.path());
        (root, layout)
    }

    fn make_runtime(layout: &Layout, mode: u32) {
        std::fs::create_dir(&layout.runtime).expect("mkdir");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&layout.runtime, mode).expect("chmod");
    }

    #[test]
    fn a_socket_in_a_directory_that_others_can_enter_is_not_trusted() {
        let (_root, layout) = rooted();
        make_runtime(&layout, 0o777);
        let _listener =
            std::os::unix::net::UnixListener::bind(layout.control_socket()).expect("bind");
        match Control::at(&layout) {
            Err(Absence::Because(failure)) => {
                assert_eq!(failure.code, NO_PERMISSION);
                assert!(failure.message.contains("chmod 0700"), "{failure}");
            }
            _ => panic!("it was trusted"),
        }
    }

    #[test]
    fn a_dead_socket_and_no_socket_are_both_nobody() {
        let (_root, layout) = rooted();
        assert!(matches!(Control::at(&layout), Err(Absence::Nobody)));
        make_runtime(&layout, 0o700);
        assert!(matches!(Control::at(&layout), Err(Absence::Nobody)));
        drop(std::os::unix::net::UnixListener::bind(layout.control_socket()).expect("bind"));
        assert!(matches!(Control::at(&layout), Err(Absence::Nobody)));
    }

    #[test]
    fn a_supervisor_that_hangs_up_is_an_error_and_not_a_wait() {
        let (_root, layout) = rooted();
        make_runtime(&layout, 0o700);
        let listener =
            std::os::unix::net::UnixListener::bind(layout.control_socket()).expect("bind");
        let hangs_up = std::thread::spawn(move || drop(listener.accept()));
        let mut control = Control::at(&layout).unwrap_or_else(|absence| panic!("{absence:?}"));
        let failure = control.status().expect_err("no answer");
        assert_eq!(failure.code, crate::cli::failure::UNAVAILABLE);
        hangs_up.join().expect("joined");
    }
}
