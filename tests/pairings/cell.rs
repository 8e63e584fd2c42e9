//! One cell: a client on a server behind tenantd, and beside it, where the two can talk, directly.

use serde_json::{Value, json};

use crate::proof::Proof;
use crate::support::{
    Packages, Run, SideBySide, Speak, Transcript, assert_same, assert_same_bytes,
};
use crate::table::{Capability, Client, Server, Skip, skip};

/// What the server of everything says of its environment is its own: tenantd adds to that.
const UNLIKE: &str = "get-env";

/// What only one of the eras has: of a result, and of each tool of a list.
const RESULT_MEMBERS: [&str; 4] = ["resultType", "ttlMs", "cacheScope", "_meta"];
const TOOL_MEMBERS: [&str; 1] = ["execution"];

struct Cell {
    client: Client,
    server: Server,
    packages: Packages,
    stage: SideBySide,
}

/// Shows every capability of the cell that is not left out, and what is left out to be so.
pub(crate) fn show(client: Client, server: Server) {
    let Some(packages) = Packages::find() else { return };
    let stage = SideBySide::new(&packages, server.setup(&packages, client));
    let cell = Cell { client, server, packages, stage };
    let direct = client.works_directly_on(server).then(|| cell.run(SideBySide::direct));
    let (proofs, through) = cell.run(SideBySide::through);
    assert!(through.client.iter().all(|one| one.era() == client.era()), "the client's era");
    assert!(through.server.iter().all(|one| one.era() == server.era()), "the server's era");
    cell.check_left_out(&through);
    match direct {
        Some((_, direct)) if client.era() == server.era() => {
            assert_same_bytes(&through.client, &direct.client, UNLIKE);
        }
        Some((_, direct)) => assert_alike(&proofs, &through.report, &direct.report),
        None => {}
    }
}

impl Cell {
    /// Makes everything ready, lets the client do its steps, and looks at what came of them.
    fn run(&self, way: fn(&SideBySide, Speak<'_>) -> Run) -> (Vec<Proof>, Run) {
        self.stage.reset();
        self.server.prepare(&self.stage);
        let proofs = self.proofs();
        let steps: Vec<_> = proofs.iter().map(|proof| &proof.step).collect();
        let answers = self.server.answers(&self.stage);
        let plan = json!({"mode": self.client.mode(), "answers": answers, "steps": steps});
        let run = way(&self.stage, &|way| self.client.run(&self.packages, way, &plan));
        check(&proofs, &run);
        (proofs, run)
    }

    fn proofs(&self) -> Vec<Proof> {
        let skip = |capability: Capability| skip(self.client, self.server, capability);
        let none = Capability::ALL.into_iter().filter(|one| skip(*one) == Some(Skip::NotOffered));
        let mut proofs: Vec<_> = none.filter_map(Proof::none).collect();
        let shown = self.server.proofs(&self.stage, &self.packages).into_iter();
        proofs.extend(shown.filter(|proof| skip(proof.of).is_none()));
        self.client.choose(proofs)
    }

    /// What is left out because the server has no such thing is not there: it declares none, and it never
    /// told of progress or asked for anything, although the client had said that it may; or the client never
    /// said so. Its lists of resources and prompts are looked at by the client ([`Proof::none`]).
    fn check_left_out(&self, run: &Run) {
        let (client, server) = (self.client, self.server);
        let declared = run.server.iter().find_map(Transcript::capabilities).expect("a greeting");
        let heard = |wanted: &dyn Fn(&Value) -> bool| -> usize {
            run.server.iter().map(|one| one.heard(wanted)).sum()
        };
        let asks = |method: &str| {
            heard(&|message| {
                message["method"] == method
                    || message.to_string().contains(&format!("\"method\":\"{method}\""))
            })
        };
        for capability in Capability::ALL {
            let there = match capability {
                Capability::Subscriptions => declared["resources"]["subscribe"] == true,
                Capability::Progress => {
                    heard(&|message| message["method"] == "notifications/progress") > 0
                }
                Capability::Elicitation => asks("elicitation/create") > 0,
                Capability::Sampling => asks("sampling/createMessage") > 0,
                _ => continue,
            };
            match skip(client, server, capability) {
                Some(Skip::AsksOnce) if capability == Capability::Subscriptions => {}
                Some(_) => assert!(!there, "{server:?} has {capability:?} after all"),
                None => assert!(there, "{server:?} has no {capability:?}: {declared}"),
            }
        }
    }
}

fn check(proofs: &[Proof], run: &Run) {
    let outcomes = run.report["steps"].as_array().expect("steps");
    assert_eq!(outcomes.len(), proofs.len(), "{}", run.report);
    for (proof, outcome) in proofs.iter().zip(outcomes) {
        proof.check(outcome);
        if proof.of == Capability::Cancellation {
            let (tool, arguments) = (proof.step["tool"].as_str(), &proof.step["arguments"]);
            check_cancelled(tool.expect("a tool"), arguments, run);
        }
    }
}

/// The server was told of this very call, by the id that it knows it by, and the client never got an
/// answer.
fn check_cancelled(tool: &str, arguments: &Value, run: &Run) {
    let told = |side: &[Transcript]| side.iter().any(|one| one.cancelled(tool, arguments));
    assert!(told(&run.client), "the client cancelled {tool}");
    assert!(told(&run.server), "the server was told that {tool} is cancelled");
    let answered = run.client.iter().any(|one| one.answered(tool, arguments));
    assert!(!answered, "{tool} was answered to a client that had cancelled it");
}

/// Where one side had to be translated for: what the client saw is what it sees directly, but for what
/// only one of the eras has.
fn assert_alike(proofs: &[Proof], through: &Value, direct: &Value) {
    for (number, proof) in proofs.iter().enumerate().filter(|(_, one)| one.step["tool"] != UNLIKE) {
        let seen = |report: &Value| without_era(report["steps"][number].clone());
        assert_same(&seen(through), &seen(direct), &proof.step.to_string());
    }
    assert_same(&through["asked"], &direct["asked"], "what the server asked");
}

fn without_era(mut outcome: Value) -> Value {
    let strip = |value: &mut Value, members: &[&str]| {
        if let Value::Object(all) = value {
            all.retain(|name, _| !members.contains(&name.as_str()));
        }
    };
    strip(&mut outcome, &RESULT_MEMBERS);
    for tool in outcome["tools"].as_array_mut().into_iter().flatten() {
        strip(tool, &TOOL_MEMBERS);
    }
    if let Some(result) = outcome.get_mut("result") {
        strip(result, &RESULT_MEMBERS);
    }
    outcome
}
