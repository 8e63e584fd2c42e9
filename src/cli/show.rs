//! `tenant show`: what a tenant's files say, each value with where it comes from.
//!
//! Reads the files as a supervisor would, without one; changes nothing. What is wrong with them is for
//! `check` to say.

use std::io::Write as _;

use super::args::Show;
use super::failure::{CONFIG, DONE, Failure};
use super::print;
use super::serve::configured;
use crate::config::{self, Setting};
use crate::names::TenantId;

/// `tenantd tenant show`: 78 where there is no such file, or none that can be read.
pub(super) fn run(args: &Show) -> anyhow::Result<u8> {
    let layout = configured(args.which, args.config.as_deref())?;
    let Some(mut settings) = config::effective(&layout, &args.tenant) else {
        let file = layout.tenant_file(&args.tenant);
        let message = format!("{} is not there or cannot be read (tenantd check)", file.display());
        return Err(Failure::new(CONFIG, message).into());
    };
    if !args.effective {
        settings.retain(|setting| setting.file == own_file(&args.tenant));
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&settings)?)?;
    } else {
        out.write_all(render(&settings, args.effective).as_bytes())?;
    }
    Ok(DONE)
}

/// The tenant's own file, as a setting names it.
fn own_file(tenant: &TenantId) -> String {
    format!("tenants.d/{tenant}.toml")
}

/// One line for each value: the key, the value, and with `origins` where it comes from.
fn render(settings: &[Setting], origins: bool) -> String {
    let widest = settings.iter().map(|setting| setting.key.chars().count()).max().unwrap_or(0);
    let mut page = String::new();
    for setting in settings {
        let (key, value) = (print::text(&setting.key), print::text(&setting.value));
        page.push_str(&format!("{key:widest$} = {value}"));
        match setting.line {
            _ if !origins => {}
            0 => page.push_str(&format!("  # {}", print::text(&setting.file))),
            line => page.push_str(&format!("  # {}:{line}", print::text(&setting.file))),
        }
        page.push('\n');
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_says_where_it_comes_from() {
        let setting = |key: &str, value: &str, file: &str, line| Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            file: file.to_owned(),
            line,
        };
        let settings = [
            setting("name", "\"Acme\"", "tenants.d/acme.toml", 1),
            setting("server.needs.read", "\"/x/\x1b[2J\"", "found for server.command", 0),
        ];
        let page = render(&settings, true);
        assert!(
            page.starts_with("name              = \"Acme\"  # tenants.d/acme.toml:1\n"),
            "{page}"
        );
        assert!(page.ends_with("  # found for server.command\n"), "{page}");
        assert!(!page.contains('\x1b'));
        assert!(!render(&settings, false).contains('#'));
    }
}
