//! `login` and `logout`: a person logs in at an authorization server, and out again.
//!
//! This process, which is the person's own, talks to the server; what comes of it goes sealed through the
//! session door, as any other secret, and is written nowhere else. It leaves no core.

mod clients;

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::args::login::{Login, Logout};
use super::connect::keep::Keeping;
use super::credential;
use super::failure::{CONFIG, DONE, FAILED, Failure};
use super::{print, rooms};
use crate::control::LoginReply;
use crate::credential::oauth::{
    Attempt, Callback, Client, Codes, Document, Granted, OauthError, Registration, Server,
    exchange, register, revoke,
};
use crate::post;
use crate::sys;
use crate::wire::credential::{LoginPlan, Source};
use clients::Clients;

/// How long a person has for the pages of the server.
const PERSON: Duration = Duration::from_secs(5 * 60);
/// The longest secret of a client, bytes.
const CLIENT_SECRET_MAX: usize = 1024;

/// `tenantd login`
pub(super) fn run(args: &Login) -> anyhow::Result<u8> {
    // What is in memory from here on is in no core file and in no debugger of this user's.
    sys::become_undumpable().context("cannot protect the memory of this process")?;
    let Login { tenant, name, which, .. } = args;
    let reply = credential::ask(*which, |control| control.login(tenant.as_str(), name))?;
    let plan = plan(&reply);
    let secret = if reply.client_secret { Some(client_secret(&plan)?) } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(plan.ca_file.as_deref());
    let mut clients = Clients::open();
    let document = runtime.block_on(log_in(args, &plan, &client, secret, &mut clients));
    let document = document.map_err(|error| failed(&plan, &mut clients, &error))?;
    let sealed = post::seal_secret(&document.to_bytes()).context("cannot seal the login")?;
    let keeping = Keeping { tenant, name, source: Source::Login, rotate: false };
    let kept = match rooms::keep(*which, keeping, sealed.as_fd()) {
        Ok(kept) => kept,
        Err(failure) => {
            // Nobody has these tokens now: nobody shall be able to use them.
            let _ = runtime.block_on(revoke(&client, &document));
            return Err(failure.into());
        }
    };
    writeln!(io::stdout(), "{}", said(args, kept.user.as_deref(), &document))?;
    Ok(DONE)
}

/// `tenantd logout`
pub(super) fn out(args: &Logout) -> anyhow::Result<u8> {
    let Logout { tenant, name, which } = args;
    let reply = credential::ask(*which, |control| control.logout(tenant.as_str(), name))?;
    let mut stdout = io::stdout();
    let name = print::word(name);
    match (reply.was, reply.problem) {
        (false, _) => writeln!(stdout, "nobody was logged in to {name} of {tenant}")?,
        (true, None) => {
            writeln!(stdout, "logged out of {name} of {tenant}, and its server was told")?
        }
        (true, Some(why)) => {
            let why = print::cut(&why, 300);
            writeln!(
                stdout,
                "logged out of {name} of {tenant}, but its server does not know: {why} (end the login on its own pages)"
            )?;
            return Ok(FAILED);
        }
    }
    Ok(DONE)
}

fn plan(reply: &LoginReply) -> LoginPlan {
    let endpoints = reply.endpoints.iter().map(|one| (one.name.clone(), one.url.clone()));
    LoginPlan {
        issuer: reply.issuer.clone(),
        endpoints: endpoints.collect(),
        client_id: reply.client_id.clone(),
        scopes: reply.scopes.clone(),
        resource: reply.resource.clone(),
        ca_file: reply.ca_file.clone().map(Into::into),
    }
}

/// The secret of the client that is registered by hand.
fn client_secret(plan: &LoginPlan) -> anyhow::Result<Zeroizing<String>> {
    let id = print::word(plan.client_id.as_deref().unwrap_or_default());
    let bytes = credential::secret(&format!("the secret of the client {id}"))?;
    let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= CLIENT_SECRET_MAX);
    let text = text.ok_or_else(|| Failure::usage("that is not the secret of a client"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

async fn log_in(
    args: &Login,
    plan: &LoginPlan,
    client: &Client,
    secret: Option<Zeroizing<String>>,
    clients: &mut Clients,
) -> Result<Document, OauthError> {
    let server = Server::discover(client, plan).await?;
    let callback = Callback::bind().await?;
    let registration = match (&plan.client_id, clients.of(plan)) {
        (Some(id), _) => by_hand(&server, id, secret)?,
        (None, Some(id)) => Registration::new(&server, &id, None),
        (None, None) => {
            let registration = register(client, &server, plan, &callback.uri()).await?;
            clients.keep(plan, &registration);
            registration
        }
    };
    let granted = if by_device(args, &server) {
        with_code(plan, client, &server, &registration).await?
    } else {
        let open = !args.no_browser && has_display();
        with_browser(plan, client, &server, &registration, (callback, open)).await?
    };
    Ok(Document::new(&server, plan, registration, granted))
}

fn by_hand(
    server: &Server,
    id: &str,
    secret: Option<Zeroizing<String>>,
) -> Result<Registration, OauthError> {
    // An id that is an address is that of a document, which only some servers read.
    if id.starts_with("https://") && server.issuer.is_some() && !server.reads_client_documents {
        let what = "client_id is the address of a metadata document, and the server reads none";
        return Err(OauthError::Setup(what.to_owned()));
    }
    Ok(Registration::new(server, id, secret))
}

fn has_display() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("WAYLAND_DISPLAY") || set("DISPLAY")
}

fn by_device(args: &Login, server: &Server) -> bool {
    let no_way = server.authorization_endpoint.is_none();
    let offered = server.device_authorization_endpoint.is_some();
    args.device || no_way || (offered && !args.no_browser && !has_display())
}

async fn with_browser(
    plan: &LoginPlan,
    client: &Client,
    server: &Server,
    registration: &Registration,
    (callback, open): (Callback, bool),
) -> Result<Granted, OauthError> {
    let attempt = Arc::new(Attempt::new(server, plan, registration, callback.uri())?);
    if open && open_browser(attempt.url()) {
        say(&format!(
            "A browser was opened to log in. If none appears, open:\n\n{}\n",
            attempt.url()
        ));
    } else {
        say(&format!(
            "Open this page in a browser on this machine to log in:\n\n{}\n",
            attempt.url()
        ));
    }
    let code = callback.wait(Arc::clone(&attempt), PERSON).await?;
    let (verifier, redirect) = attempt.proof();
    let resource = plan.resource.as_deref();
    exchange(client, server, registration, (&code, verifier, redirect), resource).await
}

/// Whether the desktop was asked. The address goes by argument and through no shell.
fn open_browser(url: &str) -> bool {
    let mut command = Command::new("xdg-open");
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}

async fn with_code(
    plan: &LoginPlan,
    client: &Client,
    server: &Server,
    registration: &Registration,
) -> Result<Granted, OauthError> {
    let codes = Codes::begin(client, server, plan, registration).await?;
    say(&format!("Open this page in any browser:\n\n{}\n", codes.verification_uri));
    say(&format!("and confirm this code there:\n\n    {}\n", codes.user_code));
    if let Some(whole) = &codes.verification_uri_complete {
        say(&format!("or open the page with the code in it:\n\n{whole}\n"));
    }
    codes.wait(client, server, registration).await
}

/// What a person has to do meanwhile; stdout is for what came of it.
fn say(words: &str) {
    let mut stderr = io::stderr();
    // With stderr closed there is nobody who could do it: the time limit ends it.
    let _ = writeln!(stderr, "{words}");
    let _ = stderr.flush();
}

fn failed(plan: &LoginPlan, clients: &mut Clients, error: &OauthError) -> Failure {
    // Perhaps the server has forgotten the client: the next login registers another.
    clients.forget(plan);
    let said = print::cut(&error.to_string(), 600);
    match error {
        OauthError::Unreachable(_) => Failure::unavailable(said),
        OauthError::Setup(_) => Failure::new(CONFIG, said),
        OauthError::Refused { .. } | OauthError::Garbled(_) | OauthError::TimedOut => {
            Failure::new(FAILED, format!("the login did not succeed: {said}"))
        }
    }
}

fn said(args: &Login, user: Option<&str>, document: &Document) -> String {
    let (tenant, name) = (&args.tenant, &args.name);
    let whose = match user {
        Some(user) => format!("{} is logged in to {name} of {tenant}", print::word(user)),
        None => format!("{tenant} is logged in to {name}"),
    };
    match (&document.refresh_token, document.expires_at) {
        (Some(_), _) => format!("{whose}; the token is renewed by itself"),
        (None, None) => format!("{whose}; the token has no end that its server tells of"),
        (None, Some(at)) => {
            let left = print::age(at.saturating_sub(print::now()));
            format!(
                "{whose} for {left}: the server gave nothing to renew it with (many want the scope \"offline_access\")"
            )
        }
    }
}
