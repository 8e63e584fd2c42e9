//! `doctor`: what this machine can do, by trying it, and what to type where it cannot.
//!
//! The layers are those that held around a trivial program, confined by the real stage a moment ago. What is
//! read beside that (switches of the kernel, programs that are there) only explains.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use super::standing::Standing;
use super::{facts, lent, storage};
use crate::cli::args::{Doctor, Which};
use crate::cli::control::Control;
use crate::cli::failure::{DONE, FAILED};
use crate::cli::print::{cut, word};
use crate::cli::rooms;
use crate::config::layers_required;
use crate::config::tenant::Layer;
use crate::control::SupervisorStatus;
use crate::paths::{Layout, Mode};
use crate::supervisor::{Strength, Trial};
use crate::wire::stage::Missing;

/// One thing that was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fact {
    /// What it is about.
    pub(super) name: String,
    /// Whether it is as one would wish.
    pub(super) good: bool,
    /// What was found.
    pub(super) found: String,
    /// What to type, or what to do; nothing where nothing is to be done.
    pub(super) cure: Option<String>,
}

impl Fact {
    pub(super) fn good(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), good: true, found: found.into(), cure: None }
    }

    pub(super) fn poor(name: &str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { good: false, cure: Some(cure.into()), ..Self::good(name, found) }
    }
}

/// Everything that was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Findings {
    mode: String,
    /// Whether every layer holds that a tenant requires by default.
    strict: bool,
    required: Vec<Layer>,
    layers: Vec<Fact>,
    machine: Vec<Fact>,
}

/// Finds out, prints.
pub(super) fn run(args: &Doctor) -> anyhow::Result<u8> {
    let mode = mode(args.which);
    let layout = rooms::layout(mode)?;
    let status = Control::at(&layout).ok().and_then(|mut control| control.status().ok());
    let running = status.map(|status| status.supervisor);
    let standing = Standing::of(&layout);
    let identity = standing.as_ref().and_then(Standing::identity);
    let trial = rooms::strength(&layout, identity.as_ref(), running.is_some())?;
    let findings = examine(&layout, &trial, standing.as_ref(), running.as_ref());
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&findings)?)?;
    } else {
        out.write_all(page(&findings).as_bytes())?;
    }
    Ok(if findings.strict { DONE } else { FAILED })
}

/// The mode in which this user would run a supervisor.
fn mode(which: Which) -> Mode {
    let root = nix::unistd::geteuid().is_root();
    match which {
        Which { user: true, .. } => Mode::User,
        Which { system: true, .. } => Mode::System,
        Which { .. } if root => Mode::System,
        Which { .. } => Mode::User,
    }
}

/// Where a supervisor runs, it knows better whether there are control groups: they are divided from where
/// it was started, which is not where we were. Of the system's it knows everything better than who is not
/// root, and so cannot try what it does.
fn examine(
    layout: &Layout,
    trial: &Trial,
    standing: Option<&Standing>,
    running: Option<&SupervisorStatus>,
) -> Findings {
    let required = layers_required(layout.mode);
    let Trial { mut strength, limits } = trial.clone();
    let mut limits = limits.map(str::to_owned);
    if let Some(it) = running {
        believe(&mut strength, it, Layer::Cgroup);
        limits = Some(it.limits.clone());
        if layout.mode == Mode::System && standing.is_none() {
            crate::supervisor::LAYERS.iter().for_each(|layer| believe(&mut strength, it, *layer));
        }
    }
    let mut layers = crate::supervisor::LAYERS.map(|layer| self::layer(layout, layer, &strength));
    for layer in layers.iter_mut().filter(|it| it.good && it.name == Layer::Cgroup.as_str()) {
        layer.found.extend(limits.iter().flat_map(|by| [": ", by]));
    }
    let uids = standing.map(Standing::fact);
    let strict = required.iter().all(|layer| strength.held.contains(layer))
        && uids.as_ref().is_none_or(|uids| uids.good);
    let mut machine = vec![Fact::good("backend", strength.backend.as_str())];
    machine.extend(facts::all(layout, strength.backend));
    machine.extend(uids);
    let number = standing.and_then(Standing::number);
    machine.push(storage::quota(layout, number));
    machine.push(lent::mounts(layout, standing.map(|it| &it.loaded), number));
    machine.push(supervisor(layout.mode, running));
    let mode = layout.mode.as_str().to_owned();
    Findings { mode, strict, required, layers: layers.into(), machine }
}

fn believe(strength: &mut Strength, running: &SupervisorStatus, layer: Layer) {
    strength.held.retain(|it| *it != layer);
    strength.missing.retain(|missing| missing.layer != layer);
    let prefix = format!("{}: ", layer.as_str());
    match running.not_isolated.iter().find_map(|line| line.strip_prefix(&prefix)) {
        Some(why) => strength.missing.push(Missing { layer, why: why.to_owned() }),
        None => strength.held.push(layer),
    }
}

fn layer(layout: &Layout, layer: Layer, strength: &Strength) -> Fact {
    let name = layer.as_str();
    if strength.held.contains(&layer) {
        return Fact::good(name, "holds");
    }
    let missing = strength.missing.iter().find(|missing| missing.layer == layer);
    let why = missing.map_or("it was not tried", |missing| missing.why.as_str());
    Fact::poor(name, why, facts::cure(layout.mode, layer))
}

/// Whether a supervisor that runs already found at its start what is found now.
fn supervisor(mode: Mode, running: Option<&SupervisorStatus>) -> Fact {
    const NAME: &str = "supervisor";
    let Some(it) = running else {
        return Fact::good(NAME, "none runs, or none that answers");
    };
    let runs = format!("tenantd {} runs, pid {}, limits by {}", it.version, it.pid, it.limits);
    if it.not_isolated.is_empty() {
        return Fact::good(NAME, format!("{runs}; every layer held at its start"));
    }
    let lacks = it.not_isolated.join("; ");
    let again = format!("tenantd restart --supervisor --{}", mode.as_str());
    Fact::poor(NAME, format!("{runs}; at its start it lacked {lacks}"), again)
}

/// For a person.
fn page(findings: &Findings) -> String {
    let required: Vec<_> = findings.required.iter().map(|layer| layer.as_str()).collect();
    let required = required.join(", ");
    let mode = &findings.mode;
    let mut page = match findings.strict {
        true => format!("strict isolation works here ({mode} mode requires {required})\n\n"),
        false => {
            format!("strict isolation does NOT work here ({mode} mode requires {required})\n\n")
        }
    };
    let all = || findings.layers.iter().chain(&findings.machine);
    let widest = all().map(|fact| fact.name.chars().count()).max().unwrap_or_default();
    for fact in all() {
        let mark = if fact.good { "ok" } else { "--" };
        let found = cut(&fact.found, 600);
        let _ = writeln!(page, "{mark}  {:<widest$}  {found}", word(&fact.name));
        if let Some(cure) = &fact.cure {
            let _ = writeln!(page, "    {:<widest$}  type: {}", "", cut(cure, 600));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::wire::stage::Backend;

    fn trial(held: &[Layer]) -> Trial {
        let missing = crate::supervisor::LAYERS.into_iter().filter(|layer| !held.contains(layer));
        let strength = Strength {
            backend: Backend::UserNamespace,
            held: held.to_vec(),
            missing: missing.map(|layer| Missing { layer, why: "for a reason".into() }).collect(),
        };
        Trial { strength, limits: held.contains(&Layer::Cgroup).then_some("cgroup v2") }
    }

    #[test]
    fn strict_is_what_the_mode_requires_and_what_lacks_has_a_cure() {
        let user = [Layer::Namespaces, Layer::Landlock, Layer::Seccomp];
        for (mode, strict) in [(Mode::User, true), (Mode::System, false)] {
            let layout = Layout::rooted(mode, Path::new("/nonexistent"));
            let findings = examine(&layout, &trial(&user), None, None);
            assert_eq!(findings.strict, strict, "{mode:?}");
            let cgroup = findings.layers.iter().find(|fact| fact.name == "cgroup").expect("it");
            assert!(!cgroup.good && cgroup.cure.is_some());
            let page = page(&findings);
            assert_eq!(page.contains("NOT"), !strict, "{page}");
            assert!(page.contains("for a reason") && page.contains("type: "), "{page}");
        }
    }

    #[test]
    fn nothing_is_strict_where_a_required_layer_lacks() {
        let layout = Layout::rooted(Mode::User, Path::new("/nonexistent"));
        for lacks in [Layer::Namespaces, Layer::Landlock, Layer::Seccomp] {
            let held: Vec<_> =
                crate::supervisor::LAYERS.into_iter().filter(|it| *it != lacks).collect();
            let findings = examine(&layout, &trial(&held), None, None);
            assert!(!findings.strict, "{lacks:?}");
            assert_eq!(findings.layers[3].found, "holds: cgroup v2");
        }
    }
}
