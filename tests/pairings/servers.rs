//! The servers: how each is started, what it finds, and what it alone can say.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::proof::Proof;
use crate::support::{Era, Packages, Setup, SideBySide, as_test_user, own, tenantd};
use crate::table::Capability::{self, Prompts, Resources, Tools};
use crate::table::{Client, Server};

/// The root that every client has.
const ROOT: &str = "file:///srv/pairings";

/// The resource of the memory server.
const GRAPH: &str = "memory://knowledge-graph";

/// The variable of a tenant in which its server is given its nonce.
const NONCE: &str = "PAIRING_NONCE";

impl Server {
    /// How it is started for this client.
    pub(crate) fn setup(self, packages: &Packages, client: Client) -> Setup {
        let command = match self {
            Self::Everything => packages.npm_server("everything", &["stdio"]),
            Self::Filesystem => packages.npm_server("filesystem", &["{data}/work"]),
            Self::Memory => packages.npm_server("memory", &[]),
            Self::Git => packages.python_server("mcp-server-git", &["--repository", "{data}/work"]),
            Self::Time => packages.python_server("mcp-server-time", &[]),
            Self::Typescript => packages.typescript_server(),
            Self::Documents => {
                let binary = tenantd().to_str().expect("UTF-8");
                [binary, "builtin", "documents"].map(str::to_owned).into()
            }
        };
        let mut environment = vec![(NONCE, "{nonce}".to_owned())];
        if self == Self::Memory {
            environment.push(("MEMORY_FILE_PATH", "{data}/work/memory.json".to_owned()));
        }
        let mut lines = self.sharing(client).to_owned();
        if self == Self::Git {
            // The hook that holds a call is a program in its repository.
            lines.push_str("\nsandbox = { data_exec = true }");
        }
        Setup { command, environment, lines }
    }

    /// A legacy server knows of its clients what the only one says of itself, or, if it is shared, what
    /// its tenant allows. Where a direct connection is compared it must be the first.
    fn sharing(self, client: Client) -> &'static str {
        match self.era() {
            Era::Modern => "",
            Era::Legacy if client.works_directly_on(self) => r#"share = "session""#,
            Era::Legacy => r#"shared_capabilities = ["elicitation", "sampling", "roots"]"#,
        }
    }

    /// Makes its data directory ready.
    pub(crate) fn prepare(self, stage: &SideBySide) {
        let nonce = stage.nonce();
        let write = |name: &str, text: String| {
            let path = stage.work().join(name);
            std::fs::write(&path, text).expect("written");
            own(&path);
        };
        match self {
            Self::Filesystem => write("a.txt", format!("the file of {nonce}\n")),
            Self::Memory => {
                let entity = json!({"type": "entity", "name": nonce, "entityType": "customer",
                    "observations": ["pays"]});
                write("memory.json", entity.to_string());
            }
            Self::Git => {
                write("a.txt", format!("the file of {nonce}\n"));
                write("b.txt", "for the next commit\n".to_owned());
                repository(&stage.work(), &stage.data("gate"));
            }
            Self::Documents => {
                let path = stage.data("given.md");
                std::fs::write(&path, format!("the file of {nonce}\n")).expect("written");
                own(path.as_ref());
            }
            Self::Everything | Self::Time | Self::Typescript => {}
        }
    }

    /// What a client does with it once it is prepared, and what must come of it. What is cancelled comes
    /// last: how the server ends it is not part of the comparison.
    pub(crate) fn proofs(self, stage: &SideBySide, packages: &Packages) -> Vec<Proof> {
        match self {
            Self::Everything => everything(stage, packages),
            Self::Filesystem => filesystem(stage),
            Self::Memory => memory(stage),
            Self::Git => git(stage),
            Self::Time => time(),
            Self::Typescript => typescript(stage),
            Self::Documents => documents(stage),
        }
    }

    /// What the client answers where this server asks.
    pub(crate) fn answers(self, stage: &SideBySide) -> Value {
        let nonce = stage.nonce();
        json!({"sampling": format!("sampled for {nonce}"), "elicitation": {"name": format!("the asker of {nonce}")}})
    }
}

fn everything(stage: &SideBySide, packages: &Packages) -> Vec<Proof> {
    let nonce = stage.nonce();
    let long = "trigger-long-running-operation";
    let page = packages.npm_file("server-everything/dist/docs/features.md");
    let document = "demo://resource/static/document/features.md";
    let given = format!(r#""{NONCE}": "{nonce}""#);
    let elicited = format!("- Name: the asker of {nonce}");
    vec![
        Proof::list(Tools, "tools").is("/tools/0/name", json!("echo")),
        Proof::call("get-env", json!({})).says(&given),
        // It asks for the roots a while after its handshake, unless it has asked in a call.
        Proof::call("get-roots-list", json!({})).has("/result/content/0/text", ROOT),
        Proof::call("echo", json!({"message": "Ümläut 😀"})).says("Echo: Ümläut 😀"),
        Proof::call("get-sum", json!({"a": 1, "b": 2.5})).says("3.5"),
        Proof::call("get-structured-content", json!({"location": "New York"}))
            .is("/result/structuredContent/temperature", json!(33)),
        Proof::call("get-resource-links", json!({"count": 3}))
            .is("/result/content/1/type", json!("resource_link")),
        Proof::call("get-tiny-image", json!({}))
            .is("/result/content/1/mimeType", json!("image/png")),
        Proof::call("get-annotated-message", json!({"messageType": "error", "includeImage": true}))
            .is("/result/content/0/annotations/priority", json!(1.0)),
        Proof::call("nonesuch", json!({})),
        Proof::list(Resources, "resources"),
        Proof::list(Resources, "templates"),
        Proof::read(document).is("/contents/0/text", json!(page)),
        Proof::list(Prompts, "prompts").is("/prompts/0/name", json!("simple-prompt")),
        Proof::prompt("args-prompt", json!({"city": nonce}))
            .has("/messages/0/content/text", &format!("weather in {nonce}?")),
        Proof::progress(long, json!({"duration": 0.2, "steps": 4}), 4),
        Proof::asks(Capability::Elicitation, "trigger-elicitation-request", json!({}))
            .has("/result/content/1/text", &elicited),
        Proof::asks(
            Capability::Sampling,
            "trigger-sampling-request",
            json!({"prompt": "p", "maxTokens": 5}),
        )
        .says(&format!("sampled for {nonce}")),
        Proof::subscribe(document, "toggle-subscriber-updates", json!({})),
        Proof::call("toggle-subscriber-updates", json!({})),
        Proof::cancel(long, json!({"duration": 1, "steps": 5}), stage.data("told")),
    ]
}

fn filesystem(stage: &SideBySide) -> Vec<Proof> {
    let file = |name: &str| stage.work().join(name);
    let gate = stage.work().join("gate").to_str().expect("UTF-8").to_owned();
    let edit = json!({"oldText": "zwei", "newText": "drei"});
    vec![
        Proof::list(Tools, "tools"),
        Proof::call("read_text_file", json!({"path": file("a.txt")}))
            .says(&format!("the file of {}", stage.nonce())),
        Proof::call("list_allowed_directories", json!({}))
            .says(stage.work().to_str().expect("UTF-8")),
        Proof::call("write_file", json!({"path": file("b.txt"), "content": "zwei\r\n"})),
        Proof::call("edit_file", json!({"path": file("b.txt"), "edits": [edit]})).says("+drei"),
        Proof::call("search_files", json!({"path": stage.work(), "pattern": "*.txt"}))
            .says("b.txt"),
        Proof::call("list_directory", json!({"path": stage.work()})).says("[FILE] a.txt"),
        Proof::call("read_text_file", json!({"path": "/etc/passwd"}))
            .is("/result/isError", json!(true)),
        Proof::cancel("read_text_file", json!({"path": gate}), stage.data("told"))
            .held_by(stage.data("gate"), Some(gate)),
    ]
}

fn memory(stage: &SideBySide) -> Vec<Proof> {
    let nonce = stage.nonce();
    let entity = json!({"name": "acme", "entityType": "customer", "observations": ["pays"]});
    let other = json!({"name": "globex", "entityType": "customer", "observations": []});
    let late = json!({"entityName": nonce, "contents": ["late"]});
    let place = stage.work().join("memory.json").to_str().expect("UTF-8").to_owned();
    vec![
        Proof::list(Tools, "tools"),
        Proof::call("search_nodes", json!({"query": "pays"}))
            .is("/result/structuredContent/entities/0/name", json!(nonce)),
        Proof::call("create_entities", json!({"entities": [entity]})),
        Proof::call("add_observations", json!({"observations": [late]})),
        Proof::call("search_nodes", json!({"query": "late"}))
            .is("/result/structuredContent/entities/0/name", json!(nonce)),
        Proof::list(Resources, "resources").is("/resources/0/uri", json!(GRAPH)),
        Proof::read(GRAPH).has("/contents/0/text", nonce),
        Proof::subscribe(GRAPH, "create_entities", json!({"entities": [other]})),
        Proof::cancel("read_graph", json!({}), stage.data("told"))
            .held_by(stage.data("gate"), Some(place)),
    ]
}

fn git(stage: &SideBySide) -> Vec<Proof> {
    let at = |more: Value| {
        let mut arguments = json!({"repo_path": stage.work()});
        let more = more.as_object().expect("an object").clone();
        arguments.as_object_mut().expect("an object").extend(more);
        arguments
    };
    vec![
        Proof::list(Tools, "tools"),
        Proof::call("git_log", at(json!({"max_count": 5}))).says(&commit(&stage.work())),
        Proof::call("git_create_branch", at(json!({"branch_name": "b"}))),
        Proof::call("git_branch", at(json!({"branch_type": "local"}))).says("  b"),
        Proof::call("git_show", at(json!({"revision": "HEAD"})))
            .says(&format!("the file of {}", stage.nonce())),
        Proof::call("git_status", json!({"repo_path": "/"})).is("/result/isError", json!(true)),
        Proof::cancel("git_commit", at(json!({"message": "never seen"})), stage.data("told"))
            .held_by(stage.data("gate"), None),
    ]
}

fn time() -> Vec<Proof> {
    let convert = |from: &str, to: &str| json!({"source_timezone": from, "time": "12:34", "target_timezone": to});
    vec![
        Proof::list(Tools, "tools"),
        Proof::call("convert_time", convert("UTC", "Asia/Tokyo")).says("T21:34:00+09:00"),
        Proof::call("convert_time", convert("No/Where", "UTC")).is("/result/isError", json!(true)),
    ]
}

fn typescript(stage: &SideBySide) -> Vec<Proof> {
    let nonce = stage.nonce();
    let state = format!("for {nonce} after state of {nonce}");
    let walk = |steps: usize, endless: bool| json!({"steps": steps, "endless": endless});
    vec![
        Proof::list(Tools, "tools").is("/tools/0/name", json!("nonce")),
        Proof::call("nonce", json!({})).says(nonce),
        Proof::list(Resources, "resources").is("/resources/0/uri", json!("note://board")),
        Proof::list(Resources, "templates"),
        Proof::read("note://board").is("/contents/0/text", json!(format!("the board of {nonce}"))),
        Proof::read("note://page/7").is("/contents/0/text", json!(format!("page 7 of {nonce}"))),
        Proof::list(Prompts, "prompts").is("/prompts/0/name", json!("greet")),
        Proof::prompt("greet", json!({"whom": "Ada"}))
            .is("/messages/0/content/text", json!(format!("Greet Ada from {nonce}"))),
        Proof::progress("walk", walk(3, false), 3).says(&format!("3 steps of {nonce}")),
        Proof::asks(Capability::Elicitation, "elicit", json!({}))
            .says(&format!("the asker of {nonce} {state}")),
        Proof::asks(Capability::Sampling, "sample", json!({}))
            .says(&format!("sampled for {nonce} {state}")),
        Proof::asks(Capability::Sampling, "interview", json!({}))
            .says(&format!(r#"["the asker of {nonce}","{ROOT}"] sampled for {nonce} {nonce}"#)),
        Proof::subscribe("note://board", "write", json!({"words": "news"})),
        Proof::read("note://board").is("/contents/0/text", json!(format!("news for {nonce}"))),
        Proof::cancel("walk", walk(1, true), stage.data("told")),
    ]
}

fn documents(stage: &SideBySide) -> Vec<Proof> {
    let nonce = stage.nonce();
    let text = format!("one \u{1f600} two of {nonce}");
    vec![
        Proof::list(Tools, "tools").is("/tools/0/name", json!("admin_purge")),
        Proof::call("get_document", json!({"name": "given.md"}))
            .says(&format!("the file of {nonce}")),
        Proof::call("save_document", json!({"name": "a.md", "text": text})),
        Proof::call("search_documents", json!({"query": "TWO"})).says("a.md"),
        Proof::call("get_document", json!({"name": "a.md"})).says(&text),
        Proof::call("get_document", json!({"name": "../a"})).is("/result/isError", json!(true)),
    ]
}

fn run_git(at: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*"]).args(arguments).current_dir(at).env("HOME", at);
    command.env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z");
    command.env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z");
    let output = as_test_user(&mut command).output().expect("git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// A repository with one commit, always the same one for the same file, in which the next commit waits
/// for what is at `gate`.
fn repository(at: &Path, gate: &str) {
    use std::os::unix::fs::PermissionsExt;
    run_git(at, &["init", "--quiet", "--initial-branch=main"]);
    run_git(at, &["config", "user.name", "t"]);
    run_git(at, &["config", "user.email", "t@localhost"]);
    run_git(at, &["add", "a.txt"]);
    run_git(at, &["commit", "--quiet", "-m", "first"]);
    run_git(at, &["add", "b.txt"]);
    let hook = at.join(".git/hooks/pre-commit");
    std::fs::create_dir_all(hook.parent().expect("a directory")).expect("made");
    std::fs::write(&hook, format!("#!/bin/sh\nexec cat {gate} > /dev/null\n")).expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    own(&hook);
}

fn commit(at: &Path) -> String {
    run_git(at, &["rev-parse", "HEAD"])
}
