//! The shape of the source: floors, the one unsafe file, the size of files, what is never left in.

#![allow(missing_docs, reason = "a test binary has no API")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file.
const LINES_MAX: usize = 400;
/// Where the source is.
const ALL: [&str; 4] = ["src", "tests", "benches", "fuzz/fuzz_targets"];
/// Files that may be longer, each with its reason.
const LONGER: [(&str, &str); 2] = [
    ("src/wire.rs", "data only: the whole conversation of two processes in one place"),
    ("src/sys.rs", "unsafe code has one address"),
];
/// Unsafe code has one address.
const UNSAFE: &str = "src/sys.rs";
/// The door and the map: they name every room and are no room themselves.
const NOT_ROOMS: [&str; 2] = ["main", "lib"];

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

impl Source {
    /// The room that the file belongs to: the first component below `src`.
    fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let room = below.split('/').next().unwrap_or(below);
        Some(room.strip_suffix(".rs").unwrap_or(room))
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(directories: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    directories.iter().for_each(|directory| collect(&root.join(directory), &mut paths));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let path = path.strip_prefix(root).expect("below the root").display().to_string();
        Source { path, text }
    };
    paths.into_iter().map(read).collect()
}

/// A room's place: its floor, and how many rooms of that floor stand before it.
type Place = (u32, usize);

/// Rooms and their places, from the table in `src/lib.rs`: ``| 1 papers | [`config`], ... |``.
fn places() -> BTreeMap<String, Place> {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let mut places = BTreeMap::new();
    for line in map.expect("src/lib.rs").lines() {
        let Some(row) = line.strip_prefix("//! | ") else { continue };
        let Some((name, rooms)) = row.split_once('|') else { continue };
        let Some(floor) = name.split_whitespace().next().and_then(|word| word.parse().ok()) else {
            continue;
        };
        let rooms = rooms.split("[`").skip(1).filter_map(|room| room.split_once('`'));
        places.extend(rooms.enumerate().map(|(at, (room, _))| (room.to_owned(), (floor, at))));
    }
    places
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// The rooms that a line of code names: `crate::room`, `tenantd::room`, and each of `crate::{a, b::c}`.
fn rooms_named(text: &str) -> Vec<(usize, String)> {
    let code: String = text.lines().map(|line| format!("{}\n", code(line))).collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => group_heads(group),
            None => vec![head(rest)],
        };
        found.extend(names.into_iter().map(|name| (line, name)));
    }
    found
}

fn head(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each path of a `use` group, up to the group's end.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = vec![head(group)];
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(head(&group[at + 1..])),
            _ => {}
        }
    }
    heads.retain(|name| !name.is_empty());
    heads
}

#[test]
fn every_room_has_a_floor() {
    let places = places();
    for source in sources(&["src"]) {
        let room = source.room().expect("below src").to_owned();
        let known = places.contains_key(&room) || NOT_ROOMS.contains(&room.as_str());
        assert!(known, "{}: give {room} a floor in the table of src/lib.rs first", source.path);
    }
}

/// Lower floors, and on its own floor only what stands before it in the table: so arrows point down, and
/// no two rooms import each other.
#[test]
fn a_room_imports_only_what_lies_below_it() {
    let places = places();
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        let room = source.room().expect("below src");
        let Some(place) = places.get(room) else { continue };
        for (line, named) in rooms_named(&source.text) {
            let Some(other) = places.get(&named) else { continue };
            if named != room && other >= place {
                let (floor, other) = (place.0, other.0);
                let path = &source.path;
                wrong.push(format!(
                    "{path}:{line}: {room} (floor {floor}) imports {named} (floor {other})"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_look_at_imports_sees_every_way_to_write_one() {
    let text = "use crate::auth;\nuse crate::{names::{A, B}, wire,\n mux::c};\nlet x = crate::cli::y(); // crate::no";
    let named: Vec<_> = rooms_named(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(named, ["auth", "names", "wire", "mux", "cli"]);
    assert_eq!(places().get("names"), Some(&(0, 0)));
    assert_eq!(places().get("cli"), Some(&(6, 0)));
}

#[test]
fn unsafe_has_one_address() {
    // Spelled in two parts, so that this file does not find itself.
    let words = [concat!("unsa", "fe {"), concat!("unsa", "fe fn"), concat!("unsa", "fe impl")];
    let allow = concat!("allow(unsa", "fe_code");
    for source in sources(&ALL) {
        if source.path == UNSAFE {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let found = words.iter().any(|word| code(line).contains(word)) || line.contains(allow);
            assert!(!found, "{}:{}: unsafe code belongs in {UNSAFE}", source.path, number + 1);
        }
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    let all = sources(&ALL);
    for source in &all {
        let lines = source.text.lines().count();
        let excused = LONGER.iter().any(|(path, _)| *path == source.path);
        assert!(lines <= LINES_MAX || excused, "{} has {lines} lines: split it", source.path);
    }
    for (path, reason) in LONGER {
        let source = all.iter().find(|source| source.path == path);
        let long = source.is_some_and(|source| source.text.lines().count() > LINES_MAX);
        assert!(long, "{path} needs no excuse any more ({reason})");
    }
}

#[test]
fn every_file_says_what_it_is() {
    for source in sources(&ALL) {
        assert!(source.text.starts_with("//! "), "{} does not open with //!", source.path);
    }
}

#[test]
fn nothing_unfinished_is_left_in() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    for source in sources(&ALL) {
        for (number, line) in source.text.lines().enumerate() {
            let mark = marks.iter().find(|mark| line.contains(**mark));
            assert!(mark.is_none(), "{}:{}: {mark:?} is left in", source.path, number + 1);
        }
    }
}
