//! The logins of tenants as the supervisor manages them: how one is renewed, where one logs in, and its end.
//!
//! No token is seen here. A person's own `tenantd login` talks to the authorization server; the credential role
//! renews and revokes.

use super::house::House;
use super::message::Reply;
use super::secrets::{Work, control_error, identity};
use super::status::{answer, unknown};
use crate::auth::Principal;
use crate::config::tenant::{Settings, Tenant};
use crate::control::{ControlError, LoggedOutReply, LoginEndpoint, LoginReply};
use crate::names::TenantId;
use crate::policy::Asker;
use crate::wire::credential::{Account, LoginPlan, Trouble, Wanted};

/// What somebody asks about a login.
#[derive(Debug)]
pub(super) enum LoginWish {
    /// Where one logs in, and as whom.
    Describe(Reply<LoginReply>),
    /// Its end.
    End(Reply<LoggedOutReply>),
}

/// How a login is renewed; nothing where the name is no login's.
fn login_plan(tenant: &Tenant, settings: &Settings, name: &str) -> Option<LoginPlan> {
    let login = tenant.logins.get(name)?;
    Some(LoginPlan {
        issuer: login.issuer.clone(),
        endpoints: login.endpoints.clone(),
        client_id: login.client_id.clone(),
        scopes: login.scopes.clone(),
        resource: login.resource.clone(),
        ca_file: settings.egress.ca_file.clone(),
    })
}

impl House {
    /// The secret as the role is asked for it: a plain one, or the token of a login.
    pub(super) fn asked(&self, tenant: &TenantId, account: Account, renew: bool) -> Wanted {
        let tenant = self.registry.get(tenant);
        let login = tenant.and_then(|its| login_plan(its, self.settings(), &account.name));
        Wanted { account, login, renew }
    }

    /// Answers a wish about a login, perhaps later.
    pub(super) fn on_login_wish(
        &mut self,
        asker: &Asker<'_>,
        admin: bool,
        (tenant, name): (&str, &str),
        wish: LoginWish,
    ) {
        let found = self.its_login(asker, admin, tenant, name);
        match (wish, found) {
            (LoginWish::Describe(reply), found) => {
                answer(reply, found.and_then(|(id, account)| self.describe_login(&id, account)));
            }
            (LoginWish::End(reply), Err(error)) => answer(reply, Err(error)),
            (LoginWish::End(reply), Ok((id, account))) => {
                self.end_login(&id, account, asker.principal, reply);
            }
        }
    }

    /// The login that is the asker's to begin and to end.
    fn its_login(
        &self,
        asker: &Asker<'_>,
        admin: bool,
        tenant: &str,
        name: &str,
    ) -> Result<(TenantId, Account), ControlError> {
        let id = TenantId::parse(tenant).map_err(|_| unknown(tenant))?;
        let keys = self.keys(&id, asker, admin).map_err(control_error)?;
        let account = keys.account(name).map_err(control_error)?;
        let logins = self.registry.get(&id).map(|its| &its.logins);
        match logins.is_some_and(|logins| logins.contains_key(name)) {
            true => Ok((id, account)),
            false => Err(ControlError::Failed {
                reason: format!(
                    "{name} of {id} is no login (add an [oauth.{name}] to tenants.d/{id}.toml, or set its value: \
                     tenantd credential set {id} {name})"
                ),
            }),
        }
    }

    fn describe_login(&self, id: &TenantId, account: Account) -> Result<LoginReply, ControlError> {
        let tenant = self.registry.get(id).ok_or_else(|| unknown(id.as_str()))?;
        let plan = login_plan(tenant, self.settings(), &account.name);
        let plan = plan.ok_or_else(|| unknown(id.as_str()))?;
        let own = tenant.logins.get(&account.name);
        let endpoints = plan.endpoints.into_iter().map(|(name, url)| LoginEndpoint { name, url });
        Ok(LoginReply {
            issuer: plan.issuer,
            endpoints: endpoints.collect(),
            client_id: plan.client_id,
            client_secret: own.is_some_and(|login| login.client_secret),
            scopes: plan.scopes,
            resource: plan.resource,
            ca_file: plan.ca_file.map(|path| path.display().to_string()),
            user: account.user,
        })
    }

    fn end_login(
        &mut self,
        id: &TenantId,
        account: Account,
        asker: &Principal,
        reply: Reply<LoggedOutReply>,
    ) {
        if self.stopping.is_some() {
            let reason = "this supervisor is stopping (try again)".to_owned();
            return answer(reply, Err(ControlError::Failed { reason }));
        }
        let wanted = self.asked(id, account, false);
        self.line_up(id, Work::Logout { wanted, asker: identity(asker), reply });
    }

    /// A login was ended, or not.
    pub(super) fn logged_out(
        &mut self,
        tenant: &TenantId,
        account: &Account,
        reply: Reply<LoggedOutReply>,
        outcome: super::credentials::Outcome,
    ) {
        let why = outcome.failed.into_iter().next();
        // Of this deed it means: forgotten here, and its server does not know.
        let untold = why.as_ref().is_some_and(|(of, trouble, _)| {
            of.as_ref() == Some(account) && *trouble == Trouble::Unreachable
        });
        let gone = untold || outcome.did.iter().any(|(did, _)| did == account);
        if !gone {
            let (trouble, reason) = why.map_or_else(
                || ("refused".to_owned(), "the store's process said nothing of it".to_owned()),
                |(_, trouble, reason)| (trouble.as_str().to_owned(), reason),
            );
            let error = ControlError::StoreFailed { trouble, reason };
            return self.write_down(tenant, move || answer(reply, Err(error)));
        }
        let was = self.index(tenant).remove(account);
        self.renew_ahead(tenant, account, None);
        tracing::info!(%tenant, whose = account.user.as_deref(), "the login {} was ended", account.name);
        let problem = why.map(|(_, _, reason)| reason);
        self.write_down(tenant, move || answer(reply, Ok(LoggedOutReply { was, problem })));
    }
}
