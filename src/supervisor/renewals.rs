//! When the token of a login is renewed: ahead of its end, not at one moment for all, and less and less often
//! where that fails.
//!
//! Only what somebody runs with is renewed here; what nobody needs is renewed by the next start.

use std::collections::BTreeMap;
use std::time::Duration;

use super::child::NotReady;
use super::credentials::WITHIN;
use super::house::{House, unix_now};
use super::message::Message;
use super::secrets::SecretNews;
use crate::credential::oauth::MARGIN_MAX;
use crate::names::TenantId;
use crate::wire::credential::Account;

/// The shortest time between two renewals of one login: a server whose tokens live for no time at all, or
/// that does not answer just now, is not asked in a circle.
const AGAIN_MIN: Duration = Duration::from_secs(2);
/// The longest time between two tries of one that fails.
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// The longest wait that is believed: a clock that jumps is found out at the latest then.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The logins that are looked after.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    due: BTreeMap<(TenantId, Account), Due>,
    next: u64,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Due {
    /// The timer that counts; earlier ones say nothing any more.
    number: u64,
    /// How often in a row a renewal brought nothing.
    failures: u32,
    /// When the token that is known ends, seconds since the epoch.
    expires: i64,
}

/// How long from `now` until a token that ends at `expires` is renewed. `random` is from 0 to 1.
///
/// The role renews what has less than a quarter of its life left, [`MARGIN_MAX`] at most. Of what was left at
/// `now` that is more than what is taken here, so that it does so when it is asked.
fn ahead(now: i64, expires: i64, random: f64) -> Duration {
    let left = expires.saturating_sub(now).max(0);
    let margin = (left / 4).min(MARGIN_MAX);
    let share = 0.5 + 0.4 * random.clamp(0.0, 1.0);
    let left = Duration::from_secs(left.unsigned_abs());
    let early = Duration::from_secs(margin.unsigned_abs()).mul_f64(share);
    left.saturating_sub(early).clamp(AGAIN_MIN, WAIT_MAX)
}

/// How long until the next try after so many that failed.
fn again(failures: u32, random: f64) -> Duration {
    let longest = AGAIN_MIN.saturating_mul(1 << failures.min(10)).min(AGAIN_MAX);
    longest.mul_f64(0.75 + 0.5 * random.clamp(0.0, 1.0))
}

/// From 0 to 1, for what must not happen to all at once.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without random numbers all come at once: that is no reason not to come.
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

impl House {
    /// A login's token was handed over, or a login was kept, until then.
    pub(super) fn renew_ahead(
        &mut self,
        tenant: &TenantId,
        account: &Account,
        expires: Option<i64>,
    ) {
        let key = (tenant.clone(), account.clone());
        let tenant = self.registry.get(tenant);
        let is_login = tenant.is_some_and(|its| its.logins.contains_key(&account.name));
        let Some(expires) = expires.filter(|_| is_login) else {
            self.secrets.renewals.due.remove(&key);
            return;
        };
        self.renew_in(key, (0, expires), ahead(unix_now(), expires, random()));
    }

    fn renew_in(
        &mut self,
        key: (TenantId, Account),
        (failures, expires): (u32, i64),
        wait: Duration,
    ) {
        let renewals = &mut self.secrets.renewals;
        renewals.next += 1;
        let number = renewals.next;
        renewals.due.insert(key.clone(), Due { number, failures, expires });
        let (house, (tenant, account)) = (self.handle.clone(), key);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(wait).await;
            let news = SecretNews::Due(account, number);
            // Without a loop there is nobody to tell.
            let _ = house.say(Message::Secret { tenant, news }).await;
        });
    }

    /// A timer has run out: the role renews the token, if somebody runs with it.
    pub(super) fn renewal_due(&mut self, tenant: &TenantId, account: &Account, number: u64) {
        let key = (tenant.clone(), account.clone());
        let counts = self.secrets.renewals.due.get(&key).is_some_and(|due| due.number == number);
        if !counts || self.stopping.is_some() {
            return;
        }
        let Some(person) = self.runs_with(tenant, account) else {
            self.secrets.renewals.due.remove(&key);
            return;
        };
        // Into a socket that nobody reads: what counts is that the store has the next one.
        let wanted = vec![self.asked(tenant, account.clone(), false)];
        match self.fetch(tenant, person.as_ref(), wanted, WITHIN) {
            Ok(fetch) => {
                let (house, (tenant, account)) = (self.handle.clone(), key);
                tokio::task::spawn_local(async move {
                    let came = fetch.finish().await;
                    let came = came.map(|came| came.met.into_iter().find_map(|(_, until)| until));
                    let news = SecretNews::Renewed(account, came);
                    let _ = house.say(Message::Secret { tenant, news }).await;
                });
            }
            Err(error) => self.on_renewal(tenant, account, Err(error)),
        }
    }

    /// What came of a renewal: whoever runs with the token is given the next one; without one it is tried
    /// again, and at the end of the last one those who need it hear what to do.
    pub(super) fn on_renewal(
        &mut self,
        tenant: &TenantId,
        account: &Account,
        came: Result<Option<i64>, NotReady>,
    ) {
        let key = (tenant.clone(), account.clone());
        let Some(Due { failures, expires, .. }) = self.secrets.renewals.due.get(&key).copied()
        else {
            return;
        };
        let whose = account.user.as_deref();
        let over = match came {
            Ok(next) if next != Some(expires) => {
                tracing::info!(%tenant, whose, "the login {} was renewed", account.name);
                self.secrets_met(tenant, &[(account.clone(), next)]);
                return self.credential_changed(tenant, account);
            }
            Ok(_) => {
                tracing::warn!(%tenant, whose, "the login {} could not be renewed yet", account.name);
                false
            }
            Err(NotReady { reason, permanent }) => {
                tracing::warn!(%tenant, whose, "the login {} was not renewed: {reason}", account.name);
                permanent
            }
        };
        let left = expires.saturating_sub(unix_now());
        if over && left <= 0 {
            // Who starts anew is refused with the cure, and tells it.
            self.secrets.renewals.due.remove(&key);
            return self.credential_changed(tenant, account);
        }
        let end = Duration::from_secs(left.max(0).unsigned_abs()).min(WAIT_MAX);
        let wait = if over { end.max(AGAIN_MIN) } else { again(failures, random()) };
        self.renew_in(key, (failures.saturating_add(1), expires), wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_its_end_and_when_the_role_finds_that_it_must_be() {
        for life in [8, 60, 600, 3600, 86_400] {
            for random in [0.0, 0.5, 1.0] {
                let wait = ahead(1000, 1000 + life, random).as_secs_f64();
                let left = life as f64 - wait;
                let margin = (life / 4).min(MARGIN_MAX) as f64;
                assert!(left > 0.0 && left <= margin, "{life}: {left}");
            }
        }
        assert!(ahead(0, 3600, 0.0) > ahead(0, 3600, 1.0), "not at one moment");
    }

    #[test]
    fn what_has_ended_or_fails_is_not_asked_in_a_circle() {
        assert_eq!(ahead(1000, 1000, 0.3), AGAIN_MIN);
        assert_eq!(ahead(1000, 10, 0.3), AGAIN_MIN);
        assert_eq!(ahead(0, i64::MAX, 0.3), WAIT_MAX);
        let waits: Vec<_> = (0..12).map(|failures| again(failures, 0.5)).collect();
        assert!(waits.is_sorted() && waits[0] >= AGAIN_MIN && waits[11] == AGAIN_MAX);
    }
}
