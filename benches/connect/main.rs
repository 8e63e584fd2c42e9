//! Direct stdio against `tenantd connect`: the same child, the same client, the same run.
//!
//! Pairs are interleaved (direct, then through tenantd, again and again) and each figure is the median
//! of its rounds, so that what else the machine does meets both sides. Run by `benches/run`.

mod client;
mod memory;

#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use client::{Client, Era, together};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use support::{Home, child};

/// Rounds of each pair; odd, so that a median is one of them.
const ROUNDS: usize = 7;
/// Tenants that are opened once each, to see a start from nothing.
const COLD: usize = 9;

/// Every limit off: what is measured is the way, not a quota.
const UNLIMITED: &str = r#"
[quota]
requests_per_minute = "unlimited"
concurrent_requests = "unlimited"
sessions = "unlimited"
max_tools = "unlimited"
max_resources = "unlimited"
storage = "unlimited"
memory = "unlimited"
cpus = "unlimited"
processes = "unlimited"
open_files = "unlimited"
io = "unlimited"
"#;
/// Every default on, but for the one limit that a benchmark is there to exceed.
const DEFAULTS: &str = "\n[quota]\nrequests_per_minute = \"unlimited\"\n";

/// What stands behind a tenant.
#[derive(Clone)]
struct Server {
    name: &'static str,
    command: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    fn direct(&self) -> Command {
        let mut command = Command::new(&self.command);
        command.args(&self.arguments);
        command
    }

    fn tenant(&self, quota: &str) -> String {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        support::tenant(&self.command, &arguments) + quota
    }
}

/// One figure on both sides.
struct Pair {
    direct: f64,
    through: f64,
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("stdout");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    let at = ((times.len() - 1) as f64 * share).round() as usize;
    times[at].as_secs_f64() * 1e6
}

/// Measures both sides `rounds` times, in turn.
fn pairs<const N: usize>(
    mut direct: impl FnMut() -> [f64; N],
    mut through: impl FnMut() -> [f64; N],
) -> [Pair; N] {
    let mut found = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        found.0.push(direct());
        found.1.push(through());
    }
    std::array::from_fn(|figure| Pair {
        direct: median(found.0.iter().map(|round| round[figure]).collect()),
        through: median(found.1.iter().map(|round| round[figure]).collect()),
    })
}

/// p50 and p99 in microseconds, calls a second.
fn sequential(client: &mut Client, count: usize) -> [f64; 3] {
    let mut times = client.sequential(count);
    let whole: Duration = times.iter().sum();
    let rate = count as f64 / whole.as_secs_f64();
    [percentile(&mut times, 0.5), percentile(&mut times, 0.99), rate]
}

struct Table<'a> {
    child: &'a str,
    cores: &'a str,
    row: &'a str,
}

impl Table<'_> {
    /// Prints one line; `more` says whether more is better.
    fn line(&self, what: &str, unit: &str, pair: &Pair, more: bool) {
        let ratio = if more { pair.through / pair.direct } else { pair.through - pair.direct };
        let ratio = if more { format!("{:.0} %", ratio * 100.0) } else { format!("{ratio:+.1}") };
        let Self { child, cores, row } = self;
        let digits = if pair.direct < 1000.0 { 1 } else { 0 };
        let (direct, through) = (pair.direct, pair.through);
        say(&format!(
            "| {what} | {child} | {cores} | {row} | {direct:.digits$} {unit} | {through:.digits$} {unit} | {ratio} |"
        ));
    }
}

/// Everything but the starts, on one child.
fn throughput(home: &Home, server: &Server, tenant: &str, table: &Table<'_>, scale: usize) {
    let through = || Client::open(home.command(&["connect", tenant]));
    let mut one = (Client::open(server.direct()), through());
    one.0.sequential(scale / 10);
    one.1.sequential(scale / 10);
    let [p50, p99, rate] =
        pairs(|| sequential(&mut one.0, scale), || sequential(&mut one.1, scale));
    table.line("sequential, p50", "µs", &p50, false);
    table.line("sequential, p99", "µs", &p99, false);
    table.line("sequential, calls/s", "", &rate, true);
    let count = scale * 5;
    let window = |client: &mut Client| [count as f64 / client.in_flight(count, 16).as_secs_f64()];
    let [rate] = pairs(|| window(&mut one.0), || window(&mut one.1));
    table.line("16 in flight, calls/s", "", &rate, true);
    let count = scale / 10;
    let large = |client: &mut Client| {
        let mut times = client.large(count);
        [percentile(&mut times, 0.5)]
    };
    let [p50] = pairs(|| large(&mut one.0), || large(&mut one.1));
    table.line("100 KB results, p50", "µs", &p50, false);
    one.0.close();
    one.1.close();

    let mut direct: Vec<_> = (0..16).map(|_| Client::open(server.direct())).collect();
    let mut shared: Vec<_> = (0..16).map(|_| through()).collect();
    let count = scale * 3;
    let all = |clients: &mut [Client]| [count as f64 / together(clients, count).as_secs_f64()];
    let [rate] = pairs(|| all(&mut direct), || all(&mut shared));
    table.line("16 sessions (direct: 16 children), calls/s", "", &rate, true);
    direct.into_iter().chain(shared).for_each(Client::close);
}

/// Where client and server are of two eras: a direct connection of the server's own era against a client of
/// the other one through tenantd.
fn crossed(home: &Home, echo: &Server, cores: &str, scale: usize) {
    let cases = [
        ("legacy client, modern server", Era::Legacy, Era::Modern, "echo-modern"),
        ("modern client, legacy server", Era::Modern, Era::Legacy, "echo"),
    ];
    for (row, client, server, tenant) in cases {
        let table = Table { child: echo.name, cores, row };
        let mut command = echo.direct();
        if server == Era::Modern {
            command.arg("modern");
        }
        let through = Client::open_as(client, home.command(&["connect", tenant]));
        let mut one = (Client::open_as(server, command), through);
        let [p50, _, _] = pairs(|| sequential(&mut one.0, scale), || sequential(&mut one.1, scale));
        table.line("sequential, p50", "µs", &p50, false);
        let count = scale * 5;
        let window =
            |client: &mut Client| [count as f64 / client.in_flight(count, 16).as_secs_f64()];
        let [rate] = pairs(|| window(&mut one.0), || window(&mut one.1));
        table.line("16 in flight, calls/s", "", &rate, true);
        one.0.close();
        one.1.close();
    }
}

/// From the launch of the process to its first list of tools, milliseconds.
fn launch(command: Command) -> f64 {
    let start = Instant::now();
    let client = Client::open(command);
    let took = start.elapsed().as_secs_f64() * 1e3;
    client.close();
    took
}

fn launches(home: &Home, server: &Server, table: &Table<'_>) {
    let cold: Vec<f64> = (0..COLD)
        .map(|number| launch(home.command(&["connect", &format!("cold-{number}")])))
        .collect();
    let keep = Client::open(home.command(&["connect", "echo"]));
    let [warm] =
        pairs(|| [launch(server.direct())], || [launch(home.command(&["connect", "echo"]))]);
    table.line("launch to tools/list, warm", "ms", &warm, false);
    let cold = Pair { direct: warm.direct, through: median(cold) };
    table.line("launch to tools/list, cold (mux and child start)", "ms", &cold, false);
    keep.close();
}

/// Pins this process, and so all that it starts from here on, to one core.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).expect("a core");
    sched_setaffinity(Pid::from_raw(0), &set).expect("affinity");
}

fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let version = env!("CARGO_PKG_VERSION");
    format!("tenantd {version}, Linux {}, {model}, {cores} cores", kernel.trim())
}

fn python() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&paths).map(|path| path.join("python3")).find(|path| path.exists());
    // A shim (pyenv) would be measured with every start: ask it for the real one.
    let real =
        Command::new(found?).args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    Some(String::from_utf8(real.stdout).ok()?.trim().into())
}

fn measure(cores: &str, echo: &Server, python: Option<&Server>) {
    let home = Home::new();
    home.tenant("echo", &echo.tenant(UNLIMITED));
    home.tenant("defaults", &echo.tenant(DEFAULTS));
    (0..COLD).for_each(|number| {
        home.tenant(&format!("cold-{number}"), &echo.tenant(UNLIMITED));
    });
    home.tenant(
        "echo-modern",
        &Server { arguments: vec!["modern".to_owned()], ..echo.clone() }.tenant(UNLIMITED),
    );
    if let Some(python) = python {
        home.tenant("python", &python.tenant(UNLIMITED));
    }
    let supervisor = home.start();
    let unlimited = Table { child: echo.name, cores, row: "unlimited" };
    launches(&home, echo, &unlimited);
    throughput(&home, echo, "echo", &unlimited, 10_000);
    let defaults = Table { child: echo.name, cores, row: "defaults" };
    throughput(&home, echo, "defaults", &defaults, 10_000);
    crossed(&home, echo, cores, 10_000);
    if let Some(python) = python {
        let table = Table { child: python.name, cores, row: "unlimited" };
        throughput(&home, python, "python", &table, 3000);
    }
    supervisor.stop();
}

fn main() {
    let echo = Server { name: "std echo", command: child("echo"), arguments: Vec::new() };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/echo.py");
    let python = python().map(|command| Server {
        name: "CPython echo",
        command,
        arguments: vec![script.to_owned()],
    });
    say(&format!("{}\n", machine()));
    say("| what | child | cores | tenant | direct | connect | connect to direct |");
    say("|---|---|---|---|---:|---:|---:|");
    let everywhere = sched_getaffinity(Pid::from_raw(0)).expect("affinity");
    let core = (0..CpuSet::count()).find(|core| everywhere.is_set(*core).unwrap_or(false));
    pin(core.expect("a core"));
    measure("one", &echo, python.as_ref());
    sched_setaffinity(Pid::from_raw(0), &everywhere).expect("affinity");
    measure("all", &echo, python.as_ref());
    memory::measure(&echo.tenant(UNLIMITED));
}
