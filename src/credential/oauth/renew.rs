//! A login's token, renewed where it has to be, by one process at a time.
//!
//! ```text
//! read -- enough life left --------------------------------------> hand over
//!   \-- lock -- read again -- renewed by another meanwhile ------> hand over
//!                  \-- ask the server -- STORE -- only then -----> hand over
//! ```
//!
//! Most servers give a new refresh token with each renewal and take the old one back at once. So what came is
//! stored before anybody hears of it, and what could hinder the storing is found out before the server is
//! asked. A process that is killed between the server's answer and the store leaves the old document: whole,
//! and as good as the server still takes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::document::Document;
use super::http::Client;
use super::revoke::revoke;
use super::{OauthError, token};
use crate::credential::{Opened, StoreError};
use crate::names::TenantId;
use crate::wire::credential::{Account, LoginPlan, Trouble};

/// The most that a token is renewed ahead of its end, seconds; a quarter of its life where that is less.
pub const MARGIN_MAX: i64 = 300;
/// A clock that seems to have gone back by more than this since the token came cannot be trusted to tell when it
/// ends, seconds.
const CLOCK_BACK: i64 = 60;
/// What is left to a process at the least once a server has answered, so that the answer is stored.
const STORE_TAKES: Duration = Duration::from_secs(4);
/// Less than this is no time to ask a server.
const ASK_MIN: Duration = Duration::from_secs(2);
/// How often a document that came is tried to be stored: there is no second copy of it anywhere.
const STORE_TRIES: usize = 3;

/// One account's login, in the store that holds it.
pub struct Login<'a> {
    /// The store.
    pub store: &'a dyn Opened,
    /// Whose tenant it is, for the words that people read.
    pub tenant: &'a TenantId,
    /// Under which name it is kept.
    pub account: &'a Account,
    /// How it is renewed.
    pub plan: &'a LoginPlan,
    /// A file of the tenant's that every refresher locks (a byte of it for each account).
    pub lock: BorrowedFd<'a>,
    /// When this process ends, whatever it is doing.
    pub until: Instant,
}

impl Login<'_> {
    /// A token that has enough life left; renewed where it has not, or where `renew` asks for it because a
    /// server refused it.
    ///
    /// # Errors
    /// [`StoreError`], of each kind of trouble.
    pub fn ready(&self, client: &Client, renew: bool) -> Result<Document, StoreError> {
        let found = self.read()?;
        if !renew && !needs_renewal(&found, now()) {
            return Ok(found);
        }
        let _lock = self.locked()?;
        // Another may have renewed it while this one waited.
        let current = self.read()?;
        let renewed = current.access_token != found.access_token;
        if renewed && !needs_renewal(&current, now()) {
            return Ok(current);
        }
        self.renew(client, current)
    }

    /// The login in the store.
    ///
    /// # Errors
    /// [`StoreError`]: `Missing` where nobody logged in; `Refused` where it is something else.
    pub fn read(&self) -> Result<Document, StoreError> {
        let Some(bytes) = self.store.get(self.account)? else {
            let what =
                format!("nobody has logged in to \"{}\" ({})", self.account.name, self.cure());
            return Err(StoreError::new(Trouble::Missing, what));
        };
        let document = Document::parse(&bytes).map_err(|what| {
            let what = format!("\"{}\": {what} ({})", self.account.name, self.cure());
            StoreError::new(Trouble::LoginOver, what)
        })?;
        if !document.belongs_to(self.plan) {
            return Err(self.over("[oauth] names another server, client or resource now"));
        }
        Ok(document)
    }

    /// Tells the server that the login is over (RFC 7009), and forgets it, whatever the server says to that.
    ///
    /// # Errors
    /// [`StoreError`] where it could not be forgotten. What hindered the telling is the value: nothing where it
    /// was told.
    pub fn end(&self, client: &Client) -> Result<Option<String>, StoreError> {
        let _lock = self.locked()?;
        let stored = self.store.get(self.account)?;
        let told = match stored.map(|bytes| Document::parse(&bytes)) {
            Some(Ok(document)) => self.tell_end(client, &document),
            Some(Err(_)) | None => None,
        };
        self.store.remove(self.account)?;
        Ok(told)
    }

    /// Why the server could not be told, if it could not.
    fn tell_end(&self, client: &Client, document: &Document) -> Option<String> {
        let client = match self.in_time(client) {
            Ok(client) => client,
            Err(error) => return Some(error.reason),
        };
        match within_runtime(revoke(&client, document)) {
            Ok(true) => None,
            Ok(false) => Some("its server has no place to be told that a login is over".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    fn locked(&self) -> Result<Lock<'_>, StoreError> {
        Lock::take(self.lock, self.account).map_err(|error| {
            StoreError::new(Trouble::Refused, format!("cannot lock the login: {error}"))
        })
    }

    /// The client, so that it gives up while there is still time to store what came.
    fn in_time(&self, client: &Client) -> Result<Client, StoreError> {
        let left = self.until.saturating_duration_since(Instant::now()).saturating_sub(STORE_TAKES);
        if left < ASK_MIN {
            let what = format!("no time is left to renew \"{}\"", self.account.name);
            return Err(StoreError::new(Trouble::TimedOut, what));
        }
        Ok(client.at_most(left))
    }

    fn renew(&self, client: &Client, current: Document) -> Result<Document, StoreError> {
        if current.refresh_token.is_none() {
            return match left(&current, now()) {
                Some(0) => Err(self.over("it has ended, and the server gave no refresh token")),
                _ => Ok(current),
            };
        }
        // What could hinder the storing shall do so now, while the server still takes the old token.
        self.store.set(self.account, &current.to_bytes())?;
        let client = self.in_time(client)?;
        match within_runtime(token::refresh(&client, &current)) {
            Ok(granted) => {
                let document = current.renewed(granted);
                self.keep(&document)?;
                Ok(document)
            }
            Err(error @ OauthError::Refused { .. }) if !is_passing(&error) => {
                Err(self.over(&error.to_string()))
            }
            // Not now, then later: the token is good until its end.
            Err(_) if left(&current, now()) != Some(0) => Ok(current),
            Err(error) => {
                let what =
                    format!("\"{}\" has ended and cannot be renewed: {error}", self.account.name);
                Err(StoreError::new(Trouble::Unreachable, what))
            }
        }
    }

    fn keep(&self, document: &Document) -> Result<(), StoreError> {
        let bytes = document.to_bytes();
        let mut tries = STORE_TRIES;
        loop {
            tries -= 1;
            match self.store.set(self.account, &bytes) {
                Ok(()) => return Ok(()),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn over(&self, why: &str) -> StoreError {
        let what = format!("the login \"{}\" is over: {why} ({})", self.account.name, self.cure());
        StoreError::new(Trouble::LoginOver, what)
    }

    fn cure(&self) -> String {
        format!("tenantd login {} {}", self.tenant, self.account.name)
    }
}

/// Errors that a server means for now (RFC 6749, section 4.1.2.1, and its sisters' words).
fn is_passing(error: &OauthError) -> bool {
    ["temporarily_unavailable", "server_error", "slow_down"].iter().any(|code| error.is(code))
}

/// Whether so little of its life is left that it is renewed before it is used.
pub fn needs_renewal(document: &Document, now: i64) -> bool {
    let Some(left) = left(document, now) else { return false };
    let life = document.expires_at.unwrap_or(i64::MAX).saturating_sub(document.obtained_at);
    left <= (life / 4).min(MARGIN_MAX)
}

/// Seconds that are left of it, 0 at the least; `None` where the server does not say when it ends. A clock that
/// went back behind the token's own beginning says nothing: then nothing is left.
fn left(document: &Document, now: i64) -> Option<i64> {
    let left = document.expires_at?.saturating_sub(now).max(0);
    let clock_is_back = now.saturating_add(CLOCK_BACK) < document.obtained_at;
    Some(if clock_is_back { 0 } else { left })
}

/// This machine's clock, seconds since the epoch.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// One request from a plain thread; stores of D-Bus do not work within an async task.
fn within_runtime<T>(
    request: impl Future<Output = Result<T, OauthError>>,
) -> Result<T, OauthError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| OauthError::Setup(format!("no runtime: {error}")))?;
    let result = runtime.block_on(request);
    // A name that is still being looked up must not hold the answer back.
    runtime.shutdown_background();
    result
}

/// A lock on one account's byte of the tenant's lock file (F_OFD_SETLKW in fcntl(2)), which ends with this
/// value, and with its process in any case.
struct Lock<'a> {
    file: BorrowedFd<'a>,
    byte: i64,
}

impl<'a> Lock<'a> {
    fn take(file: BorrowedFd<'a>, account: &Account) -> nix::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(account.name.as_bytes()).update(b"/");
        hasher.update(account.user.as_deref().unwrap_or_default().as_bytes());
        // Two accounts on one byte only wait for each other.
        let mut byte = [0; 4];
        byte.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
        let lock = Self { file, byte: i64::from(u32::from_le_bytes(byte)) };
        loop {
            match lock.set(nix::libc::F_WRLCK) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return other.map(|()| lock),
            }
        }
    }

    fn set(&self, kind: i32) -> nix::Result<()> {
        let range = nix::libc::flock {
            l_type: i16::try_from(kind).unwrap_or_default(),
            l_whence: 0,
            l_start: self.byte,
            l_len: 1,
            l_pid: 0,
        };
        let how = nix::fcntl::FcntlArg::F_OFD_SETLKW(&range);
        nix::fcntl::fcntl(self.file.as_fd(), how).map(drop)
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // It ends with its descriptor at the latest.
        let _ = self.set(nix::libc::F_UNLCK);
    }
}
