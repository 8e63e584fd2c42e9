//! What is told of secrets: which there are, whose, since when, until when. Never a value.

use super::{Keys, unknown};
use crate::config::tenant::{Credential, Delivery, Scope};
use crate::control::{ControlError, CredentialLine, CredentialsReply};
use crate::names::TenantId;
use crate::policy::Asker;
use crate::supervisor::house::{House, unix_now};
use crate::supervisor::index::{Fact, Index};
use crate::wire::credential::{Account, Source};

/// How long before its end a secret that nobody renews by itself is spoken of, seconds: a week.
const SOON: i64 = 7 * 24 * 60 * 60;
/// The most lines of one answer: it must fit where a control message does.
const LINES_MAX: usize = 200;

impl House {
    /// The secrets of one tenant, or of every one that the asker knows of.
    pub(in crate::supervisor) fn list_secrets(
        &mut self,
        asker: &Asker<'_>,
        admin: bool,
        tenant: Option<&str>,
    ) -> Result<CredentialsReply, ControlError> {
        let ids: Vec<TenantId> = match tenant {
            Some(text) => vec![TenantId::parse(text).map_err(|_| unknown(text))?],
            None => self.registry.iter().map(|tenant| tenant.id.clone()).collect(),
        };
        let mut reply = CredentialsReply { credentials: Vec::new(), problems: Vec::new() };
        for id in ids {
            let index = self.index(&id).clone();
            match self.keys(&id, asker, admin) {
                Ok(keys) => {
                    reply.problems.extend(index.damage.clone().filter(|_| keys.admin));
                    let lines = lines(&id, &keys, &asker.principal.user, &index);
                    reply.credentials.extend(lines);
                }
                Err(denied) if tenant.is_some() => return Err(super::control_error(denied)),
                Err(_) => {}
            }
        }
        if reply.credentials.len() > LINES_MAX {
            reply.credentials.truncate(LINES_MAX);
            let said = format!("only {LINES_MAX} are shown (name a tenant to see its own)");
            reply.problems.push(said);
        }
        Ok(reply)
    }

    /// What an admin must do about a tenant's secrets.
    pub(in crate::supervisor) fn missing_secrets(&mut self, id: &TenantId) -> Vec<String> {
        let Some(tenant) = self.registry.get(id).cloned() else { return Vec::new() };
        if tenant.credentials.is_empty() {
            return Vec::new();
        }
        let index = self.index(id);
        if let Some(damage) = &index.damage {
            return vec![damage.clone()];
        }
        let (named, now) = (distinct(&tenant.credentials), unix_now());
        let missing = named.iter().filter(|one| one.scope == Scope::Tenant);
        let missing = missing.map(|one| Account { name: one.name.clone(), user: None });
        let missing = missing.filter(|account| index.get(account).is_none()).map(|account| {
            let name = account.name;
            format!("the credential {name} is not set (tenantd credential set {id} {name})")
        });
        let is_named = |fact: &&Fact| named.iter().any(|one| one.name == fact.name);
        let ending = index.facts().iter().filter(is_named).filter_map(|fact| ends(id, fact, now));
        missing.chain(ending).collect()
    }
}

/// That a secret ends, and what to do. The tokens of a login are renewed by themselves until that fails.
fn ends(tenant: &TenantId, fact: &Fact, now: i64) -> Option<String> {
    let expires = fact.expires?;
    let login = fact.source == Source::Login;
    if expires > now && (login || expires - now > SOON) {
        return None;
    }
    let (name, whose) = (&fact.name, fact.user.as_deref());
    let whose = whose.map(|user| format!(" of {user}")).unwrap_or_default();
    let when = match jiff::Timestamp::from_second(expires) {
        Ok(at) if expires <= now => format!("expired at {at}"),
        Ok(at) => format!("expires at {at}"),
        Err(_) => "expires".to_owned(),
    };
    let verb = if login { "login" } else { "credential rotate" };
    Some(format!("the credential {name}{whose} {when} (tenantd {verb} {tenant} {name})"))
}

/// Each name once: a secret may reach its servers in several ways.
fn distinct(credentials: &[Credential]) -> Vec<&Credential> {
    let mut seen: Vec<&Credential> = Vec::new();
    for credential in credentials {
        if seen.iter().all(|one| one.name != credential.name) {
            seen.push(credential);
        }
    }
    seen
}

/// The lines of one tenant, as far as these keys reach.
fn lines(id: &TenantId, keys: &Keys<'_>, own: &str, index: &Index) -> Vec<CredentialLine> {
    let ways: Vec<&Credential> = keys.visible().collect();
    let mut lines = Vec::new();
    let mut shown: Vec<Account> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for credential in &ways {
        if names.contains(&credential.name.as_str()) {
            continue;
        }
        names.push(&credential.name);
        for account in accounts(credential, keys, own, index) {
            let mine = account.user.as_deref().is_none_or(|user| user == own);
            let mut line = line(id, &account, index.get(&account));
            describe(&mut line, &ways);
            // What somebody else has to do is no command of the asker's.
            let may = match credential.scope {
                Scope::Tenant => keys.admin,
                Scope::User => mine && keys.is_own(credential),
            };
            line.cure = (!line.set && may)
                .then(|| format!("tenantd credential set {id} {}", credential.name));
            lines.push(line);
            shown.push(account);
        }
    }
    let left = index.facts().iter().filter(|fact| {
        let known = |one: &Account| one.name == fact.name && one.user == fact.user;
        let theirs = keys.admin || fact.user.as_deref() == Some(own);
        theirs && !shown.iter().any(known)
    });
    lines.extend(left.map(|fact| orphan(id, fact, own)));
    lines
}

/// Whose there are of one credential, as far as the asker may see them.
fn accounts(one: &Credential, keys: &Keys<'_>, own: &str, index: &Index) -> Vec<Account> {
    let account =
        |user: Option<&str>| Account { name: one.name.clone(), user: user.map(str::to_owned) };
    if one.scope == Scope::Tenant {
        return vec![account(None)];
    }
    let mut found: Vec<Account> =
        index.accounts(&one.name).filter(|found| found.user.is_some() && keys.admin).collect();
    let mine = account(Some(own));
    if (keys.is_own(one) || index.get(&mine).is_some()) && !found.contains(&mine) {
        found.push(mine);
    }
    if found.is_empty() {
        found.push(account(None));
    }
    found
}

fn line(id: &TenantId, account: &Account, fact: Option<&Fact>) -> CredentialLine {
    CredentialLine {
        tenant: id.to_string(),
        name: account.name.clone(),
        scope: if account.user.is_some() { "user" } else { "tenant" }.to_owned(),
        user: account.user.clone(),
        set: fact.is_some(),
        source: fact.map(|fact| fact.source.as_str().to_owned()),
        stored_at: fact.and_then(|fact| fact.stored_at),
        expires: fact.and_then(|fact| fact.expires),
        servers: Vec::new(),
        delivery: Vec::new(),
        named: true,
        cure: None,
    }
}

/// Which servers get it, and how.
fn describe(line: &mut CredentialLine, ways: &[&Credential]) {
    for way in ways.iter().filter(|way| way.name == line.name) {
        line.scope = if way.scope == Scope::User { "user" } else { "tenant" }.to_owned();
        for server in &way.servers {
            let server = server.to_string();
            if !line.servers.contains(&server) {
                line.servers.push(server);
            }
        }
        line.delivery.push(match &way.delivery {
            Delivery::Env(name) => format!("env {name}"),
            Delivery::File(name) => format!("file {name}"),
            Delivery::Inject { hosts, .. } => format!("inject {}", hosts.join(" ")),
        });
    }
}

/// One that nobody gets: the tenant's file does not name it.
fn orphan(id: &TenantId, fact: &Fact, own: &str) -> CredentialLine {
    let account = Account { name: fact.name.clone(), user: fact.user.clone() };
    let whose = fact.user.as_deref().filter(|user| *user != own);
    let of = whose.map(|user| format!(" --of {user}")).unwrap_or_default();
    let cure = Some(format!("tenantd credential remove {id} {}{of}", fact.name));
    CredentialLine { named: false, cure, ..line(id, &account, Some(fact)) }
}
