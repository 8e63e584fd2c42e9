//! `why`: why a tenant does not serve, or did not, and what to do. `--json` gives the answer as it is.
//!
//! The supervisor that knows the tenant answers. Where none runs, the files answer: what `check` would
//! say of this tenant, and that no supervisor runs. Rendering is a pure function of the answer.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::json;

use super::args::Why;
use super::control::{Absence, Control, modes};
use super::failure::{CONFIG, DONE, Failure, NO_PERMISSION};
use super::print::{self, Paint, age, count, cut, word};
use super::rooms;
use super::status::{WARNING, or_dash, push_table, render_servers, render_sessions, tint};
use crate::config::{self, Problem};
use crate::control::{RefusalLine, StartLine, TenantStatus, WhyReply};
use crate::names::TenantId;
use crate::paths::{Layout, Mode};

/// The longest line of a server's stderr shown, characters.
const LINE: usize = 200;

/// `tenantd why`: 78 where the tenant's file has a problem, so that a script sees it.
pub(super) fn run(args: &Why) -> anyhow::Result<u8> {
    let mut unknown = None;
    let mut absent = Vec::new();
    for mode in modes(args.which) {
        let layout = rooms::layout(mode)?;
        match Control::at(&layout) {
            Ok(mut control) => match control.why(args.tenant.as_str())? {
                Some(reply) => return told(&reply, args.json),
                None => unknown = Some(control),
            },
            Err(Absence::Nobody) if layout.tenant_file(&args.tenant).exists() => {
                return read(&layout, &args.tenant, args.json);
            }
            Err(Absence::Nobody) => absent.push(layout),
            Err(Absence::Because(failure)) if args.which.user || args.which.system => {
                return Err(failure.into());
            }
            Err(Absence::Because(_)) => {}
        }
    }
    Err(match unknown {
        Some(mut control) => not_known(&args.tenant, &mut control),
        None => not_there(&args.tenant, &absent),
    }
    .into())
}

fn told(reply: &WhyReply, json: bool) -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(reply)?)?;
    } else {
        out.write_all(render(reply, print::now(), Paint::of_stdout()).as_bytes())?;
    }
    Ok(if reply.tenant.problems.is_empty() { DONE } else { CONFIG })
}

fn not_known(tenant: &TenantId, control: &mut Control) -> Failure {
    let choices = control.list().map(|reply| reply.tenants).unwrap_or_default();
    let yours: Vec<_> = choices.iter().take(5).map(|line| word(&line.id)).collect();
    let yours = if yours.is_empty() { "none".to_owned() } else { yours.join(", ") };
    Failure::new(
        NO_PERMISSION,
        format!("there is no tenant {tenant}, or none that you may use (choices: {yours})"),
    )
}

fn not_there(tenant: &TenantId, absent: &[Layout]) -> Failure {
    let mut files: Vec<_> =
        absent.iter().map(|layout| layout.tenant_file(tenant).display().to_string()).collect();
    files.dedup();
    let files = files.join(" or ");
    Failure::new(
        CONFIG,
        format!("no supervisor runs, and there is no tenant {tenant} (write {files})"),
    )
}

/// What the files say, where no supervisor runs.
fn read(layout: &Layout, tenant: &TenantId, json: bool) -> anyhow::Result<u8> {
    let mut loaded = config::load(layout);
    let problems = loaded.tenants.remove(tenant).and_then(Result::err).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if json {
        let cure = cure(layout, tenant, &problems);
        let answer =
            json!({ "supervisor": false, "id": tenant, "problems": problems, "cure": cure });
        writeln!(out, "{answer}")?;
    } else {
        out.write_all(render_files(layout, tenant, &problems, Paint::of_stdout()).as_bytes())?;
    }
    Ok(if problems.is_empty() { DONE } else { CONFIG })
}

fn cure(layout: &Layout, tenant: &TenantId, problems: &[Problem]) -> String {
    match (problems.first(), layout.mode) {
        (Some(problem), _) => format!("mend {problem}"),
        (None, Mode::User) => {
            format!("nothing: tenantd connect {tenant} starts the supervisor")
        }
        (None, Mode::System) => "systemctl start tenantd.socket".to_owned(),
    }
}

fn render_files(layout: &Layout, tenant: &TenantId, problems: &[Problem], paint: Paint) -> String {
    let mut page = String::new();
    let file = layout.tenant_file(tenant).display().to_string();
    let good = if problems.is_empty() { "good" } else { "broken" };
    let (name, file) = (paint.strong(tenant.as_str()), cut(&file, WARNING));
    let _ = writeln!(page, "{name}  no supervisor runs; {file} is {good}");
    let _ = writeln!(page, "  to do: {}", cut(&cure(layout, tenant, problems), WARNING));
    for problem in problems {
        let _ =
            writeln!(page, "  {} {}", paint.alarm("problem:"), cut(&problem.to_string(), WARNING));
    }
    page
}

/// The whole page; `now` in seconds since the epoch.
fn render(reply: &WhyReply, now: i64, paint: Paint) -> String {
    let mut page = String::new();
    let tenant = &reply.tenant;
    let running = tenant.mux_pid.map_or("not in use".to_owned(), |pid| format!("mux pid {pid}"));
    let (id, status) = (paint.strong(&word(&tenant.id)), tint(paint, &tenant.status));
    let sessions = i64::try_from(tenant.sessions.len()).unwrap_or(i64::MAX);
    let sessions = count(sessions, "session");
    let _ = writeln!(page, "{id}  {}  {status}  {running}  {sessions}", word(&tenant.name));
    let _ = writeln!(page, "  to do: {}", cut(&reply.cure, WARNING));
    for kept in &reply.keeps {
        let _ = writeln!(page, "  {} {}", paint.alarm("kept by:"), cut(kept, WARNING));
    }
    for problem in &tenant.problems {
        let _ = writeln!(page, "  {} {}", paint.alarm("problem:"), cut(problem, WARNING));
    }
    render_layers(&mut page, tenant, paint);
    for server in &tenant.servers {
        let command = if server.command.is_empty() { "not known" } else { &server.command };
        let _ = writeln!(page, "  command of {}: {}", word(&server.name), cut(command, WARNING));
    }
    render_servers(&mut page, &tenant.servers);
    render_sessions(&mut page, &tenant.sessions);
    render_starts(&mut page, &reply.starts, now);
    render_refusals(&mut page, &reply.refusals, now);
    for words in &reply.stderr {
        let whose = words.user.as_deref().map(|user| format!(" for {}", word(user)));
        let _ = writeln!(page, "  stderr of {}{}:", word(&words.server), whose.unwrap_or_default());
        for line in &words.lines {
            let _ = writeln!(page, "    | {}", cut(line, LINE));
        }
    }
    page
}

fn render_layers(page: &mut String, tenant: &TenantStatus, paint: Paint) {
    let list = |layers: &[String]| match layers {
        [] => "none".to_owned(),
        layers => layers.iter().map(|layer| word(layer)).collect::<Vec<_>>().join(", "),
    };
    if !(tenant.layers.is_empty() && tenant.missing_layers.is_empty()) {
        let missing = list(&tenant.missing_layers);
        let missing = if missing == "none" { missing } else { paint.alarm(&missing) };
        let _ = writeln!(page, "  layers: hold {}; missing {missing}", list(&tenant.layers));
    }
}

fn render_starts(page: &mut String, starts: &[StartLine], now: i64) {
    let row = |start: &StartLine| {
        vec![
            ago(start.at, now),
            word(&start.server),
            start.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            or_dash(start.user.as_deref()),
            start.ended_at.map_or_else(|| "-".to_owned(), |at| ago(at, now)),
            start.end.as_deref().map_or_else(|| "-".to_owned(), |end| cut(end, WARNING)),
        ]
    };
    push_table(page, &["STARTED", "SERVER", "PID", "FOR", "ENDED", "HOW"], rows(starts, row));
}

fn render_refusals(page: &mut String, refusals: &[RefusalLine], now: i64) {
    let row = |refusal: &RefusalLine| {
        vec![
            ago(refusal.at, now),
            word(&refusal.user),
            refusal.times.to_string(),
            if refusal.waits { "waits" } else { "left" }.to_owned(),
            cut(&refusal.message, WARNING),
        ]
    };
    push_table(page, &["REFUSED", "USER", "TIMES", "SESSION", "BECAUSE"], rows(refusals, row));
}

/// The newest first.
fn rows<T>(lines: &[T], row: impl FnMut(&T) -> Vec<String>) -> Vec<Vec<String>> {
    lines.iter().rev().map(row).collect()
}

fn ago(at: i64, now: i64) -> String {
    format!("{} ago", age(now.saturating_sub(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ServerStatus, StderrLines};

    fn reply() -> WhyReply {
        let server = ServerStatus {
            name: "main".into(),
            command: "/opt/x".into(),
            share: "tenant".into(),
            network: "none".into(),
            held: None,
            children: vec![],
        };
        WhyReply {
            tenant: TenantStatus {
                id: "acme".into(),
                name: "Acme".into(),
                status: "active".into(),
                missing_layers: vec!["seccomp".into()],
                servers: vec![server],
                ..TenantStatus::default()
            },
            keeps: vec!["server main is failed: it exited with code 1".into()],
            cure: "mend it".into(),
            refusals: vec![RefusalLine {
                at: 40,
                user: "bob\x1b[2J".into(),
                uid: 1,
                reason: "session-quota".into(),
                message: "all sessions open".into(),
                waits: false,
                times: 3,
            }],
            starts: vec![StartLine {
                at: 30,
                server: "main".into(),
                user: None,
                pid: Some(42),
                end: Some("it exited with code 1".into()),
                ended_at: Some(31),
            }],
            stderr: vec![StderrLines {
                server: "main".into(),
                user: None,
                lines: vec!["no \x1b]0;config\x07".into()],
            }],
        }
    }

    #[test]
    fn what_to_do_stands_first_and_nothing_drives_the_terminal() {
        let page = render(&reply(), 100, Paint::plain());
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines[0], "acme  Acme  active  not in use  0 sessions");
        assert_eq!(lines[1], "  to do: mend it");
        assert_eq!(lines[2], "  kept by: server main is failed: it exited with code 1");
        assert_eq!(lines[3], "  layers: hold none; missing seccomp");
        assert_eq!(lines[4], "  command of main: /opt/x");
        assert!(page.contains("1m ago   main    42") && page.contains("bob\\u{1b}[2J"), "{page}");
        assert!(page.contains("    | no \\u{1b}]0;config\\u{7}\n"), "{page}");
        assert!(!page.contains('\x1b'), "{page}");
    }

    #[test]
    fn without_a_supervisor_the_file_answers() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        let acme = TenantId::parse("acme").expect("an id");
        let page = render_files(&layout, &acme, &[], Paint::plain());
        assert!(
            page.contains("no supervisor runs") && page.contains("acme.toml is good"),
            "{page}"
        );
        std::fs::create_dir_all(layout.tenants()).expect("made");
        std::fs::write(layout.tenant_file(&acme), "=\n").expect("written");
        let mut loaded = config::load(&layout);
        let problems = loaded.tenants.remove(&acme).and_then(Result::err).expect("problems");
        let page = render_files(&layout, &acme, &problems, Paint::plain());
        assert!(page.contains("is broken") && page.contains("acme.toml:1:"), "{page}");
    }
}
