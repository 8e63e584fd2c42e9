//! A client's side of the session door: which supervisor to ask, and asking it.
//!
//! The user supervisor first, then the system one, and neither where both know the tenant and none was
//! chosen. The user's is started where nothing listens and its `tenants.d` holds the tenant.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::launch;
use crate::auth::Nobodies;
use crate::names::{ServerName, SessionId, Target, TenantId};
use crate::paths::{HOME_VARIABLE, Layout, LayoutError, Mode, RUNTIME_VARIABLE};
use crate::post::{self, PostError};
use crate::wire::{Answer, DOOR_DATAGRAM, Refusal, Request};

/// How long the supervisor may take to answer: it may have to start a mux, and says itself after 12 s
/// that it is not ready.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(13);

/// How many supervisors may end one after another before they answer.
const ATTEMPTS: usize = 3;
/// How long between two of them.
const BREATH: std::time::Duration = std::time::Duration::from_millis(50);
/// How long the kernel may take to drop what a process held that has ended, milliseconds.
const DROPPED: u16 = 500;

/// Which supervisor is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The user's, then the system's.
    #[default]
    Any,
    /// The user's only.
    User,
    /// The system's only.
    System,
}

/// An open session: its mux has the other ends.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The tenant.
    pub tenant: TenantId,
    /// The server.
    pub server: ServerName,
    /// Ends with the session; carries one [`crate::wire::Farewell`] line before.
    pub lifeline: OwnedFd,
}

/// Opens a session for `target` (`TENANT[/SERVER]`, or the only one) on these descriptors, which stay
/// the caller's to close.
///
/// # Errors
/// A [`Refusal`] to be shown as it is.
pub fn open(
    choice: Choice,
    target: Option<&str>,
    strict: bool,
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
) -> Result<Session, Refusal> {
    let asking = Asking { target, strict, stdin, stdout };
    first(choice, target, |layout| asking.ask(layout))
}

/// What the first supervisor says that knows the target.
pub(super) fn first<T>(
    choice: Choice,
    target: Option<&str>,
    ask: impl Fn(&Layout) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    if choice == Choice::Any && is_known_to_both(target) {
        return Err(ambiguous(target));
    }
    let mut refused = None;
    for mode in modes(choice) {
        let layout = Layout::of(*mode).map_err(|error| no_layout(&error));
        match layout.and_then(|layout| ask(&layout)) {
            Ok(answer) => return Ok(answer),
            // This one does not know the tenant; another may.
            Err(refusal) if refusal.elsewhere => {
                refused.get_or_insert(refusal);
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Err(refused.unwrap_or_else(|| nobody(target)))
}

fn modes(choice: Choice) -> &'static [Mode] {
    let given = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let rooted = given(HOME_VARIABLE) || given(RUNTIME_VARIABLE);
    match choice {
        // One root, or one directory of sockets, has one supervisor.
        Choice::Any if rooted => &[Mode::User],
        Choice::Any => &[Mode::User, Mode::System],
        Choice::User => &[Mode::User],
        Choice::System => &[Mode::System],
    }
}

struct Asking<'a> {
    target: Option<&'a str>,
    strict: bool,
    stdin: BorrowedFd<'a>,
    stdout: BorrowedFd<'a>,
}

impl Asking<'_> {
    /// A supervisor that ends before it answers (it may be leaving for want of work, or it was killed) is
    /// given up for the next one, where nobody else has got the session.
    fn ask(&self, layout: &Layout) -> Result<Session, Refusal> {
        for _ in 1..ATTEMPTS {
            if let Ok(session) = self.ask_once(layout)? {
                return Ok(session);
            }
            // A process that dies closes its connections before its listening sockets.
            std::thread::sleep(BREATH);
        }
        self.ask_once(layout)?.map_err(|error| gone(layout, &error))
    }

    /// The inner error is the end of the supervisor before it did anything.
    fn ask_once(&self, layout: &Layout) -> Result<Result<Session, PostError>, Refusal> {
        let socket = reach(layout, self.target)?;
        let (theirs, ours) = std::os::unix::net::UnixStream::pair()
            .map_err(|error| unavailable(format!("cannot make a socket pair: {error}")))?;
        let request = Request::Open { target: self.target.map(str::to_owned), strict: self.strict };
        let descriptors = [self.stdin, self.stdout, theirs.as_fd()];
        match exchange(&socket, &request, &descriptors) {
            Ok(Answer::Open { session, tenant, server }) => {
                Ok(Ok(Session { id: session, tenant, server, lifeline: ours.into() }))
            }
            Ok(Answer::Refused(refusal)) => Err(refusal),
            Ok(_) => Err(unavailable("the supervisor gave another answer".to_owned())),
            Err(PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(hangs(layout))
            }
            Err(error) => {
                drop((socket, theirs));
                match is_at_its_end(&ours) {
                    true => Ok(Err(error)),
                    false => Err(gone(layout, &error)),
                }
            }
        }
    }
}

/// A connection to the session door of this layout; the user's supervisor is started for it where need be.
pub(super) fn reach(layout: &Layout, target: Option<&str>) -> Result<OwnedFd, Refusal> {
    let path = layout.session_socket();
    match layout.mode {
        Mode::User => {
            trust(&layout.runtime)
                .map_err(|refusal| Refusal { elsewhere: !holds(layout, target), ..refusal })?;
            match connect(&path) {
                Ok(socket) => Ok(socket),
                Err(error) if is_nobody(&error) => start(layout, target),
                Err(error) => Err(cannot_reach(layout, &error)),
            }
        }
        Mode::System => connect(&path).map_err(|error| match is_nobody(&error) {
            true if layout.tenants().is_dir() => unavailable(
                "the system service does not listen (systemctl start tenantd.socket)".to_owned(),
            ),
            true => nobody(target),
            false => cannot_reach(layout, &error),
        }),
    }
}

/// Starts the user supervisor, if it would know the tenant.
fn start(layout: &Layout, target: Option<&str>) -> Result<OwnedFd, Refusal> {
    if !holds(layout, target) {
        let mut refusal = nobody(target);
        if let Some(tenant) = target {
            let file = layout.tenants().join(format!("{}.toml", tenant_of(tenant)));
            refusal.message =
                format!("no tenant \"{}\" (write {})", tenant_of(tenant), file.display());
        }
        return Err(refusal);
    }
    launch::user_supervisor(layout, || connect(&layout.session_socket()).ok()).map_err(unavailable)
}

/// Whether the user's and the system's supervisor both know the tenant, so that neither may be guessed.
fn is_known_to_both(target: Option<&str>) -> bool {
    if modes(Choice::Any).len() < 2 || !knows(&Layout::system(), target) {
        return false;
    }
    Layout::of(Mode::User).is_ok_and(|own| match own.session_socket().exists() {
        true => trust(&own.runtime).is_ok() && knows(&own, target),
        false => holds(&own, target),
    })
}

fn knows(layout: &Layout, target: Option<&str>) -> bool {
    let request = Request::Ask { target: target.map(str::to_owned) };
    let Ok(socket) = connect(&layout.session_socket()) else { return false };
    matches!(exchange(&socket, &request, &[]), Ok(Answer::Known))
}

/// Whether a user's configuration holds the tenant, or any where none is named.
fn holds(layout: &Layout, target: Option<&str>) -> bool {
    match target.and_then(|target| Target::parse(target).ok()?.tenant) {
        Some(tenant) => layout.tenant_file(&tenant).exists(),
        None => std::fs::read_dir(layout.tenants()).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| file.path().extension().is_some_and(|e| e == "toml"))
            })
        }),
    }
}

fn tenant_of(target: &str) -> &str {
    target.split_once('/').map_or(target, |(tenant, _)| tenant)
}

fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

pub(super) fn exchange(
    socket: &OwnedFd,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Answer, PostError> {
    let sent = post::send(socket, request, descriptors, SendFlags::empty());
    // A supervisor that refuses at the door may have closed it before it read: its answer is there.
    let mut buffer = [0; DOOR_DATAGRAM];
    let answer = post::receive(socket, &mut buffer, RecvFlags::empty());
    sent.and(answer.map(|(answer, _)| answer))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Whether this uid's files can be told from others'.
///
/// # Errors
/// A [`Refusal`] for the kernel's overflow uid: everything of anybody looks as if it were its own
/// (user_namespaces(7), "Unmapped user and group IDs").
pub(in crate::cli) fn tell_apart(uid: u32) -> Result<(), Refusal> {
    if uid != Nobodies::here(None).overflow {
        return Ok(());
    }
    let message = format!(
        "uid {uid} is the kernel's overflow uid: here nobody's files can be told apart (map your \
         uid into this container, or connect from outside)"
    );
    Err(Refusal { code: 77, reason: "overflow-uid".into(), ..unavailable(message) })
}

/// A directory of sockets is believed only if nobody else could have put them there.
fn trust(runtime: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::MetadataExt;
    let uid = nix::unistd::getuid().as_raw();
    tell_apart(uid)?;
    let Ok(meta) = runtime.symlink_metadata() else { return Ok(()) };
    let ours = meta.uid() == uid || meta.uid() == 0;
    let (what, cure) = match (meta.is_dir(), ours) {
        (true, true) if meta.mode() & 0o022 == 0 => return Ok(()),
        (true, true) => ("can be written by others", "chmod 0700, after a look at what is in it"),
        (true, false) => ("belongs to somebody else", "have it removed"),
        (false, _) => ("is no directory", "have it removed"),
    };
    Err(unavailable(format!(
        "cannot trust the sockets in {runtime}, which {what} ({cure}, or set {RUNTIME_VARIABLE} to a \
         directory of your own)",
        runtime = runtime.display()
    )))
}

/// Another supervisor may do without what this layout needs.
fn no_layout(error: &LayoutError) -> Refusal {
    Refusal { message: error.to_string(), code: 78, reason: "layout".into(), elsewhere: true }
}

fn nobody(target: Option<&str>) -> Refusal {
    let message = match target.map(tenant_of) {
        Some(tenant) => format!(
            "no tenant \"{tenant}\" (write ~/.config/tenantd/tenants.d/{tenant}.toml, or install the \
             system service)"
        ),
        None => {
            "no tenant is configured (write one file in ~/.config/tenantd/tenants.d)".to_owned()
        }
    };
    Refusal { message, code: 78, reason: "no-tenant".into(), elsewhere: true }
}

fn ambiguous(target: Option<&str>) -> Refusal {
    let what = target.map_or("a tenant".to_owned(), |target| format!("\"{}\"", tenant_of(target)));
    Refusal {
        message: format!(
            "{what} is known to your own supervisor and to the system's: add --user or --system"
        ),
        code: 64,
        reason: "ambiguous".into(),
        elsewhere: false,
    }
}

pub(super) fn unavailable(message: String) -> Refusal {
    Refusal { message, code: 69, reason: "unavailable".into(), elsewhere: false }
}

fn cannot_reach(layout: &Layout, error: &io::Error) -> Refusal {
    let path = layout.session_socket();
    match error.kind() {
        // Its queue is full, and stayed so.
        io::ErrorKind::WouldBlock => hangs(layout),
        _ => unavailable(format!("cannot reach {}: {error}", path.display())),
    }
}

fn gone(layout: &Layout, error: &PostError) -> Refusal {
    unavailable(format!(
        "cannot open a session: the supervisor at {} ended before it answered: {error} (connect again; its \
         log is {})",
        layout.session_socket().display(),
        log_of(layout)
    ))
}

/// Whether no other process holds the other end of a lifeline: then no mux has got the session.
fn is_at_its_end(lifeline: &std::os::unix::net::UnixStream) -> bool {
    let mut one = [PollFd::new(lifeline.as_fd(), PollFlags::empty())];
    poll(&mut one, DROPPED).is_ok_and(|count| count > 0)
}

/// Who listens and says nothing.
fn hangs(layout: &Layout) -> Refusal {
    let cure = match (layout.mode, holder(layout)) {
        (Mode::System, _) => "systemctl restart tenantd".to_owned(),
        (Mode::User, Some(pid)) => format!("kill {pid} and connect again"),
        (Mode::User, None) => "end it and connect again".to_owned(),
    };
    unavailable(format!(
        "cannot open a session: the supervisor at {} did not answer within {} s ({cure}; its log is {})",
        layout.session_socket().display(),
        PATIENCE.as_secs(),
        log_of(layout)
    ))
}

/// The process that says it is the supervisor of this state directory.
fn holder(layout: &Layout) -> Option<u32> {
    std::fs::read_to_string(layout.lock()).ok()?.trim().parse().ok()
}

pub(super) fn log_of(layout: &Layout) -> String {
    match layout.mode {
        Mode::System => "journalctl -u tenantd".to_owned(),
        Mode::User => format!("in {}", layout.log.display()),
    }
}
