//! The clients that are processes of their own: how each is run on a plan.

use serde_json::{Value, json};

use crate::proof::Proof;
use crate::rmcp_client;
use crate::support::{Packages, Way};
use crate::table::Client;

impl Client {
    /// Its mode, as a plan and as the Inspector names it.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::PythonAuto | Self::TypescriptAuto | Self::RmcpAuto => "auto",
            Self::PythonLegacy
            | Self::TypescriptLegacy
            | Self::InspectorLegacy
            | Self::RmcpInitialize => "legacy",
            Self::PythonModern | Self::TypescriptModern | Self::RmcpDiscover => "2026-07-28",
            Self::InspectorModern => "modern",
        }
    }

    /// Does the steps of the plan on what is to be started, and reports.
    pub(crate) fn run(self, packages: &Packages, way: &Way, plan: &Value) -> Value {
        let text = plan.to_string();
        match self {
            Self::PythonAuto | Self::PythonLegacy | Self::PythonModern => {
                way.output(packages.python_command(&text, &way.command))
            }
            Self::TypescriptAuto | Self::TypescriptLegacy | Self::TypescriptModern => {
                way.output(packages.typescript_command(&text, &way.command))
            }
            Self::InspectorLegacy | Self::InspectorModern => inspect(packages, way, plan),
            Self::RmcpInitialize | Self::RmcpDiscover | Self::RmcpAuto => {
                rmcp_client::run(way, plan)
            }
        }
    }

    /// The proofs that it is given: the Inspector, which takes most of a second for each, one of a kind.
    pub(crate) fn choose(self, mut proofs: Vec<Proof>) -> Vec<Proof> {
        if matches!(self, Self::InspectorLegacy | Self::InspectorModern) {
            let mut seen = Vec::new();
            proofs.retain(|proof| {
                let new = proof.step["do"] != "list" && !seen.contains(&proof.of);
                if new {
                    seen.push(proof.of);
                }
                new
            });
        }
        proofs
    }
}

/// The Inspector does one thing a process.
fn inspect(packages: &Packages, way: &Way, plan: &Value) -> Value {
    let mode = plan["mode"].as_str().expect("a mode");
    let steps = plan["steps"].as_array().expect("steps").iter().map(|step| {
        let (ask, call) = ask(step);
        let command = packages.inspector_command(&way.environment, mode, &way.command, &ask);
        let mut result = way.output(command)["result"].take();
        if call { json!({"result": result.take(), "progress": []}) } else { result }
    });
    json!({"steps": steps.collect::<Vec<_>>(), "asked": []})
}

/// A step in the words of its command line, and whether it is a call.
fn ask(step: &Value) -> (Vec<String>, bool) {
    let text = |key: &str| step[key].as_str().expect("a text").to_owned();
    let words = match step["do"].as_str().expect("a step") {
        "call" => vec![
            "tools/call".to_owned(),
            "--tool-name".to_owned(),
            text("tool"),
            "--tool-args-json".to_owned(),
            step["arguments"].to_string(),
        ],
        "read" => vec!["resources/read".to_owned(), "--uri".to_owned(), text("uri")],
        "prompt" => {
            let mut words =
                vec!["prompts/get".to_owned(), "--prompt-name".to_owned(), text("name")];
            words.push("--prompt-args".to_owned());
            let arguments = step["arguments"].as_object().expect("arguments");
            let pairs =
                arguments.iter().map(|(name, value)| (name, value.as_str().expect("a text")));
            words.extend(pairs.map(|(name, value)| format!("{name}={value}")));
            words
        }
        other => panic!("the Inspector is not asked to {other}"),
    };
    let call = step["do"] == "call";
    ([vec!["--method".to_owned()], words].concat(), call)
}
