//! `serve` and `check`: which layout is meant, with the options put over it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::args::{Check, Serve, Which};
use super::failure::DONE;
use super::rooms;
use crate::paths::{Layout, Mode};
use crate::supervisor;

/// `tenantd serve`: for root the system's supervisor, for anyone else their own, unless said otherwise.
pub(super) fn run(args: Serve) -> anyhow::Result<u8> {
    let root = nix::unistd::geteuid().is_root();
    let mode = chosen(args.which).unwrap_or(if root { Mode::System } else { Mode::User });
    let mut layout = rooms::layout(mode)?;
    replace(&mut layout.config, args.config.as_deref())?;
    replace(&mut layout.runtime, args.socket.as_deref())?;
    rooms::serve(supervisor::Options { layout, idle_exit: args.idle_exit })?;
    Ok(DONE)
}

/// `tenantd check`: the user's configuration where there is one, else the system's.
pub(super) fn check(args: &Check) -> anyhow::Result<u8> {
    rooms::check(&configured(args.which, args.config.as_deref())?, args.json)
}

/// The layout whose configuration is meant: the user's where there is one, else the system's.
pub(super) fn configured(which: Which, config: Option<&Path>) -> anyhow::Result<Layout> {
    let mut layout = match chosen(which) {
        Some(mode) => rooms::layout(mode)?,
        None => {
            let user = rooms::layout(Mode::User)?;
            if user.config.exists() || config.is_some() {
                user
            } else {
                rooms::layout(Mode::System)?
            }
        }
    };
    replace(&mut layout.config, config)?;
    Ok(layout)
}

fn chosen(which: Which) -> Option<Mode> {
    match which {
        Which { user: true, .. } => Some(Mode::User),
        Which { system: true, .. } => Some(Mode::System),
        Which { .. } => None,
    }
}

/// Puts an option over a path; absolute, because a supervisor's working directory is `/`.
fn replace(path: &mut PathBuf, option: Option<&Path>) -> anyhow::Result<()> {
    if let Some(option) = option {
        *path = std::path::absolute(option)
            .with_context(|| format!("cannot make {} absolute", option.display()))?;
    }
    Ok(())
}
