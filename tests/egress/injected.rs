//! A server that calls its host under a credential, from the configuration to the host, and holds nothing.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Authority, Home, Session, Upstream, own, wait_until};
use crate::world::{World, logged, python, tool};

const FIRST: &str = "tok_f1rst/of+all=Acme";
const SECOND: &str = "tok_s3cond-of-all-Acme";
const URL: &str = "http://acme-api.tenantd.internal/user";

/// A tenant whose server may call the host under the credential; secrets are kept in encrypted files.
fn prepare(home: &Home, authority: &Authority) {
    let pem = home.path().join("house.pem");
    fs::copy(authority.bundle(), &pem).expect("copied");
    own(&pem);
    home.settings(&format!(
        "[credentials]\nstore = \"encrypted-file\"\n[egress]\nca_file = {pem:?}\n"
    ));
    home.directory("state");
    let key = home.path().join("state/tenantd.key");
    fs::write(&key, [7; 32]).expect("written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("chmod");
    own(&key);
    let credential =
        "[[credential]]\nname = \"acme.API\"\ninject = { hosts = [\"api.acme.lan\"] }\n";
    let network = r#"["api.acme.lan:443", "db.acme.lan:5432"]"#;
    home.tenant("acme", &format!("{}{credential}", python(network)));
}

fn set(home: &Home, value: &str) {
    let mut command = home.command(&["credential", "set", "acme", "acme.API"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(value.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn ask(session: &mut Session, url: &str) -> Value {
    tool(session, "request", json!({"url": url}))
}

fn authorization(host: &Upstream) -> String {
    host.next("saw")["headers"]["authorization"].as_str().expect("text").to_owned()
}

#[test]
fn a_server_calls_its_host_with_a_token_that_it_never_holds() {
    let Some(world) = World::make() else { return };
    let authority = Authority::make();
    let at = "127.0.0.1:443";
    let mut inside = Command::new("env");
    inside.args(world.entering());
    let Some(mut host) = authority.host_at("api.acme.lan", "h2", at, inside) else { return };
    let home = Home::new();
    prepare(&home, &authority);
    let supervisor = world.start(&home);
    let mut session = supervisor.connect("acme");
    session.initialize(json!({}));
    let status = session.call("tenantd_status", json!({})).to_string();
    assert!(status.contains("tenantd credential set acme acme.API"), "{status}");
    set(&home, FIRST);
    session.recv_method("notifications/tools/list_changed");
    let heard = ask(&mut session, URL);
    assert_eq!(heard["status"], 200, "{heard}");
    assert_eq!(authorization(&host), format!("Bearer {FIRST}"));
    let to = json!({"before": &FIRST[..8], "after": &FIRST[8..]});
    let found = tool(&mut session, "find", to);
    assert!(found["looked"].as_u64() > Some(50), "{found}");
    assert_eq!(found["places"], json!([]), "{found}");
    // What it does hold is found.
    let to = json!({"before": &URL[..12], "after": &URL[12..]});
    let found = tool(&mut session, "find", to);
    assert_ne!(found["places"], json!([]), "{found}");
    // Another value counts at once, with the server that is there.
    let environment = tool(&mut session, "environment", json!({}));
    assert!(!environment.to_string().contains(FIRST), "{environment}");
    set(&home, SECOND);
    wait_until("the next value counts", || {
        assert_eq!(ask(&mut session, URL)["status"], 200);
        authorization(&host) == format!("Bearer {SECOND}")
    });
    // The host takes it no longer: the store has no other.
    host.accept(FIRST);
    let heard = ask(&mut session, URL);
    assert_eq!(heard["status"], 401, "{heard}");
    assert!(heard["heard"].as_str().is_some_and(|text| text.contains("\"credential\"")), "{heard}");
    set(&home, FIRST);
    wait_until("it is taken again", || ask(&mut session, URL)["status"] == 200);
    logged(
        &home,
        "acme",
        &["main allowed", "credential=acme.API host=api.acme.lan", "status=200"],
        2,
    );
    // By its own name the host is reached as ever, without the credential.
    let heard = tool(&mut session, "resolve", json!({"host": "api.acme.lan"}));
    assert_ne!(heard["addresses"], json!(["127.0.0.1"]), "{heard}");
    session.close();
    supervisor.stop();
    for secret in [FIRST, SECOND] {
        let found = Command::new("grep").args(["-rlF", secret]).arg(home.path()).output();
        assert!(found.expect("grep").stdout.is_empty(), "{secret} was written down");
    }
}
