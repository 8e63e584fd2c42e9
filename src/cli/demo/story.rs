//! What happens in the demo, act by act. Each step is checked; the first that does not hold ends it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::{User, geteuid};
use serde_json::json;

use super::super::admin::ended;
use super::super::print::Paint;
use super::super::status;
use super::alarm::Alarm;
use super::attacker::{ATTACKER, Attack, Targets};
use super::house::House;
use super::pids::{kill_and_wait, processes, server_of};
use super::probe::{Prober, private_parts};
use super::transcript::{Broken, Transcript};
use super::visitor::Visitor;
use crate::paths::Mode;

/// The example tenants, as they are in the repository.
const ACME: &str = include_str!("../../../tenants.d/acme.toml");
const GLOBEX: &str = include_str!("../../../tenants.d/globex.toml");

/// The document that acme must find and globex must not.
const DOCUMENT: &str = "launch.md";
const TEXT: &str = "Project Falcon starts in May. Nobody outside Acme knows.";
const PHRASE: &str = "falcon";

/// How long what a supervisor started may outlive it.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// The longest directory in which a socket still has a name that fits (unix(7): 108 bytes).
const HOME_MAX: usize = 50;

type Story = Transcript<std::io::Stdout>;

/// What every act needs.
struct Stage<'a> {
    story: Story,
    binary: PathBuf,
    root: PathBuf,
    alarm: &'a Alarm,
}

/// Two clients of acme and two of globex.
struct Guests {
    acme: [Visitor; 2],
    globex: [Visitor; 2],
}

/// Tells the story; `false` if a step did not hold.
pub(super) fn tell(alarm: &Alarm) -> anyhow::Result<bool> {
    let home = home()?;
    let mut stage = Stage {
        story: Transcript::new(std::io::stdout(), Paint::of_stdout()),
        binary: std::env::current_exe().context("cannot find the path of this program")?,
        root: home.path().to_owned(),
        alarm,
    };
    let outcome = play(&mut stage);
    let removed = home.close().context("cannot remove the demo's home");
    match outcome {
        Ok(()) => removed.map(|()| true),
        Err(_) if alarm.rung() => {
            stage.story.say("\ninterrupted: everything is stopped and removed")?;
            Ok(false)
        }
        Err(error) if error.is::<Broken>() => {
            stage.story.say("\nThe demo stops here: the step above did not hold.")?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn play(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.story.say(
        "tenantd demo: two tenants that must never meet, Acme Corp and Globex, in a temporary home.\n\
         Real processes, the real doors; nothing of yours is read or changed.",
    )?;
    let house = stage.open("user", Mode::User, &[("acme", ACME), ("globex", GLOBEX)])?;
    stage.say_what_does_not_hold(&house)?;
    stage.story.act("1. A supervisor")?;
    let detail = format!("pid {}, home {}", house.pid(), stage.root.display());
    stage.story.step("tenantd serve --user is ready", Ok(((), detail)))?;
    let mut guests = stage.welcome(&house)?;
    stage.share_documents(&mut guests)?;
    stage.crash(&house, &mut guests)?;
    stage.refuse(&house)?;
    stage.leave(house, guests)?;
    let steps = stage.story.steps();
    stage.story.say(&format!(
        "\nAll {steps} steps held. Yours next: write ~/.config/tenantd/tenants.d/NAME.toml, then\n\
         tenantd check, and tenantd entry claude-code NAME for your client."
    ))?;
    Ok(())
}

impl Stage<'_> {
    fn open(&self, name: &str, mode: Mode, tenants: &[(&str, &str)]) -> anyhow::Result<House> {
        let root = self.root.join(name);
        std::fs::create_dir(&root).context("cannot make the demo's home")?;
        House::open(&self.binary, root, mode, tenants, self.alarm)
    }

    fn enter(&self, house: &House, tenant: &str) -> anyhow::Result<Visitor> {
        Visitor::enter(&self.binary, house, tenant, self.alarm)
    }

    /// What this machine or this version does not give stands before everything else.
    fn say_what_does_not_hold(&mut self, house: &House) -> anyhow::Result<()> {
        let warnings = status::warnings(&house.status()?, self.story.paint());
        if !warnings.is_empty() {
            self.story.say(&format!("\n{}", warnings.trim_end()))?;
        }
        Ok(())
    }

    fn welcome(&mut self, house: &House) -> anyhow::Result<Guests> {
        self.story.act("2. Two MCP clients for each tenant, each a `tenantd connect TENANT`")?;
        let acme = [self.enter(house, "acme"), self.enter(house, "acme")];
        let acme = self.both(house, "acme", acme)?;
        let globex = [self.enter(house, "globex"), self.enter(house, "globex")];
        let globex = self.both(house, "globex", globex)?;
        Ok(Guests { acme, globex })
    }

    /// Two sessions that share one server.
    fn both(
        &mut self,
        house: &House,
        tenant: &str,
        guests: [anyhow::Result<Visitor>; 2],
    ) -> anyhow::Result<[Visitor; 2]> {
        let met = || {
            let [first, second] = guests;
            let guests = [first?, second?];
            let (child, pid) = house.server(tenant)?;
            if child.sessions != 2 || child.starts != 1 {
                bail!("{} sessions, {} starts", child.sessions, child.starts);
            }
            let era = child.era.unwrap_or_else(|| "unknown".to_owned());
            Ok((guests, format!("one server for both: pid {pid}, {era} MCP")))
        };
        self.story.step(&format!("{tenant}: two sessions are open"), met())
    }

    fn share_documents(&mut self, guests: &mut Guests) -> anyhow::Result<()> {
        self.story.act("3. What a tenant saves, that tenant finds")?;
        let Guests { acme: [first, second], globex: [stranger, _] } = guests;
        let saved = first.call("save_document", &json!({ "name": DOCUMENT, "text": TEXT }));
        let claim = format!("acme, client 1, saves {DOCUMENT}: \"{TEXT}\"");
        self.story.step(&claim, saved.map(|_| ((), String::new())))?;
        let claim = format!("acme, client 2, searches \"{PHRASE}\" and finds it");
        self.story.step(&claim, search(second, true))?;
        let other = json!({ "name": "plans.md", "text": "Globex buys nothing this year." });
        let saved = stranger.call("save_document", &other).map(|_| ((), String::new()));
        self.story.step("globex, client 1, saves a document of its own", saved)?;
        let claim = format!("globex, client 1, searches \"{PHRASE}\" and finds nothing");
        self.story.step(&claim, search(stranger, false))
    }

    fn crash(&mut self, house: &House, guests: &mut Guests) -> anyhow::Result<()> {
        self.story.act("4. A crash stays home, and sessions live on")?;
        let before = house.server("globex")?.1;
        let (_, keeper) = house.server("acme")?;
        let killed = || {
            let server = server_of(keeper);
            kill_and_wait(server)?;
            Ok(((), format!("kill -9 {server}")))
        };
        self.story.step("acme's server is killed", killed())?;
        let client = &mut guests.acme[0];
        let mut back = || {
            let text = client.call_the_restarted("get_document", DOCUMENT)?;
            if text != TEXT {
                bail!("the document reads {text:?}");
            }
            let (child, pid) = house.server("acme")?;
            if pid == keeper || child.starts < 2 {
                bail!("it was not restarted: pid {pid}, {} starts", child.starts);
            }
            Ok(((), format!("start number {}, pid {pid}; nothing was lost", child.starts)))
        };
        self.story.step("acme, client 1, calls in the same session: the server is back", back())?;
        let unmoved = || {
            let (child, pid) = house.server("globex")?;
            if pid != before || child.starts != 1 || child.sessions != 2 {
                bail!("globex's server: pid {pid}, {} starts", child.starts);
            }
            Ok(((), format!("still pid {pid}, still two sessions")))
        };
        self.story.step("globex noticed nothing", unmoved())
    }

    fn refuse(&mut self, house: &House) -> anyhow::Result<()> {
        self.story.act("5. What must fail, fails")?;
        self.refuse_without_grant()?;
        self.refuse_from_inside(house)?;
        let prober = Prober::new()?;
        let mut walls: Vec<PathBuf> = private_parts(i64::from(house.pid())).into();
        walls.extend(house.tenant("acme")?.mux_pid.into_iter().flat_map(private_parts));
        if prober.is_other_user() {
            walls.push(house.layout.session_socket());
            walls.push(Path::new(&house.tenant("acme")?.data).join(DOCUMENT));
        }
        let claim = format!(
            "a probe from outside: {}, reading memory and environment of tenantd{}",
            prober.name(),
            if prober.is_other_user() { ", its socket, acme's data" } else { "" }
        );
        self.story.step(&claim, prober.must_fail(&walls).map(|words| ((), words)))
    }

    /// A third tenant, which the same user runs: what user they are cannot be what stops it.
    fn refuse_from_inside(&mut self, house: &House) -> anyhow::Result<()> {
        let targets = Targets {
            document: Path::new(&house.tenant("acme")?.data).join(DOCUMENT),
            process: server_of(house.server("acme")?.1),
            socket: house.layout.session_socket(),
        };
        let launched = || {
            // What is not there for its owner either would be no wall.
            let read = std::fs::read_to_string(&targets.document);
            if read.context("cannot read acme's document ourselves")? != TEXT {
                bail!("acme's document is another one");
            }
            let attack = Attack::launch(house, &self.root.join(ATTACKER), &targets)?;
            attack.did("own", "mine")?;
            let layers = house.tenant(ATTACKER)?.layers.join(", ");
            Ok((attack, format!("around it: {layers}; what is its own it reads and writes")))
        };
        let launched = launched();
        let claim = "a third tenant's server is an attacker, a shell with the system's programs";
        let attack = self.story.step(claim, launched)?;
        let process = targets.process;
        for (name, claim, because) in [
            ("document", format!("it cannot read acme's {DOCUMENT}"), "No such file"),
            ("process", format!("it cannot kill acme's server, pid {process}"), "No such process"),
            ("socket", "it cannot find tenantd's socket".to_owned(), "No such file"),
        ] {
            let kept = attack.was_kept_from(name, because);
            self.story.step(&claim, kept.map(|words| ((), words)))?;
        }
        let alone = attack.interfaces().and_then(|names| match names.as_slice() {
            ["lo"] => Ok(((), "interfaces: lo, which leads nowhere".to_owned())),
            others => bail!("interfaces: {}", others.join(", ")),
        });
        self.story.step("it has no network", alone)
    }

    /// In user mode the owner may use every tenant. So this is a system-mode supervisor, where nobody
    /// has access without a grant, not even the user that it runs as.
    fn refuse_without_grant(&mut self) -> anyhow::Result<()> {
        let (us, them) = names()?;
        let lobby = tenant("Lobby", &us);
        let vault = tenant("Vault", &them);
        let house = self.open("system", Mode::System, &[("lobby", &lobby), ("vault", &vault)])?;
        let refused = || {
            // Only root's supervisor can give a tenant users of its own; anybody's knows who is granted it.
            let granted = match geteuid().is_root() {
                true => self.enter(&house, "lobby").map(drop),
                false => house.tenant("lobby").map(drop),
            };
            granted.context("not even the tenant that grants us opens")?;
            let mut visitor = Visitor::start(&self.binary, &house, "vault", self.alarm)?;
            let reason = visitor.refused()?;
            match visitor.leave()? {
                Some(77) => Ok(((), format!("exit code 77: {reason}"))),
                code => bail!("refused, but with exit code {code:?}: {reason}"),
            }
        };
        let outcome = refused();
        self.story.step(&format!("opening a tenant that grants only {them}, as {us}"), outcome)?;
        house.close()
    }

    fn leave(&mut self, house: House, guests: Guests) -> anyhow::Result<()> {
        self.story.act("6. Leaving")?;
        let left = || {
            let processes = processes(&house)?;
            for visitor in guests.acme.into_iter().chain(guests.globex) {
                match visitor.leave()? {
                    Some(0) => {}
                    code => bail!("a client's connect ended with {code:?}"),
                }
            }
            house.close()?;
            for (name, process) in &processes {
                if !ended(process, GONE_WITHIN)? {
                    bail!("{name} is still there");
                }
            }
            Ok(((), format!("{} processes were started for the tenants", processes.len())))
        };
        self.story.step("clients and supervisor end, and nothing is left behind", left())
    }
}

/// The temporary home. Others may walk through it: what must be closed to them, tenantd itself closes.
fn home() -> anyhow::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let wanted = std::env::temp_dir();
    let parent = if wanted.as_os_str().len() > HOME_MAX { Path::new("/tmp") } else { &wanted };
    let home = tempfile::Builder::new()
        .prefix("tenantd-demo-")
        .tempdir_in(parent)
        .context("cannot make a temporary home")?;
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711))?;
    Ok(home)
}

fn search(client: &mut Visitor, expected: bool) -> anyhow::Result<((), String)> {
    let found = client.call("search_documents", &json!({ "query": PHRASE }))?;
    if found.contains(DOCUMENT) == expected {
        Ok(((), String::new()))
    } else {
        bail!("the answer was {found}")
    }
}

/// We, and somebody who is not us: root, and for root nobody.
fn names() -> anyhow::Result<(String, String)> {
    let uid = geteuid();
    let us = User::from_uid(uid)?.map_or_else(|| uid.to_string(), |user| user.name);
    Ok((us, if uid.is_root() { "nobody" } else { "root" }.to_owned()))
}

/// A tenant that grants one user.
fn tenant(name: &str, user: &str) -> String {
    format!(
        "name = \"{name}\"\n\n[server]\ncommand = \"tenantd\"\nargs = [\"builtin\", \"documents\"]\n\n\
         [[grant]]\nusers = [\"{user}\"]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenants_of_the_demo_are_toml() {
        for text in [ACME, GLOBEX, &tenant("Vault", "root")] {
            toml::from_str::<toml::Table>(text).expect("TOML");
        }
    }

    #[test]
    fn somebody_else_is_never_us() {
        let (us, them) = names().expect("names");
        assert_ne!(us, them);
    }
}
