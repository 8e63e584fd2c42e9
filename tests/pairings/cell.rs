//! One cell: a client on a server behind tenantd, and beside it, where both speak one era, directly.

use serde_json::{Value, json};

use crate::proof::Proof;
use crate::support::{Packages, Run, SideBySide, Transcript, assert_same_bytes};
use crate::table::{Capability, Client, Server, Skip, skip};

/// What the server of everything says of its environment is its own: tenantd adds to that.
const UNLIKE: &str = "get-env";

/// Shows every capability of the cell that is not left out, and what is left out to be so.
pub(crate) fn show(client: Client, server: Server) {
    let Some(packages) = Packages::find() else { return };
    let stage = SideBySide::new(&packages, server.setup(&packages, client));
    let ready = || {
        stage.reset();
        server.prepare(&stage);
        let none = Capability::ALL
            .into_iter()
            .filter(|capability| skip(client, server, *capability) == Some(Skip::NotOffered));
        let mut proofs: Vec<_> = none.filter_map(Proof::none).collect();
        let shown = server.proofs(&stage, &packages).into_iter();
        proofs.extend(shown.filter(|proof| skip(client, server, proof.of).is_none()));
        client.choose(proofs)
    };
    let plan = |proofs: &[Proof]| {
        let steps: Vec<_> = proofs.iter().map(|proof| &proof.step).collect();
        json!({"mode": client.mode(), "answers": server.answers(&stage), "steps": steps})
    };
    let direct = (client.era() == server.era()).then(|| {
        let proofs = ready();
        let run = stage.direct(|way| client.run(&packages, way, &plan(&proofs)));
        check(&proofs, &run);
        run
    });
    let proofs = ready();
    let run = stage.through(|way| client.run(&packages, way, &plan(&proofs)));
    check(&proofs, &run);
    assert!(run.client.iter().all(|one| one.era() == client.era()), "the client's era");
    assert!(run.server.iter().all(|one| one.era() == server.era()), "the server's era");
    check_left_out(client, server, &run);
    if let Some(direct) = direct {
        assert_same_bytes(&run.client, &direct.client, UNLIKE);
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

/// What is left out because the server has no such thing is not there: it declares none, and it never
/// told of progress or asked for anything, although the client had said that it may; or the client never
/// said so. Its lists of resources and prompts are looked at by the client ([`Proof::none`]).
fn check_left_out(client: Client, server: Server, run: &Run) {
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
