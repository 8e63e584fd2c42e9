//! `completions` and `man`: what the table of commands says, for shells and for man(1).

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::args::{Cli, Completions, Man};
use super::failure::DONE;

/// `tenantd completions`
pub(super) fn completions(args: &Completions) -> anyhow::Result<u8> {
    // Into memory first: the generator panics where its writer fails, and a closed pipe is no bug.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tenantd", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(DONE)
}

/// `tenantd man`
pub(super) fn man(args: &Man) -> anyhow::Result<u8> {
    match &args.dir {
        Some(dir) => write_pages(dir),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            std::io::stdout().lock().write_all(&page)?;
            Ok(DONE)
        }
    }
}

fn write_pages(dir: &Path) -> anyhow::Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("cannot write man pages into {}", dir.display()))?;
    Ok(DONE)
}
