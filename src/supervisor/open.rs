//! Admission on the loop: a verdict for each [`OpenAsk`], and the mux that it needs.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cell::{Phase, Session};
use super::house::{House, unix_now};
use super::message::{Admission, OpenAsk, Pass, Returned, Slip, Wish};
use crate::auth::Principal;
use crate::config::tenant::Tenant;
use crate::names::{SessionId, Target, TenantId};
use crate::policy::reason::{UNAVAILABLE, refusal};
use crate::policy::{self, Asker, Moment, Reason, Terms, Verdict};
use crate::sandbox::LAYERS_HELD;
use crate::wire::{Holder, Refusal, ToMux};

/// A pause that a client waits for; it hears of a longer one.
const SHORT_PAUSE: Duration = Duration::from_secs(3);

impl House {
    /// Answers at once, or when the tenant's mux is ready.
    pub(super) fn open(&mut self, ask: OpenAsk) {
        // Nobody waits any more: what would be passed to them would be lost.
        if ask.deadline <= Instant::now() {
            return;
        }
        let (tenant, terms) = match self.decide(&ask) {
            Ok(_) if ask.wish == Wish::Known => return answer(&ask, Admission::Known),
            Ok(decided) => decided,
            // Whatever else stands in the way, the tenant is known to who asks.
            Err(refusal) if ask.wish == Wish::Known && !refusal.elsewhere => {
                return answer(&ask, Admission::Known);
            }
            Err(refusal) => return refuse(&ask, refusal),
        };
        match self.cells.get_mut(&tenant.id) {
            Some(cell) if cell.phase == Phase::Ready => self.pass(&ask, &tenant.id, terms),
            Some(cell) => cell.waiting.push(ask),
            None => self.open_with_new_cell(ask, &tenant),
        }
    }

    fn open_with_new_cell(&mut self, ask: OpenAsk, tenant: &Arc<Tenant>) {
        let now = Instant::now();
        let paused = self.pauses.get(&tenant.id).and_then(|pause| pause.left(now));
        if let Some(left) = paused.filter(|left| *left <= SHORT_PAUSE) {
            tracing::debug!(tenant = %tenant.id, "a session waits for {left:?}");
            return self.patient.push(ask);
        }
        if let Some(left) = paused {
            let said = format!(
                "the process of {} keeps ending; it is tried again in {} s (see tenantd logs {})",
                tenant.id,
                left.as_secs() + 1,
                tenant.id
            );
            return refuse(&ask, refusal(&said, UNAVAILABLE, "crash-loop", false));
        }
        let started = self.start_cell(tenant);
        let cell = self.cells.get_mut(&tenant.id);
        match started.and_then(|()| cell.ok_or_else(|| io::ErrorKind::NotFound.into())) {
            Ok(cell) => cell.waiting.push(ask),
            Err(error) => {
                tracing::error!(tenant = %tenant.id, "the mux cannot be started: {error}");
                self.pauses.entry(tenant.id.clone()).or_default().died(now, now);
                let said = format!("{} cannot be started: {error}", tenant.id);
                refuse(&ask, refusal(&said, UNAVAILABLE, "not-started", false));
            }
        }
    }

    /// Who waited for the end of a pause is decided again.
    pub(super) fn ask_again(&mut self) {
        std::mem::take(&mut self.patient).into_iter().for_each(|ask| self.open(ask));
    }

    fn decide(&self, ask: &OpenAsk) -> Result<(Arc<Tenant>, Terms), Refusal> {
        if self.stopping.is_some() {
            let said = "this supervisor is stopping (try again)";
            return Err(refusal(said, UNAVAILABLE, "stopping", false));
        }
        let asker = self.asker(&ask.principal, &ask.ids);
        let decided = self.judge(&ask.target, &asker);
        decided.map_err(|reason| {
            let user = &ask.principal.user;
            let tenant = ask.target.tenant.as_ref().map(tracing::field::display);
            tracing::info!(tenant, uid = ask.principal.uid, %user, "a session was refused: {reason}");
            reason.refusal()
        })
    }

    fn judge(&self, target: &Target, asker: &Asker<'_>) -> Result<(Arc<Tenant>, Terms), Reason> {
        let tenants = self.registry.iter().map(Arc::as_ref);
        let id = policy::choose(target, tenants, asker)
            .map_err(|reason| self.broken(None, asker).unwrap_or(reason))?;
        let tenant = self.registry.get(&id);
        let moment = self.moment(&id);
        let server = target.server.as_ref();
        match (policy::admit(&id, server, tenant.map(Arc::as_ref), asker, moment), tenant) {
            (Verdict::Admit(terms), Some(tenant)) => Ok((tenant.clone(), terms)),
            (Verdict::Refuse(reason), None) => Err(self.broken(Some(&id), asker).unwrap_or(reason)),
            (Verdict::Refuse(reason), Some(_)) => Err(reason),
            (Verdict::Admit(_), None) => Err(Reason::UnknownTenant(id)),
        }
    }

    /// That a tenant's file was never good, for those who may know of every tenant.
    fn broken(&self, wanted: Option<&TenantId>, asker: &Asker<'_>) -> Option<Reason> {
        if !asker.is_admin(&self.settings().admins) {
            return None;
        }
        let mut broken = self.registry.broken();
        let (tenant, problems) = match wanted {
            Some(id) => broken.find(|(its, _)| *its == id)?,
            None => broken.next()?,
        };
        let problem =
            problems.first().map_or_else(|| "see tenantd check".to_owned(), |p| p.to_string());
        Some(Reason::Broken { tenant: tenant.clone(), problem })
    }

    fn moment(&self, tenant: &TenantId) -> Moment<'_> {
        let open = self.cells.get(tenant).map_or(0, |cell| cell.sessions.len());
        Moment {
            now: unix_now(),
            open_sessions: u32::try_from(open).unwrap_or(u32::MAX),
            layers: LAYERS_HELD,
            insecure_unenforced: self.options.insecure_unenforced,
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
    fn pass(&mut self, ask: &OpenAsk, tenant: &TenantId, terms: Terms) {
        let Some(cell) = self.cells.get_mut(tenant) else { return };
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
        let user = &holder.user;
        tracing::info!(%tenant, server = %terms.server, %session, uid = holder.uid, %user, "a session opens");
        let returned = Returned { tenant: tenant.clone(), cell: cell.number, session, sent: false };
        let pass = Pass {
            line: cell.line.clone(),
            open: ToMux::Open {
                session,
                server: terms.server.clone(),
                holder,
                strict: ask.wish == (Wish::Session { strict: true }),
            },
            tenant: tenant.clone(),
            server: terms.server,
            session,
            slip: Slip { back: self.slips.clone(), returned },
        };
        // A door thread that gave up drops it, and so takes the session back.
        answer(ask, Admission::Pass(Box::new(pass)));
    }
}

fn refuse(ask: &OpenAsk, refusal: Refusal) {
    answer(ask, Admission::Refused(refusal));
}

fn answer(ask: &OpenAsk, admission: Admission) {
    // A door thread that gave up is no longer there to hear it.
    let _ = ask.reply.try_send(admission);
}
