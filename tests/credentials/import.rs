//! `tenantd credential import`: what is in plaintext files gets into the store and out of them, and nothing else
//! in them changes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Home, tenantd};
use crate::world::{
    AtTerminal, assert_nowhere, credential, done, home, listed, owned, printed, tenant_with,
};

/// Every planted value holds this, and nothing else does.
const MARK: &str = "pl4nted";

/// A home whose tenant has these credentials, each as a variable.
fn acme(credentials: &[(&str, &str)]) -> Home {
    let home = home();
    let all: String = credentials.iter().map(|(name, env)| credential(name, env)).collect();
    home.tenant("acme", &tenant_with(&all));
    home
}

/// A file to be imported, beside the home's own.
fn plaintext(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.directory("plain").join(name);
    owned(&path, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    path
}

/// Imports a file; nothing that is printed holds a planted value.
fn import(home: &Home, file: &Path, more: &[&str]) -> (String, Option<i32>) {
    let file = file.to_str().expect("UTF-8");
    let line: Vec<_> = ["credential", "import", file, "acme"].iter().chain(more).copied().collect();
    let output = home.run(&line);
    let said = printed(&output);
    assert!(!said.contains(MARK), "{said}");
    (said, output.status.code())
}

fn backup_of(file: &Path) -> PathBuf {
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    file.with_file_name(format!("{name}.before-tenantd"))
}

fn is_set(home: &Home, name: &str) -> bool {
    listed(home, name).is_some_and(|line| line["set"] == true && line["source"] == "import")
}

/// A server's environment as its own process has it, for one variable.
fn value_of(home: &Home, variable: &str) -> String {
    done(&home.run(&["call", "acme", "echo", r#"{"text":"x"}"#]));
    let pid = home.server("acme").pid;
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("root reads it");
    let prefix = format!("{variable}=");
    let texts = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let found = texts.filter_map(|text| text.strip_prefix(&prefix).map(str::to_owned)).next();
    found.unwrap_or_else(|| panic!("no {variable}"))
}

#[test]
fn a_dotenv_file_is_taken_with_quotes_exports_and_lines() {
    let home =
        acme(&[("api-token", "API_TOKEN"), ("db", "DB_PASSWORD"), ("pem", "SIGN_PRIVATE_KEY")]);
    let before = "# ours\nLOG=debug # TOKEN\nexport API_TOKEN = \"a \\\"pl4nted\\\" one\"   # old\n\
                  DB_PASSWORD='pl4nted # $x'\nSIGN_PRIVATE_KEY=\"-----BEGIN\npl4nted\n-----END\"\n\
                  REF_TOKEN=${API_TOKEN}\n\nLAST=1";
    let file = plaintext(&home, ".env", before);
    let supervisor = home.start();
    let (said, code) = import(&home, &file, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("variable DB_PASSWORD -> credential db of acme"), "{said}");
    let after = fs::read_to_string(&file).expect("read");
    let wanted = "# ours\nLOG=debug # TOKEN\n# API_TOKEN is the credential api-token of acme, in tenantd   # old\n\
                  # DB_PASSWORD is the credential db of acme, in tenantd\n\
                  # SIGN_PRIVATE_KEY is the credential pem of acme, in tenantd\n\
                  REF_TOKEN=${API_TOKEN}\n\nLAST=1";
    assert_eq!(after, wanted);
    let (file, backup) = (file.metadata().expect("there"), backup_of(&file));
    assert_eq!(file.permissions().mode() & 0o777, 0o640);
    let kept = backup.metadata().expect("there");
    assert_eq!((kept.permissions().mode() & 0o777, kept.uid()), (0o600, file.uid()));
    assert_eq!(fs::read_to_string(&backup).expect("read"), before);
    assert_eq!(value_of(&home, "API_TOKEN"), "a \"pl4nted\" one");
    assert_eq!(value_of(&home, "DB_PASSWORD"), "pl4nted # $x");
    assert_eq!(value_of(&home, "SIGN_PRIVATE_KEY"), "-----BEGIN\npl4nted\n-----END");
    supervisor.stop();
    fs::remove_file(backup).expect("removed");
    assert_nowhere(home.path(), MARK);
}

/// A client's configuration with one server, comments where the client allows them.
fn client(key: &str, comments: bool, kind: &str) -> String {
    let note = |text: &str| if comments { format!(" // {text} \"pl\"") } else { String::new() };
    format!(
        "{{{}\n\t\"other\": [1.50, 1e3, \"\\u00e9\"],\n  \"{key}\": {{\n    \"main\": {{{kind}\n      \
         \"command\": \"npx\",\n      \"args\": [\"-y\", \"server\"],{}\n      \"env\": {{\n        \
         \"GITHUB_TOKEN\": \"ghp_pl4nted\\u0021\",\n        \"LEVEL\": \"1\"\n      }}\n    }},\n    \
         \"plain\": {{ \"command\": \"x\" }}\n  }}\n}}\n",
        note("ours"),
        note("theirs"),
    )
}

#[test]
fn each_clients_entry_becomes_the_connection_and_the_rest_stays_byte_for_byte() {
    let home = acme(&[("github", "GITHUB_TOKEN")]);
    let supervisor = home.start();
    let stdio = "\n      \"type\": \"stdio\",";
    for (name, key, comments, kind) in [
        ("claude_desktop_config.json", "mcpServers", false, ""),
        (".mcp.json", "mcpServers", false, stdio),
        ("cursor.json", "mcpServers", true, ""),
        ("mcp.json", "servers", true, stdio),
        ("settings.json", "context_servers", true, ""),
    ] {
        let before = client(key, comments, kind);
        let file = plaintext(&home, name, &before);
        let (said, code) = import(&home, &file, &["--yes"]);
        assert_eq!(code, Some(0), "{name}: {said}");
        assert!(
            said.contains("main: variable GITHUB_TOKEN -> credential github of acme"),
            "{said}"
        );
        let after = fs::read_to_string(&file).expect("read");
        let from = before.find("\"main\": ").expect("there") + "\"main\": ".len();
        let to = before.find(",\n    \"plain\"").expect("there");
        let (head, tail) = (&before[..from], &before[to..]);
        assert!(after.starts_with(head) && after.ends_with(tail), "{name}: {after}");
        let entry: Value =
            serde_json::from_str(&after[from..after.len() - tail.len()]).expect("JSON");
        assert_eq!(entry["command"], tenantd().to_str().expect("UTF-8"), "{name}");
        assert_eq!(entry["args"], serde_json::json!(["connect", "acme/main"]), "{name}");
        assert_eq!(entry["type"], if kind.is_empty() { Value::Null } else { "stdio".into() });
        assert!(entry["env"].is_null(), "{name}");
        assert_eq!(fs::read_to_string(backup_of(&file)).expect("read"), before);
    }
    assert!(is_set(&home, "github"));
    assert_eq!(value_of(&home, "GITHUB_TOKEN"), "ghp_pl4nted!");
    supervisor.stop();
}

#[test]
fn what_the_tenant_has_no_name_for_stays_and_its_lines_are_said() {
    let home = acme(&[("known", "KNOWN_TOKEN")]);
    let before = r#"{"mcpServers": {"hub": {"command": "x", "args": ["--api-key", "pl4nted-2"],
        "env": {"KNOWN_TOKEN": "pl4nted-1", "NEW_SECRET": "pl4nted-3"}}}}"#;
    let file = plaintext(&home, "mcp.json", before);
    let supervisor = home.start();
    let (said, code) = import(&home, &file, &["--yes"]);
    assert_eq!(code, Some(78), "{said}");
    for lines in
        ["name = \"new-secret\"\nenv = \"NEW_SECRET\"", "name = \"api-key\"\nenv = \"API_KEY\""]
    {
        assert!(said.contains(lines), "{said}");
    }
    let after = fs::read_to_string(&file).expect("read");
    // Its server still starts with what is left, so that its entry stays.
    let note = "\"(in tenantd: credential known of acme)\"";
    assert_eq!(after, before.replace("\"pl4nted-1\"", note));
    assert!(is_set(&home, "known"));
    // With those lines it goes all the way.
    let lines = said.split("[[credential]]").skip(1).map(|part| {
        let lines: Vec<_> = part.lines().filter(|line| line.contains(" = ")).collect();
        format!("[[credential]]\n{}\n", lines.join("\n"))
    });
    let lines: String = lines.collect();
    home.tenant("acme", &tenant_with(&format!("{}{lines}", credential("known", "KNOWN_TOKEN"))));
    done(&home.run(&["reload"]));
    let (said, code) = import(&home, &file, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(is_set(&home, "api-key") && is_set(&home, "new-secret"));
    assert!(!fs::read_to_string(&file).expect("read").contains(MARK));
    assert!(file.with_file_name("mcp.json.before-tenantd.1").exists(), "two copies: {said}");
    supervisor.stop();
}

#[test]
fn nothing_is_stored_or_changed_unless_somebody_agrees() {
    let home = acme(&[("token", "TOKEN")]);
    let before = "TOKEN=pl4nted\n";
    let file = plaintext(&home, "x.env", before);
    let supervisor = home.start();
    let (said, code) = import(&home, &file, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing was stored"), "{said}");
    let path = file.to_str().expect("UTF-8");
    for answers in [&["n"][..], &["y", "n"]] {
        let mut terminal = AtTerminal::start(home.command(&["credential", "import", path, "acme"]));
        let questions = ["store 1 secret of acme? [y/N] ", "take 1 secret out of"];
        for (answer, question) in answers.iter().zip(questions) {
            terminal.until(question);
            terminal.types(&format!("{answer}\n"));
        }
        assert!(terminal.end().success(), "{}", terminal.shown);
        assert!(!terminal.shown.contains(MARK), "{}", terminal.shown);
        assert_eq!(is_set(&home, "token"), answers.len() == 2);
        assert_eq!(fs::read_to_string(&file).expect("read"), before);
    }
    let (said, _) = import(&home, &file, &["--yes", "--keep"]);
    assert!(said.contains("still holds them"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("read"), before);
    assert!(!backup_of(&file).exists());
    supervisor.stop();
}

#[test]
fn a_file_that_cannot_be_replaced_is_left_as_it_was() {
    let home = acme(&[("token", "TOKEN")]);
    let before = "TOKEN=pl4nted\n";
    let file = plaintext(&home, "x.env", before);
    let supervisor = home.start();
    // A place of its own for what is written first, taken by others.
    for number in 0..100 {
        let ending = if number == 0 { String::new() } else { format!(".{number}") };
        owned(&file.with_file_name(format!("x.env.before-tenantd{ending}")), "taken");
    }
    let (said, code) = import(&home, &file, &["--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("left alone"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("read"), before);
    let left = fs::read_dir(file.parent().expect("a directory")).expect("read").count();
    assert_eq!(left, 101, "nothing lies beside it");
    supervisor.stop();
}

#[test]
fn what_cannot_be_read_is_known_by_its_line_and_not_quoted() {
    let home = acme(&[("token", "TOKEN")]);
    for (name, text, wanted) in [
        ("a.json", "{\n \"mcpServers\": pl4nted }", "a.json:2: this is not JSON"),
        ("b.env", "A=1\nTOKEN=\"pl4nted\n", "b.env:2: a quotation does not end"),
    ] {
        let file = plaintext(&home, name, text);
        let (said, code) = import(&home, &file, &["--yes"]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(wanted), "{said}");
    }
    let file = home.directory("plain").join("c.env");
    fs::write(&file, b"TOKEN=pl4nted\xff\n").expect("written");
    crate::support::own(&file);
    let (said, code) = import(&home, &file, &["--yes"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let home = acme(&[("token", "TOKEN")]);
    let file = plaintext(&home, "real.env", "TOKEN=pl4nted\n");
    let link = home.path().join("plain/link.env");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let supervisor = home.start();
    let (said, code) = import(&home, &link, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(link.symlink_metadata().expect("there").file_type().is_symlink());
    assert!(!fs::read_to_string(&file).expect("read").contains(MARK));
    supervisor.stop();
}

#[test]
fn whatever_ends_it_the_file_is_the_old_one_or_the_new_one() {
    let home = acme(&[("token", "TOKEN")]);
    let before = format!("TOKEN=pl4nted\n# {}\n", "x".repeat(256 * 1024));
    let after =
        before.replace("TOKEN=pl4nted", "# TOKEN is the credential token of acme, in tenantd");
    let supervisor = home.start();
    let mut ends = [0, 0];
    for round in 0..24 {
        let file = plaintext(&home, &format!("{round}.env"), &before);
        let path = file.to_str().expect("UTF-8");
        let mut command = home.command(&["credential", "import", path, "acme", "--yes"]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("started");
        // When it is hit is what is tried out.
        std::thread::sleep(Duration::from_millis(round * 7));
        let _ = child.kill();
        child.wait().expect("ended");
        let now = fs::read_to_string(&file).expect("it is there");
        assert!(now == before || now == after, "torn: {} bytes", now.len());
        ends[usize::from(now == after)] += 1;
    }
    let file = plaintext(&home, "whole.env", &before);
    assert_eq!(import(&home, &file, &["--yes"]).1, Some(0));
    assert!(fs::read_to_string(&file).expect("read") == after);
    assert!(ends[0] > 0, "none was hit early: {ends:?}");
    supervisor.stop();
}
