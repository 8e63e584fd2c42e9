//! The count against trees that were made to mislead it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

const MEG: u64 = 1 << 20;

fn counted(path: &Path) -> Result<u64, Unseen> {
    let mut walk = Walk::until(u64::MAX);
    walk.add(open_top(path).expect("opened").expect("there"))?;
    Ok(walk.bytes())
}

fn bytes(path: &Path) -> u64 {
    counted(path).expect("counted")
}

fn tree() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A file with `size` bytes that are really on disk.
fn fill(path: &Path, size: u64) {
    let size = usize::try_from(size).expect("a size");
    // Random: a file system that compresses must not make less of it.
    let mut seed = 1_u64;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    });
    fs::write(path, noise.take(size).collect::<Vec<_>>()).expect("written");
    File::open(path).expect("opened").sync_all().expect("on disk");
}

/// That a count is what it was before and `more`, give or take what directories grow by.
#[track_caller]
fn grew(before: u64, after: u64, more: u64) {
    let slack = 64 * 1024;
    assert!(after >= before + more && after <= before + more + slack, "{before} + {more}: {after}");
}

#[test]
fn what_is_written_counts_wherever_it_is_in_the_tree() {
    let tree = tree();
    let empty = bytes(tree.path());
    fs::create_dir_all(tree.path().join("a/b/c")).expect("made");
    fill(&tree.path().join("a/b/c/file"), MEG);
    fill(&tree.path().join("file"), MEG);
    grew(empty, bytes(tree.path()), 2 * MEG);
}

#[test]
fn a_file_with_several_names_counts_once_also_across_trees() {
    let (one, other) = (tree(), tree());
    let before = bytes(one.path());
    fill(&one.path().join("file"), MEG);
    for n in 0..9 {
        fs::hard_link(one.path().join("file"), one.path().join(n.to_string())).expect("linked");
    }
    grew(before, bytes(one.path()), MEG);
    fs::hard_link(one.path().join("file"), other.path().join("same")).expect("linked");
    let mut walk = Walk::until(u64::MAX);
    for tree in [&one, &other] {
        walk.add(open_top(tree.path()).expect("opened").expect("there")).expect("counted");
    }
    grew(2 * before, walk.bytes(), MEG);
}

#[test]
fn a_hole_is_nothing() {
    let tree = tree();
    let before = bytes(tree.path());
    File::create(tree.path().join("sparse")).and_then(|file| file.set_len(1 << 40)).expect("made");
    grew(before, bytes(tree.path()), 0);
}

#[test]
fn links_are_not_followed() {
    let (inside, outside) = (tree(), tree());
    let before = bytes(inside.path());
    fill(&outside.path().join("file"), MEG);
    symlink(outside.path(), inside.path().join("out")).expect("a link");
    symlink(outside.path().join("file"), inside.path().join("file")).expect("a link");
    symlink(".", inside.path().join("again")).expect("a link");
    grew(before, bytes(inside.path()), 0);
    assert!(open_top(&inside.path().join("out")).is_err(), "nor at the top");
}

#[test]
fn fifos_and_sockets_do_not_hold_it_up() {
    let tree = tree();
    nix::unistd::mkfifo(&tree.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let _socket =
        std::os::unix::net::UnixListener::bind(tree.path().join("socket")).expect("bound");
    assert!(bytes(tree.path()) >= 2 * 512);
}

#[test]
fn a_tree_as_deep_as_any_is_counted_and_a_deeper_one_is_full() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let tree = tree();
    let mut here = open_top(tree.path()).expect("opened").expect("there");
    for level in 1..=300 {
        if level == 256 {
            counted(tree.path()).expect("255 levels below the top are counted");
        }
        mkdirat(&here, "d", Mode::RWXU).expect("made");
        here = openat(&here, "d", OFlags::DIRECTORY, Mode::empty()).expect("opened");
    }
    assert_eq!(counted(tree.path()), Err(Unseen::TooDeep));
    let measure = measure(open(&[tree.path()]).expect("opened"), None, 1 << 40);
    assert!(measure.is_full(1 << 40), "what nobody can count is full: {measure:?}");
}

#[test]
fn a_directory_that_was_closed_to_us_is_no_way_to_hide() {
    if nix::unistd::geteuid().is_root() {
        // Nothing is closed to root.
        return;
    }
    let tree = tree();
    for mode in [0o000, 0o300, 0o600] {
        let closed = tree.path().join(format!("{mode:o}"));
        fs::create_dir(&closed).expect("made");
        fill(&closed.join("file"), MEG);
        fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).expect("closed");
        assert_eq!(counted(tree.path()), Err(Unseen::Closed), "{mode:o}");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("opened");
        assert!(bytes(tree.path()) >= MEG);
        fs::remove_dir_all(&closed).expect("removed");
    }
}

#[test]
fn files_that_come_and_go_meanwhile_do_no_harm() {
    let tree = tree();
    let end = std::sync::atomic::AtomicBool::new(false);
    let go_on = || !end.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let place = tree.path().join(format!("w{worker}"));
            scope.spawn(move || {
                while go_on() {
                    fs::create_dir_all(place.join("deep/deeper")).expect("made");
                    fs::write(place.join("deep/deeper/file"), [0; 5000]).expect("written");
                    fs::rename(place.join("deep/deeper"), place.join("moved")).expect("moved");
                    fs::remove_dir_all(&place).expect("removed");
                    // A link in the place of what was a directory.
                    symlink("/usr", &place).expect("a link");
                    fs::remove_file(&place).expect("removed");
                }
            });
        }
        let counts: Vec<_> = (0..3000).map(|_| counted(tree.path())).collect();
        end.store(true, std::sync::atomic::Ordering::Relaxed);
        for count in counts {
            assert!(count.expect("counted") < MEG);
        }
    });
}

#[test]
fn the_count_ends_when_it_has_seen_enough() {
    let tree = tree();
    for n in 0..64 {
        File::create(tree.path().join(n.to_string())).expect("made");
    }
    let mut walk = Walk::until(10 * 512 + 4096);
    walk.add(open_top(tree.path()).expect("opened").expect("there")).expect("counted");
    assert!(walk.bytes() < 20 * 512 + 8192, "{}", walk.bytes());
    assert!(bytes(tree.path()) >= 64 * 512, "an empty file is an inode");
}

#[test]
fn another_file_system_inside_is_not_counted() {
    // /dev/shm, /dev/pts, /dev/mqueue are others than /dev wherever they are mounted at all.
    let inside = Path::new("/dev/shm");
    let device =
        |path: &Path| std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).expect("there"));
    if !inside.is_dir() || device(inside) == device(Path::new("/dev")) {
        return;
    }
    let file = tempfile::NamedTempFile::new_in(inside).expect("a file");
    fill(file.path(), 8 * MEG);
    assert!(bytes(Path::new("/dev")) < 8 * MEG);
}

#[test]
fn looks_come_sooner_the_less_room_there_is_and_are_never_a_load() {
    let measure = |used, took| Measure {
        method: Method::Watcher,
        used,
        unseen: None,
        why_watched: None,
        took: Duration::from_millis(took),
    };
    let limit = 1 << 30;
    let next = |used, took| measure(used, took).next_look(limit);
    assert_eq!(next(0, 1), Duration::from_secs(30));
    assert_eq!(next(limit - (64 << 20), 1), Duration::from_secs(2));
    assert_eq!(next(limit + 5, 1), Duration::from_secs(1));
    assert_eq!(next(limit, 500), Duration::from_secs(10));
    assert!(measure(limit, 1).is_full(limit) && !measure(limit - 1, 1).is_full(limit));
}

#[test]
fn without_a_number_of_its_own_a_tenant_is_watched_and_the_reason_is_said() {
    let tree = tree();
    let tops = open(&[tree.path(), &tree.path().join("not there")]).expect("opened");
    assert_eq!(tops.len(), 1);
    let measure = measure(tops, None, MEG);
    assert_eq!(measure.method, Method::Watcher);
    assert!(measure.why_watched.is_some_and(|why| why.contains("no project")));
}
