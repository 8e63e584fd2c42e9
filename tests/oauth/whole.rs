//! The whole way: a person logs in with the real command, a server uses the token for longer than it lives, and
//! the person logs out again.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::provider::{Person, Provider, granted};
use crate::support::{Authority, Era, Home, Session, own, puppet_tenant, said};

/// How long a person and a browser need at most.
const PERSON: Duration = Duration::from_secs(60);

/// A home with an encrypted store and a tenant whose server has the token in a file, or elsewhere.
fn home(provider: &Provider, delivery: &str, client: &str) -> Home {
    let home = Home::new();
    home.settings("[credentials]\nstore = \"encrypted-file\"\n");
    let init = home.run(&["credential", "init", "--user"]);
    assert!(init.status.success(), "{init:?}");
    let login = format!(
        "[[credential]]\nname = \"tracker\"\n{delivery}\n[oauth.tracker]\nissuer = {:?}\n{client}\n\
         scopes = [\"openid\", \"offline_access\"]\n",
        provider.issuer
    );
    let network =
        if delivery.starts_with("inject") { "network = [\"localhost:443\"]\n" } else { "" };
    home.tenant("acme", &format!("{}{network}{login}", puppet_tenant(&[], "")));
    home
}

const BY_HAND: &str = "client_id = \"by-hand\"";

/// `tenantd login`, while the person does what it says.
struct Login {
    child: Child,
    words: BufReader<std::process::ChildStderr>,
}

impl Login {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut line = vec!["login", "acme", "tracker"];
        line.extend(arguments);
        let mut command = home.command(&line);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let words = BufReader::new(child.stderr.take().expect("its words"));
        Self { child, words }
    }

    /// The next line that begins like this, without what is around it.
    fn next(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.words.read_line(&mut line).expect("its words");
            assert!(read > 0, "it said: {all}");
            if wanted(line.trim()) {
                return line.trim().to_owned();
            }
            all.push_str(&line);
        }
    }

    /// Its exit code, and all that it said at the end.
    fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.words.read_to_string(&mut rest).expect("its words");
        let mut stdout = self.child.stdout.take().expect("its answer");
        stdout.read_to_string(&mut rest).expect("its answer");
        let status = self.child.wait().expect("an end");
        (status.code().expect("a code"), rest)
    }
}

/// Logs in through a browser.
fn log_in(home: &Home, person: &mut Person) {
    let mut login = Login::start(home, &["--no-browser"]);
    person.open(&login.next(|line| line.starts_with("http")));
    let (code, words) = login.end();
    assert_eq!(code, 0, "{words}");
    assert!(
        words.contains("acme is logged in to tracker; the token is renewed by itself"),
        "{words}"
    );
    assert!(person.sees().contains("You can close this window"));
}

/// The token as the server finds it now.
fn token(session: &mut Session) -> String {
    let read = json!({ "program": ["/bin/sh", "-c", "cat \"$CREDENTIALS_DIRECTORY/token\""], "input": "" });
    let answer = session.call("run", read);
    let answer: serde_json::Value = serde_json::from_str(said(&answer)).expect("an answer");
    answer["stdout"].as_str().filter(|token| !token.is_empty()).expect("a token").to_owned()
}

#[test]
fn a_server_works_on_past_the_life_of_its_token_until_the_person_logs_out() {
    let settings = json!({ "accessToken": 16 });
    let (Some(provider), Some(mut person)) = (Provider::start(&settings), Person::new()) else {
        return;
    };
    let home = home(&provider, "file = \"token\"", BY_HAND);
    let supervisor = home.start();
    log_in(&home, &mut person);
    let mut session = home.connect("acme");
    session.open(Era::Legacy);
    let server = home.server("acme");
    let mut tokens = vec![token(&mut session)];
    // Without optimisation a store takes seconds to open.
    let until = Instant::now() + 3 * PERSON;
    while tokens.len() < 4 {
        assert!(Instant::now() < until, "{} tokens", tokens.len());
        let now = token(&mut session);
        if tokens.last() != Some(&now) {
            tokens.push(now);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(home.server("acme").pid, server.pid, "it was never started anew");
    let listed = home.run(&["credential", "list", "acme"]);
    let listed = String::from_utf8(listed.stdout).expect("text");
    assert!(listed.contains("login") && listed.contains("in "), "{listed}");
    let out = home.run(&["logout", "acme", "tracker"]);
    let words = String::from_utf8(out.stdout).expect("text");
    assert!(out.status.success() && words.contains("its server was told"), "{words}");
    let again = home.run(&["logout", "acme", "tracker"]);
    assert!(String::from_utf8(again.stdout).expect("text").contains("nobody was logged in"));
    drop(session);
    let log = supervisor.log();
    assert!(tokens.iter().all(|token| !log.contains(token.as_str())), "no token is in the log");
    supervisor.stop();
    let events = provider.end();
    assert!(granted(&events, "refresh_token") >= 3, "{events:?}");
    assert!(events.iter().any(|line| line["revoked"] == "grant"), "{events:?}");
}

/// What the host answers to a request under the login.
fn call(session: &mut Session) -> String {
    let request = "exec 3<>/dev/tcp/tracker.tenantd.internal/80 && printf 'GET /user HTTP/1.1\\r\\nHost: \
                   tracker.tenantd.internal\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3";
    let answer =
        session.call("run", json!({ "program": ["/bin/bash", "-c", request], "input": "" }));
    let answer: serde_json::Value = serde_json::from_str(said(&answer)).expect("an answer");
    answer["stdout"].as_str().expect("text").to_owned()
}

#[test]
fn a_server_that_holds_no_secret_calls_its_host_without_a_gap_while_its_token_is_rotated() {
    // It is renewed at the latest five seconds before its end, and a machine may be slow.
    const LIFE: Duration = Duration::from_secs(40);
    let settings = json!({ "accessToken": LIFE.as_secs() });
    let (Some(provider), Some(mut person)) = (Provider::start(&settings), Person::new()) else {
        return;
    };
    // Injection is for port 443, which only root may listen on.
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can listen on port 443");
        return;
    }
    let authority = Authority::make();
    let host = authority.host_at("localhost", "h2", "127.0.0.1:443", Command::new("env"));
    let Some(host) = host else { return };
    let inject = "inject = { hosts = [\"localhost\"] }";
    let home = home(&provider, inject, BY_HAND);
    let pem = home.path().join("house.pem");
    std::fs::copy(authority.bundle(), &pem).expect("copied");
    own(&pem);
    home.settings(&format!(
        "[credentials]\nstore = \"encrypted-file\"\n[egress]\nca_file = {pem:?}\n"
    ));
    let supervisor = home.start();
    log_in(&home, &mut person);
    let mut session = home.connect("acme");
    session.open(Era::Legacy);
    let server = home.server("acme");
    let mut tokens: Vec<(String, Instant)> = Vec::new();
    let until = Instant::now() + 3 * PERSON;
    while tokens.len() < 4 {
        assert!(Instant::now() < until, "{} tokens", tokens.len());
        let answer = call(&mut session);
        assert!(answer.starts_with("HTTP/1.1 200"), "a gap after {}: {answer}", tokens.len());
        let saw = host.next("saw");
        let token = saw["headers"]["authorization"].as_str().expect("text");
        let token = token.strip_prefix("Bearer ").expect("a token").to_owned();
        match tokens.last() {
            Some((last, since)) if *last == token => {
                assert!(since.elapsed() < LIFE, "it is used longer than it lives");
            }
            _ => tokens.push((token, Instant::now())),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(home.server("acme").pid, server.pid, "it was never started anew");
    // The environment of every process that the server sees, and what it may read beside it.
    let look = "cat /proc/[0-9]*/environ; cat -- $(find \"$HOME\" \"$TENANTD_DATA_DIR\" /tmp /run /etc -type f); true";
    let run = json!({ "program": ["/bin/sh", "-c", look], "input": "" });
    let held = session.call("run", run).to_string();
    assert!(held.contains("TENANTD_TENANT"), "it did not look: {held}");
    let all: Vec<_> = tokens.iter().map(|(token, _)| token.as_str()).collect();
    assert!(all.iter().all(|token| !held.contains(token)), "the server holds a token");
    drop(session);
    let log = supervisor.log();
    assert!(all.iter().all(|token| !log.contains(token)), "no token is in the log");
    supervisor.stop();
    let events = provider.end();
    assert!(granted(&events, "refresh_token") >= 3, "{events:?}");
    for token in all {
        let found = Command::new("grep").args(["-rlF", token]).arg(home.path()).output();
        assert!(found.expect("grep").stdout.is_empty(), "a token was written down");
    }
}

#[test]
fn a_machine_without_a_display_logs_in_by_a_code_and_registers_itself_once() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let home = home(&provider, "env = \"TOKEN\"", "");
    let supervisor = home.start();
    for _ in 0..2 {
        let mut login = Login::start(&home, &[]);
        let page = login.next(|line| line.starts_with("http"));
        let is_code = |line: &str| line.len() == 9 && line.as_bytes().get(4) == Some(&b'-');
        let code = login.next(is_code);
        person.confirm(&page, &code);
        let (code, words) = login.end();
        assert_eq!(code, 0, "{words}");
        person.sees();
    }
    let mut session = home.connect("acme");
    session.open(Era::Legacy);
    let environment = session.call("environment", json!({}));
    assert!(said(&environment).contains("\"TOKEN\""), "{environment}");
    drop(session);
    supervisor.stop();
    let events = provider.end();
    assert_eq!(
        events.iter().filter(|line| line["registered"].is_string()).count(),
        1,
        "{events:?}"
    );
}

#[test]
fn a_server_without_a_login_says_how_to_log_in() {
    let Some(provider) = Provider::start(&json!({})) else { return };
    let home = home(&provider, "file = \"token\"", BY_HAND);
    let supervisor = home.start();
    let mut session = home.connect("acme");
    session.open(Era::Legacy);
    let status = session.call("tenantd_status", json!({}));
    assert!(said(&status).contains("tenantd login acme tracker"), "{status}");
    drop(session);
    supervisor.stop();
}

#[test]
fn a_person_who_says_no_and_a_name_that_is_no_login_end_the_command_with_the_reason() {
    let (Some(provider), Some(mut person)) = (Provider::start(&json!({})), Person::new()) else {
        return;
    };
    let home = home(&provider, "file = \"token\"", BY_HAND);
    let supervisor = home.start();
    let mut login = Login::start(&home, &["--no-browser"]);
    person.refuse(&login.next(|line| line.starts_with("http")));
    let (code, words) = login.end();
    assert_eq!(code, 1, "{words}");
    assert!(
        words.contains("the login did not succeed") && words.contains("access_denied"),
        "{words}"
    );
    person.sees();
    let (code, words) = Login::start(&home, &["--bad"]).end();
    assert_eq!(code, 64, "{words}");
    let unknown = home.run(&["login", "acme", "nothing"]);
    assert_eq!(unknown.status.code(), Some(78), "{unknown:?}");
    supervisor.stop();
}
