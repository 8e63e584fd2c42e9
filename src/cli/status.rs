//! `status`: what runs, for a person; `--json` gives the supervisor's answer as it is.
//!
//! What does not hold stands first: a missing layer, a field that nothing enforces, a broken file. Only
//! then come the tenants. Rendering is a pure function of the answer.

use std::fmt::Write as _;
use std::io::Write as _;

use super::args::Status;
use super::control::Control;
use super::failure::DONE;
use super::print::{self, Paint, age, count, cut, table, word};
use crate::control::{
    ChildStatus, ServerStatus, SessionStatus, StatusReply, StorageStatus, TenantStatus,
};

/// The longest warning shown, characters; `--json` has it whole.
pub(super) const WARNING: usize = 600;
/// The most rows of one kind for one tenant; more are counted.
const ROWS: usize = 200;

/// `tenantd status`
pub(super) fn run(args: &Status) -> anyhow::Result<u8> {
    let reply = Control::find(args.which)?.status()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
    } else {
        out.write_all(render(&reply, Paint::of_stdout()).as_bytes())?;
    }
    Ok(DONE)
}

/// The whole page.
pub(super) fn render(reply: &StatusReply, paint: Paint) -> String {
    let mut page = warnings(reply, paint);
    let it = &reply.supervisor;
    let (version, mode, up) = (word(&it.version), word(&it.mode), age(it.uptime_s));
    let (pid, files) = (it.pid, cut(&it.config, 200));
    let _ =
        writeln!(page, "tenantd {version}, {mode} mode, pid {pid}, up {up}, configuration {files}");
    let (backend, limits) = (word(&it.backend), cut(&it.limits, WARNING));
    let _ = writeln!(page, "sandboxes by: {backend}; limits of a tenant as a whole: {limits}");
    if reply.tenants.is_empty() {
        page.push_str("no tenants that you may see\n");
    }
    for tenant in &reply.tenants {
        page.push('\n');
        render_tenant(&mut page, tenant, &it.problems, paint);
    }
    page
}

/// What does not hold, one line each; empty where all holds.
pub(super) fn warnings(reply: &StatusReply, paint: Paint) -> String {
    let it = &reply.supervisor;
    let mut lines = String::new();
    for layer in &it.not_isolated {
        let _ = writeln!(lines, "{} {}", paint.alarm("NOT ISOLATED:"), cut(layer, WARNING));
    }
    for field in &it.not_enforced {
        let _ = writeln!(lines, "{} {}", paint.notice("not enforced yet:"), cut(field, WARNING));
    }
    for problem in &it.problems {
        let _ = writeln!(lines, "{} {}", paint.alarm("problem:"), cut(problem, WARNING));
    }
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines
}

/// One tenant; `told` are the problems that stand at the head of the page already.
fn render_tenant(page: &mut String, tenant: &TenantStatus, told: &[String], paint: Paint) {
    let running = tenant.mux_pid.map_or("not in use".to_owned(), |pid| format!("mux pid {pid}"));
    let _ = writeln!(
        page,
        "{}  {}  {}  {running}  {}  {}",
        paint.strong(&word(&tenant.id)),
        word(&tenant.name),
        tint(paint, &tenant.status),
        sessions(tenant),
        count(tenant.calls, "call"),
    );
    for problem in tenant.problems.iter().filter(|problem| !told.contains(problem)) {
        let _ = writeln!(page, "  {} {}", paint.alarm("problem:"), cut(problem, WARNING));
    }
    if !tenant.missing_layers.is_empty() {
        let missing: Vec<String> = tenant.missing_layers.iter().map(|layer| word(layer)).collect();
        let _ = writeln!(page, "  {} {}", paint.alarm("layers missing:"), missing.join(", "));
    }
    if let Some(storage) = &tenant.storage {
        render_storage(page, storage, paint);
    }
    if tenant.refused > 0 || tenant.dropped > 0 {
        let _ = writeln!(page, "  refused {}, dropped {}", tenant.refused, tenant.dropped);
    }
    for held in held(tenant) {
        let _ = writeln!(page, "  {} {}", paint.notice("held:"), cut(held, WARNING));
    }
    if let Some(ago) = tenant.egress_died_s {
        let what = "its egress died, and the servers that used it were started anew";
        let _ = writeln!(page, "  {} {what} ({} ago)", paint.alarm("network:"), age(ago));
    }
    for server in tenant.servers.iter().filter(|server| server.network != "none") {
        let _ = writeln!(page, "  {}", network(server, paint));
    }
    render_servers(page, &tenant.servers);
    render_sessions(page, &tenant.sessions);
}

fn render_storage(page: &mut String, storage: &StorageStatus, paint: Paint) {
    let (used, limit) = (size(storage.used), size(storage.limit));
    let full = if storage.full { format!(" {}", paint.alarm("FULL")) } else { String::new() };
    let held = word(&storage.method);
    let _ = writeln!(page, "  storage: {used} of {limit}, held by {held}{full}");
    if let Some(problem) = &storage.problem {
        let _ = writeln!(page, "  {} {}", paint.alarm("storage:"), cut(problem, WARNING));
    }
}

/// Bytes for a person: 1.5 GiB.
fn size(bytes: i64) -> String {
    let (mut amount, mut unit) = (bytes as f64, 0);
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    while amount >= 1024.0 && unit + 1 < units.len() {
        (amount, unit) = (amount / 1024.0, unit + 1);
    }
    let digits = usize::from(unit > 0);
    format!("{amount:.digits$} {}", units.get(unit).unwrap_or(&"B"))
}

fn sessions(tenant: &TenantStatus) -> String {
    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
    let all = count(number(tenant.sessions.len()), "session");
    match tenant.sessions.iter().filter(|session| session.waits).count() {
        0 => all,
        waiting => format!("{all}, {waiting} waiting"),
    }
}

/// What a server reaches.
fn network(server: &ServerStatus, paint: Paint) -> String {
    let name = word(&server.name);
    match &*server.network {
        "host" => {
            format!("{} host, for {name}: whatever this machine reaches", paint.notice("network:"))
        }
        list => format!("network: {} for {name}", cut(list, WARNING)),
    }
}

/// Why servers may not run, each reason once.
fn held(tenant: &TenantStatus) -> Vec<&str> {
    let mut held: Vec<&str> =
        tenant.servers.iter().filter_map(|server| server.held.as_deref()).collect();
    held.dedup();
    held
}

pub(super) fn tint(paint: Paint, status: &str) -> String {
    let shown = word(status);
    if status == "active" { paint.good(&shown) } else { paint.notice(&shown) }
}

pub(super) fn render_servers(page: &mut String, servers: &[ServerStatus]) {
    let heading =
        ["SERVER", "STATE", "ERA", "PID", "SESSIONS", "STARTS", "UP", "FOR", "IS", "LAST"];
    let rows: Vec<_> = servers.iter().flat_map(server_rows).collect();
    push_table(page, &heading, rows);
}

fn server_rows(server: &ServerStatus) -> Vec<Vec<String>> {
    if server.children.is_empty() {
        let nothing = || "-".to_owned();
        let state = if server.held.is_some() { "held" } else { "idle" };
        let mut row = vec![word(&server.name), state.to_owned()];
        row.extend(std::iter::repeat_with(nothing).take(6));
        row.push(word(&server.command));
        return vec![row];
    }
    server.children.iter().map(|child| child_row(server, child)).collect()
}

fn child_row(server: &ServerStatus, child: &ChildStatus) -> Vec<String> {
    let is = child.version.as_deref().unwrap_or(&server.command);
    vec![
        word(&server.name),
        word(&child.state),
        or_dash(child.era.as_deref()),
        child.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        child.sessions.to_string(),
        child.starts.to_string(),
        age(child.age_s),
        child.user.as_deref().map_or_else(|| word(&server.share), word),
        word(is),
        last(child),
    ]
}

/// How it ended last; while it runs, rather the limit that it met.
fn last(child: &ChildStatus) -> String {
    let limit = child.limit.as_deref().filter(|_| child.pid.is_some());
    limit.or(child.last.as_deref()).map(|text| cut(text, 120)).unwrap_or_default()
}

pub(super) fn render_sessions(page: &mut String, sessions: &[SessionStatus]) {
    let heading =
        ["SESSION", "SERVER", "USER", "CLIENT", "STATE", "ERA", "CALLS", "IN FLIGHT", "UP"];
    let rows = sessions
        .iter()
        .map(|session| {
            vec![
                word(&session.id),
                word(&session.server),
                word(&session.user),
                or_dash(session.client.as_deref()),
                if session.waits { "waits" } else { "open" }.to_owned(),
                or_dash(session.era.as_deref()),
                session.calls.to_string(),
                session.in_flight.to_string(),
                age(session.age_s),
            ]
        })
        .collect();
    push_table(page, &heading, rows);
}

pub(super) fn push_table(page: &mut String, heading: &[&str], mut rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let more = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    page.push_str(&table(2, heading, &rows));
    if more > 0 {
        let _ = writeln!(page, "  and {more} more (--json has all)");
    }
}

pub(super) fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), print::word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::SupervisorStatus;

    fn child(state: &str) -> ChildStatus {
        ChildStatus {
            state: state.into(),
            pid: Some(4242),
            user: None,
            era: Some("modern".into()),
            version: Some("evil\x1b[2J 1.0".into()),
            sessions: 2,
            starts: 3,
            last: Some("killed by SIGKILL".into()),
            limit: None,
            age_s: 61,
        }
    }

    fn session(number: usize) -> SessionStatus {
        SessionStatus {
            id: format!("s{number}"),
            server: "main".into(),
            user: "alice".into(),
            uid: 1000,
            client: Some("claude\u{202e}".into()),
            era: None,
            waits: number == 0,
            in_flight: 1,
            calls: 7,
            age_s: 5,
        }
    }

    fn reply() -> StatusReply {
        let server = |name: &str, children| ServerStatus {
            name: name.into(),
            command: "/opt/x".into(),
            share: "tenant".into(),
            network: "none".into(),
            held: None,
            children,
        };
        StatusReply {
            supervisor: SupervisorStatus {
                instance: "1".into(),
                version: "0.1.0".into(),
                mode: "user".into(),
                pid: 1,
                uptime_s: 3_700,
                config: "/c".into(),
                state: "/s".into(),
                log: "/l".into(),
                backend: "user namespace".into(),
                limits: "cgroup v2".into(),
                not_isolated: vec!["seccomp: not built yet".into()],
                not_enforced: vec!["acme.toml: quota.memory".into()],
                problems: vec!["tenants.d/x.toml:1:1: broken".into()],
            },
            tenants: vec![TenantStatus {
                id: "acme".into(),
                name: "Acme Corp".into(),
                status: "active".into(),
                data: "/d".into(),
                digest: String::new(),
                problems: vec!["tenants.d/x.toml:1:1: broken".into(), "no start".into()],
                layers: vec![],
                missing_layers: vec!["seccomp".into()],
                storage: Some(StorageStatus {
                    method: "watcher".into(),
                    used: 3 << 29,
                    limit: 1 << 30,
                    full: true,
                    problem: None,
                    why_watched: Some("it has no uid".into()),
                }),
                mux_pid: Some(7),
                egress_pid: None,
                egress_died_s: None,
                servers: vec![server("main", vec![child("running")]), server("git", vec![])],
                sessions: (0..=ROWS).map(session).collect(),
                calls: 9,
                refused: 0,
                dropped: 0,
            }],
        }
    }

    #[test]
    fn what_does_not_hold_stands_first() {
        let page = render(&reply(), Paint::plain());
        let heads: Vec<&str> = page.lines().take(3).collect();
        assert_eq!(heads[0], "NOT ISOLATED: seccomp: not built yet");
        assert_eq!(heads[1], "not enforced yet: acme.toml: quota.memory");
        assert_eq!(heads[2], "problem: tenants.d/x.toml:1:1: broken");
        assert_eq!(page.matches("x.toml:1:1").count(), 1, "{page}");
        assert!(page.contains("  problem: no start\n"), "{page}");
    }

    #[test]
    fn a_server_cannot_drive_the_terminal_by_its_name() {
        let page = render(&reply(), Paint::plain());
        assert!(!page.contains('\x1b') && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains("evil\\u{1b}[2J 1.0") && page.contains("4242"), "{page}");
    }

    #[test]
    fn a_thousand_sessions_are_counted_not_listed() {
        let page = render(&reply(), Paint::plain());
        assert!(page.contains("and 1 more (--json has all)"), "{page}");
        assert!(page.lines().any(|line| line.starts_with("  git") && line.contains("idle")));
    }

    #[test]
    fn what_is_held_says_why_and_its_sessions_wait() {
        let mut reply = reply();
        for server in &mut reply.tenants[0].servers {
            server.held = Some("acme is suspended (\x1b[2J)".into());
        }
        let page = render(&reply, Paint::plain());
        assert_eq!(page.matches("  held: acme is suspended (\\u{1b}[2J)\n").count(), 1, "{page}");
        assert!(page.lines().any(|line| line.starts_with("  git") && line.contains("held")));
        assert!(page.contains("201 sessions, 1 waiting") && page.contains("  waits  "), "{page}");
    }

    #[test]
    fn what_reaches_a_network_says_so() {
        let mut reply = reply();
        reply.tenants[0].servers[0].network = "host".into();
        reply.tenants[0].servers[1].network = "db.acme.lan:5432".into();
        let page = render(&reply, Paint::plain());
        let host = "  network: host, for main: whatever this machine reaches\n";
        assert!(
            page.contains(host) && page.contains("  network: db.acme.lan:5432 for git\n"),
            "{page}"
        );
        assert!(!render(&self::reply(), Paint::plain()).contains("network:"));
    }

    #[test]
    fn nothing_to_show_is_said() {
        let mut reply = reply();
        reply.tenants.clear();
        reply.supervisor.not_isolated.clear();
        reply.supervisor.not_enforced.clear();
        reply.supervisor.problems.clear();
        let page = render(&reply, Paint::plain());
        assert!(page.starts_with("tenantd 0.1.0, user mode, pid 1, up 1h 1m"), "{page}");
        assert!(page.ends_with("no tenants that you may see\n"), "{page}");
    }
}
