//! `tenantd check`: the whole configuration, read as a supervisor would read it, without one.
//!
//! Prints what this version does not enforce, every problem of every file, and one line to sum up.
//! Changes nothing and starts nothing.

use std::io::Write;

use serde_json::json;

use super::lending;
use crate::config::{self, Loaded};
use crate::paths::Layout;

/// sysexits(3): something was found in an unconfigured or misconfigured state.
const EX_CONFIG: u8 = 78;

/// Checks the configuration of `layout`; the exit code is 0, or 78 if anything is wrong.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(layout: &Layout, json: bool) -> anyhow::Result<u8> {
    let mut loaded = config::load(layout);
    let lent = lending::look(layout, &mut loaded);
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &machine(&loaded, &lent, layout))?;
        writeln!(out)?;
    } else {
        person(&loaded, &lent, layout, &mut out)?;
    }
    out.flush()?;
    Ok(if loaded.problems.is_empty() { 0 } else { EX_CONFIG })
}

/// `file: field, field` for each file that sets something without effect in this version.
fn not_enforced(loaded: &Loaded) -> Vec<(String, &[String])> {
    let main = loaded.settings.iter().map(|set| ("tenantd.toml".to_owned(), &set.not_enforced));
    let tenants = loaded.tenants.values().filter_map(|tenant| tenant.as_ref().ok());
    let tenants =
        tenants.map(|tenant| (format!("tenants.d/{}.toml", tenant.id), &tenant.not_enforced));
    let all = main.chain(tenants).map(|(file, fields)| (file, fields.as_slice()));
    all.filter(|(_, fields)| !fields.is_empty()).collect()
}

fn person(
    loaded: &Loaded,
    lent: &[String],
    layout: &Layout,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let idle = not_enforced(loaded);
    if !idle.is_empty() {
        writeln!(out, "NOT ENFORCED by this version (checked, but without effect):")?;
        for (file, fields) in idle {
            writeln!(out, "  {file}: {}", fields.join(", "))?;
        }
        writeln!(out)?;
    }
    for line in lent {
        writeln!(out, "{line}")?;
    }
    for problem in &loaded.problems {
        writeln!(out, "{problem}")?;
    }
    if !loaded.problems.is_empty() {
        writeln!(out)?;
    }
    let good = loaded.tenants.values().filter(|tenant| tenant.is_ok()).count();
    let broken = loaded.tenants.len() - good;
    let config = layout.config.display();
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let good = count(good, "tenant");
    match loaded.problems.len() {
        0 => writeln!(out, "{config}: {good}, no problems"),
        n => writeln!(out, "{config}: {good} good, {broken} broken, {}", count(n, "problem")),
    }
}

fn machine(loaded: &Loaded, lent: &[String], layout: &Layout) -> serde_json::Value {
    let ids = |good: bool| -> Vec<_> {
        let tenants = loaded.tenants.iter().filter(|(_, tenant)| tenant.is_ok() == good);
        tenants.map(|(id, _)| id).collect()
    };
    let idle: serde_json::Map<_, _> =
        not_enforced(loaded).into_iter().map(|(file, fields)| (file, json!(fields))).collect();
    json!({
        "config": layout.config,
        "mode": layout.mode.as_str(),
        "good": ids(true),
        "broken": ids(false),
        "not_enforced": idle,
        "data": lent,
        "problems": loaded.problems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Mode;

    fn said(files: &[(&str, &str)]) -> (String, serde_json::Value) {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        std::fs::create_dir_all(layout.tenants()).expect("mkdir");
        for (name, text) in files {
            std::fs::write(layout.config.join(name), text).expect("a file");
        }
        let loaded = config::load(&layout);
        let mut out = Vec::new();
        person(&loaded, &[], &layout, &mut out).expect("written");
        (String::from_utf8(out).expect("UTF-8"), machine(&loaded, &[], &layout))
    }

    #[test]
    fn what_is_not_enforced_heads_the_output_and_a_line_sums_up() {
        let acme = "[server]\ncommand = \"sh\"\n[tools]\nrequire = { x = \"y\" }\n";
        let files = [("tenants.d/acme.toml", acme), ("tenants.d/globex.toml", "x = 1\n")];
        let (text, json) = said(&files);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("NOT ENFORCED"), "{text}");
        assert_eq!(lines[1], "  tenants.d/acme.toml: tools.require");
        assert!(lines.iter().any(|line| line.starts_with("tenants.d/globex.toml:1:1: ")), "{text}");
        assert!(text.ends_with("config: 1 tenant good, 1 broken, 2 problems\n"), "{text}");
        assert_eq!(json["good"], json!(["acme"]));
        assert_eq!(json["problems"][0]["file"], "tenants.d/globex.toml");
    }

    #[test]
    fn without_problems_it_says_so() {
        let (text, _) = said(&[("tenants.d/acme.toml", "[server]\ncommand = \"sh\"\n")]);
        assert!(text.ends_with("config: 1 tenant, no problems\n"), "{text}");
    }
}
