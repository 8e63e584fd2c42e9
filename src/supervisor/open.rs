//! Admission on the loop: a verdict for each [`OpenAsk`], and the mux that it needs.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attend::broken;
use super::cell::Session;
use super::house::{House, unix_now};
use super::message::{Admission, OpenAsk, Pass, Returned, Slip, Wish};
use crate::auth::Principal;
use crate::names::{SessionId, TenantId};
use crate::policy::reason::{UNAVAILABLE, refusal};
use crate::policy::{self, Asker, Moment, Reason, Terms, Verdict};
use crate::wire::{Holder, Refusal, ToMux};

/// A pause that a client waits for; it hears of a longer one.
const SHORT_PAUSE: Duration = Duration::from_secs(3);

/// A session that may be opened.
struct Decided {
    tenant: TenantId,
    terms: Terms,
    /// What it waits for.
    waits: Option<Reason>,
}

impl House {
    /// Answers at once, or when the tenant's mux is ready.
    pub(super) fn open(&mut self, ask: OpenAsk) {
        // Nobody waits any more: what would be passed to them would be lost.
        if ask.deadline <= Instant::now() {
            return;
        }
        let decided = match self.decide(&ask) {
            Ok(_) if ask.wish == Wish::Known => return answer(&ask, Admission::Known),
            Ok(decided) => decided,
            // Whatever else stands in the way, the tenant is known to who asks.
            Err(refusal) if ask.wish == Wish::Known && !refusal.elsewhere => {
                return answer(&ask, Admission::Known);
            }
            Err(refusal) => return answer(&ask, Admission::Refused(refusal)),
        };
        // The verdict is of this moment; the mux must be of the same one.
        self.attend_to(&decided.tenant, Some(&decided.terms.server));
        match self.cells.get_mut(&decided.tenant) {
            Some(cell) if cell.is_ready() => self.pass(&ask, decided),
            Some(cell) => cell.waiting.push(ask),
            None => self.open_with_new_cell(ask, &decided),
        }
    }

    fn open_with_new_cell(&mut self, ask: OpenAsk, decided: &Decided) {
        let (now, tenant) = (Instant::now(), &decided.tenant);
        let paused = self.pauses.get(tenant).and_then(|pause| pause.left(now));
        if let Some(left) = paused.filter(|left| *left <= SHORT_PAUSE) {
            tracing::debug!(%tenant, "a session waits for {left:?}");
            return self.patient.push(ask);
        }
        if let Some(left) = paused {
            let said = format!(
                "the process of {tenant} keeps ending; it is tried again in {} s (see tenantd why {tenant})",
                left.as_secs() + 1,
            );
            return self.refuse(&ask, tenant, refusal(&said, UNAVAILABLE, "crash-loop", false));
        }
        let started = self.start_cell(tenant, Some(&decided.terms.server));
        let cell = self.cells.get_mut(tenant);
        match started.and_then(|()| cell.ok_or_else(|| io::ErrorKind::NotFound.into())) {
            Ok(cell) => cell.waiting.push(ask),
            Err(error) => {
                tracing::error!(%tenant, "the mux cannot be started: {error}");
                self.pauses.entry(tenant.clone()).or_default().died(now, now);
                let said = format!("{tenant} cannot be started: {error}");
                self.refuse(&ask, tenant, refusal(&said, UNAVAILABLE, "not-started", false));
            }
        }
    }

    /// Who waited for the end of a pause is decided again.
    pub(super) fn ask_again(&mut self) {
        std::mem::take(&mut self.patient).into_iter().for_each(|ask| self.open(ask));
    }

    fn decide(&mut self, ask: &OpenAsk) -> Result<Decided, Refusal> {
        if self.stopping.is_some() {
            let said = "this supervisor is stopping (try again)";
            return Err(refusal(said, UNAVAILABLE, "stopping", false));
        }
        let reason = match self.judge(ask) {
            Ok((tenant, Verdict::Admit(terms))) => {
                return Ok(Decided { tenant, terms, waits: None });
            }
            Ok((tenant, Verdict::Wait(terms, reason))) => {
                return Ok(Decided { tenant, terms, waits: Some(reason) });
            }
            Ok((tenant, Verdict::Refuse(reason))) => {
                self.note(ask, &tenant, &reason.refusal(), false);
                reason
            }
            Err(reason) => reason,
        };
        let user = &ask.principal.user;
        let tenant = ask.target.tenant.as_ref().map(tracing::field::display);
        tracing::info!(tenant, uid = ask.principal.uid, %user, "a session was refused: {reason}");
        Err(reason.refusal())
    }

    /// The tenant that is meant, and the verdict on it.
    fn judge(&self, ask: &OpenAsk) -> Result<(TenantId, Verdict), Reason> {
        let asker = &self.asker(&ask.principal, &ask.ids);
        let tenants = self.registry.iter().map(Arc::as_ref);
        let id = match policy::choose(&ask.target, tenants, asker) {
            Ok(id) => id,
            Err(Reason::NoTenant) => self.broken_instead(asker)?,
            Err(reason) => return Err(reason),
        };
        let strict = ask.wish == (Wish::Session { strict: true });
        let moment = Moment { strict, ..self.moment(&id) };
        let server = ask.target.server.as_ref();
        let verdict = match self.registry.broken_one(&id).map(|problems| broken(&id, problems)) {
            Some(reason) => {
                let admin = asker.is_admin(&self.settings().admins);
                policy::admit_broken(&id, server, reason, admin, asker, moment)
            }
            None => {
                let tenant = self.registry.get(&id).map(Arc::as_ref);
                policy::admit(&id, server, tenant, asker, moment)
            }
        };
        Ok((id, verdict))
    }

    /// The tenant that is meant where none is named and none is good: the only broken one, for those who
    /// may know of every tenant.
    fn broken_instead(&self, asker: &Asker<'_>) -> Result<TenantId, Reason> {
        let known = asker.is_admin(&self.settings().admins);
        let broken: Vec<_> =
            self.registry.broken().filter(|_| known).map(|(id, _)| id.clone()).collect();
        match broken.as_slice() {
            [] => Err(Reason::NoTenant),
            [only] => Ok(only.clone()),
            _ => Err(Reason::ChooseTenant(broken)),
        }
    }

    /// Somebody, as the policy sees them.
    pub(super) fn asker<'a>(
        &self,
        principal: &'a Principal,
        ids: &'a crate::auth::Ids,
    ) -> Asker<'a> {
        Asker { principal, ids, owner: self.owns(principal.uid) }
    }

    /// Counts the session and lets the door thread send it.
    fn pass(&mut self, ask: &OpenAsk, decided: Decided) {
        let Decided { tenant, terms, waits } = decided;
        if let Some(reason) = &waits {
            self.note(ask, &tenant, &reason.refusal(), true);
        }
        let Some(cell) = self.cells.get_mut(&tenant) else { return };
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let principal = Principal { pidfd: None, ..ask.principal.clone() };
        let holder = Holder {
            uid: principal.uid,
            gid: principal.gid,
            groups: principal.groups.clone(),
            user: principal.user.clone(),
            permissions: terms.permissions,
        };
        let (server, permissions) = (terms.server.clone(), holder.permissions.clone());
        cell.sessions.insert(session, Session { principal, server, permissions });
        cell.on_the_way.insert(session);
        cell.may_leave = false;
        // Its end will be told.
        cell.wire.is_due(1);
        let user = &holder.user;
        let waits = waits.map(tracing::field::display);
        tracing::info!(%tenant, server = %terms.server, %session, uid = holder.uid, %user, waits, "a session opens");
        let returned = Returned { tenant: tenant.clone(), cell: cell.number, session, sent: false };
        let pass = Pass {
            line: cell.line.clone(),
            open: ToMux::Open {
                session,
                server: terms.server.clone(),
                holder,
                strict: ask.wish == (Wish::Session { strict: true }),
            },
            tenant,
            server: terms.server,
            session,
            slip: Slip { back: self.slips.clone(), returned },
        };
        // A door thread that gave up drops it, and so takes the session back.
        answer(ask, Admission::Pass(Box::new(pass)));
    }

    fn refuse(&mut self, ask: &OpenAsk, tenant: &TenantId, refusal: Refusal) {
        self.note(ask, tenant, &refusal, false);
        answer(ask, Admission::Refused(refusal));
    }

    /// Keeps a refusal for who asks why. A tenant that is not there has no history.
    fn note(&mut self, ask: &OpenAsk, tenant: &TenantId, refusal: &Refusal, waits: bool) {
        if ask.wish != Wish::Known && self.registry.has(tenant) {
            self.history.refused(tenant, &ask.principal, refusal, waits, unix_now());
        }
    }
}

fn answer(ask: &OpenAsk, admission: Admission) {
    // A door thread that gave up is no longer there to hear it.
    let _ = ask.reply.try_send(admission);
}
