//! `entry`: what an MCP client's configuration needs to start `tenantd connect`.
//!
//! The snippet goes to stdout, so that it can be redirected; where it belongs goes to stderr. The binary
//! is named by its absolute path: desktop clients start servers with hardly any PATH.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::args::{Client, Entry, Which};
use super::failure::{DONE, Failure};
use super::rooms;
use crate::names::Target;

/// `tenantd entry`
pub(super) fn run(args: &Entry) -> anyhow::Result<u8> {
    let binary = std::env::current_exe().context("cannot find the path of this program")?;
    let snippet = snippet(args.client, &args.target, args.which, text(&binary)?);
    writeln!(std::io::stderr(), "# {}", place(args.client))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&snippet)?)?;
    Ok(DONE)
}

fn text(binary: &Path) -> Result<&str, Failure> {
    binary.to_str().ok_or_else(|| {
        let shown = binary.display();
        Failure::usage(format!(
            "{shown} is not UTF-8 and JSON cannot hold it (install it elsewhere)"
        ))
    })
}

fn snippet(client: Client, target: &Target, which: Which, binary: &str) -> Value {
    let target = rooms::written(target);
    let name = target.replace('/', "-");
    let mut args = vec!["connect".to_owned(), target];
    match which {
        Which { user: true, .. } => args.push("--user".to_owned()),
        Which { system: true, .. } => args.push("--system".to_owned()),
        Which { .. } => {}
    }
    match client {
        Client::ClaudeDesktop | Client::Cursor => {
            json!({ "mcpServers": { name: { "command": binary, "args": args } } })
        }
        Client::ClaudeCode => {
            json!({ "mcpServers": { name: { "type": "stdio", "command": binary, "args": args } } })
        }
        Client::Vscode => {
            json!({ "servers": { name: { "type": "stdio", "command": binary, "args": args } } })
        }
        Client::Zed => json!({ "context_servers": { name: { "command": binary, "args": args } } }),
    }
}

fn place(client: Client) -> &'static str {
    match client {
        Client::ClaudeDesktop => {
            "Claude Desktop: merge into ~/.config/Claude/claude_desktop_config.json and restart it"
        }
        Client::ClaudeCode => {
            "Claude Code: merge into .mcp.json of the project, or into ~/.claude.json for all projects"
        }
        Client::Cursor => {
            "Cursor: merge into .cursor/mcp.json of the project, or ~/.cursor/mcp.json"
        }
        Client::Vscode => {
            "VS Code: merge into .vscode/mcp.json of the workspace, or run \
             \"MCP: Open User Configuration\""
        }
        Client::Zed => "Zed: merge into ~/.config/zed/settings.json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_gets_the_same_command_under_its_own_key() {
        let target = Target::parse("acme/git").expect("a target");
        let system = Which { user: false, system: true };
        for (client, key) in [
            (Client::ClaudeDesktop, "mcpServers"),
            (Client::ClaudeCode, "mcpServers"),
            (Client::Cursor, "mcpServers"),
            (Client::Vscode, "servers"),
            (Client::Zed, "context_servers"),
        ] {
            let snippet = snippet(client, &target, system, "/opt/tenantd");
            let entry = &snippet[key]["acme-git"];
            assert_eq!(entry["command"], "/opt/tenantd", "{client:?}");
            assert_eq!(entry["args"], json!(["connect", "acme/git", "--system"]), "{client:?}");
            assert_eq!(snippet.as_object().map(serde_json::Map::len), Some(1));
        }
    }
}
