//! What the commands of a tenant need around them: found, and judged as a path that the tenant's file names
//! would be.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Case;
use crate::config::host::{Wrong, real};
use crate::config::problem::shown as text;
use crate::config::surroundings::{Access, Asked, Found, Needs, unreadable};
use crate::config::tenant::Server;
use crate::config::territory::Use;
use crate::paths::Mode;

/// Variables that hold lists of directories to load from.
const LIBRARIES: [&str; 3] = ["LD_LIBRARY_PATH", "NODE_PATH", "PYTHONPATH"];

/// Finds what each server's command needs; `places` are those of the commands, where there is one.
pub(super) fn fill(case: &mut Case<'_>, servers: &mut [Server], places: &[Option<Range<usize>>]) {
    let own: Vec<PathBuf> =
        case.claims.iter().filter(|(_, how, _)| how.changes()).map(|(p, ..)| p.clone()).collect();
    for (server, place) in std::iter::zip(servers, places) {
        // Without a command its absence is told; there is nothing to follow.
        let Some(place) = place.as_ref().filter(|_| server.command.is_absolute()) else { continue };
        match needs(case, server, &own, place) {
            Ok(needs) => server.needs = needs,
            Err(wrong) => case.wrong(place, wrong),
        }
    }
}

fn needs(
    case: &mut Case<'_>,
    server: &Server,
    own: &[PathBuf],
    place: &Range<usize>,
) -> Result<Needs, Wrong> {
    let mine = case.grounds.own(case.id);
    let program = real(&server.command);
    if let Some(ground) = own.iter().chain([&mine]).find(|own| program.starts_with(own)) {
        // What is there is the tenant's to change, so it is not followed; what else it needs is for
        // sandbox.read to say.
        return if server.sandbox.data_exec {
            Ok(shown(case, server))
        } else {
            Err(inside(ground))
        };
    }
    let asked = Asked {
        command: server.command.clone(),
        args: server.args.clone(),
        path: server.env.get("PATH").cloned(),
        libraries: libraries(server),
        shut: own.iter().cloned().chain([case.grounds.tenants()]).collect(),
    };
    let found = case.known.find(case.host, asked)?;
    judge(case, server, &found)?;
    for path in &found.needs.read {
        case.claims.push((path.clone(), Use::Need, place.clone()));
    }
    let mut needs = shown(case, server);
    needs.read.extend(found.needs.read);
    needs.links.extend(found.needs.links);
    needs.path = found.needs.path;
    needs.env = found.needs.env;
    let sandbox = &server.sandbox;
    needs.reduce(&[sandbox.read.as_slice(), &sandbox.write].concat());
    Ok(needs)
}

/// The directories that the server's environment names for its interpreter or the loader.
fn libraries(server: &Server) -> Vec<PathBuf> {
    let lists = LIBRARIES.iter().filter_map(|name| server.env.get(*name));
    let all = lists.flat_map(|list| std::env::split_paths(list).collect::<Vec<_>>());
    all.filter(|directory| directory.is_absolute()).collect()
}

/// The links by which the file names what it shows of the machine: inside, too, they lead there.
fn shown(case: &Case<'_>, server: &Server) -> Needs {
    let mut needs = Needs { links: case.links.clone(), ..Needs::default() };
    let sandbox = &server.sandbox;
    needs.reduce(&[sandbox.read.as_slice(), &sandbox.write].concat());
    needs
}

fn inside(ground: &Path) -> Wrong {
    let ground = text(ground);
    Wrong::new(
        format!(
            "the command is inside {ground}, which the tenant can write and where nothing is executed"
        ),
        "install it somewhere else, or set sandbox.data_exec = true",
    )
}

/// Whether the tenant may read what was found, and in system mode whether it can.
fn judge(case: &Case<'_>, server: &Server, found: &Found) -> Result<(), Wrong> {
    for path in &found.needs.read {
        if let Some(why) = case.grounds.trespass(case.id, path) {
            let path = text(path);
            let what = format!("the command needs {path}, which {why}");
            return Err(Wrong::new(what, "install it into a directory of its own somewhere else"));
        }
    }
    if case.host.mode == Mode::User {
        return Ok(());
    }
    let gids = gids(&server.sandbox.groups);
    let read = found.needs.read.iter().filter(|path| !found.programs.contains_key(*path));
    let read = read.map(|path| (path, Access::Read));
    let programs = found.programs.iter().map(|(path, access)| (path, *access));
    for (path, access) in programs.chain(read) {
        if let Some(part) = unreadable(path, access, &gids) {
            return Err(shut(path, &part, access));
        }
    }
    Ok(())
}

/// The groups by number; who is asked may be far away, so only where there are some.
fn gids(groups: &[String]) -> Vec<u32> {
    let gid = |group: &String| match group.parse() {
        Ok(gid) => Some(gid),
        Err(_) => {
            nix::unistd::Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw())
        }
    };
    groups.iter().filter_map(gid).collect()
}

fn shut(path: &Path, part: &Path, access: Access) -> Wrong {
    let [whole, part_shown] = [path, part].map(text);
    let way = if path == part { String::new() } else { format!(" ({part_shown} shuts it out)") };
    let right = match access {
        Access::Execute => "executable",
        Access::Read | Access::ExecuteScript => "readable",
    };
    let what =
        format!("{whole}, which the command needs, is not {right} by the tenant's own user{way}");
    let chmod = if path == part { "chmod o+rX" } else { "chmod o+x" };
    Wrong::new(
        what,
        format!(
            "{chmod} {part_shown}, add a group of it to sandbox.groups, or install it for all users"
        ),
    )
}
