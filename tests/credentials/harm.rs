//! What happens to an encrypted file: damage, kills, a full disk, several who write at once.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tenantd::post;
use tenantd::wire::credential::{Deed, Trouble};

use crate::encrypted_file::Place;
use crate::role::{account, trouble};

/// A place with one secret in it, and the bytes of its file.
fn with_one() -> (Place, Vec<u8>) {
    let place = Place::new();
    place.stage().keep("acme", &account("token"), b"value").expect("kept");
    let bytes = fs::read(place.file("acme")).expect("there");
    (place, bytes)
}

#[test]
fn a_file_that_was_cut_off_is_refused_and_left_as_it_is() {
    let (place, whole) = with_one();
    for length in [0, 1, 17, 40, whole.len() / 2, whole.len() - 1] {
        let cut = &whole[..length];
        fs::write(place.file("acme"), cut).expect("written");
        assert_eq!(trouble(place.stage().read("acme", &account("token"))), Trouble::Refused);
        assert_eq!(trouble(place.stage().keep("acme", &account("new"), b"x")), Trouble::Refused);
        assert_eq!(trouble(place.stage().forget("acme", &account("token"))), Trouble::Refused);
        assert_eq!(fs::read(place.file("acme")).expect("there"), cut, "{length} bytes");
    }
    fs::write(place.file("acme"), &whole).expect("put back");
    assert_eq!(place.stage().read("acme", &account("token")), Ok(b"value".to_vec()));
}

#[test]
fn a_bit_that_turned_gives_the_right_secret_or_none() {
    let (place, whole) = with_one();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(29) {
        let mut turned = whole.clone();
        turned[at] ^= 0x80;
        fs::write(place.file("acme"), &turned).expect("written");
        match place.stage().read("acme", &account("token")) {
            // When the file was written, and how often, is no secret and guarded by nothing.
            Ok(value) => assert_eq!(value, b"value", "byte {at}"),
            Err((kind, _)) => {
                // What says which secret it is was hit: then it is not found.
                assert!(matches!(kind, Trouble::Refused | Trouble::Missing), "byte {at}: {kind:?}");
                refused += 1;
            }
        }
        assert_eq!(fs::read(place.file("acme")).expect("there"), turned, "byte {at}");
    }
    assert!(refused * 29 > whole.len() / 2, "only {refused} of {} were seen", whole.len() / 29);
}

#[test]
fn a_role_that_is_killed_while_it_writes_loses_nothing() {
    let (place, _) = with_one();
    let mut last = b"value".to_vec();
    for round in 0..12u64 {
        let next = format!("value {round}").into_bytes();
        let value = post::seal_secret(&next).expect("sealed");
        let deed = Deed::Keep { account: account("token") };
        let mut role = place.stage().start("acme", deed, &[value.as_fd()]);
        // From before it has its key until after it is done.
        let pace = Duration::from_millis(round * round * 3);
        std::thread::sleep(pace);
        role.child.kill().expect("killed");
        role.child.wait().expect("waited");
        let now = place.stage().read("acme", &account("token")).expect("whole");
        assert!(now == last || now == next, "{}", String::from_utf8_lossy(&now));
        last = now;
    }
    place.stage().keep("acme", &account("token"), b"last").expect("kept");
    let mut names: Vec<_> = fs::read_dir(place.of("acme"))
        .expect("listed")
        .map(|entry| entry.expect("listed").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["keyring", "lock"], "what the killed ones left is swept up");
}

#[test]
fn a_full_disk_keeps_what_was_there() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    // A thread with a mount table of its own: nobody else sees this disk.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            let all = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, all, None::<&str>).expect("private");
            let disk = place.path().join("secrets");
            fs::create_dir(&disk).expect("made");
            let size = Some("size=44k,mode=0700");
            mount(Some("small"), &disk, Some("tmpfs"), MsFlags::empty(), size).expect("mounted");
            let full = |name: &str, size: usize| {
                let value = vec![b'x'; size];
                let (kind, reason) =
                    place.stage().keep("acme", &account(name), &value).expect_err("full");
                assert_eq!(kind, Trouble::Refused, "{reason}");
                assert_eq!(place.stage().read("acme", &account("token")), Ok(b"value".to_vec()));
                reason
            };
            place.stage().keep("acme", &account("token"), b"value").expect("kept");
            // The new file does not fit, then not even the copy of the old one does.
            assert!(full("large", 60 * 1024).contains("make room"));
            place.stage().keep("acme", &account("half"), &[b'x'; 24 * 1024]).expect("kept");
            let reason = full("more", 1024);
            assert!(reason.contains("No space left"), "{reason}");
            let left = fs::read_dir(place.of("acme")).expect("listed").count();
            assert_eq!(left, 2, "what could not be finished takes no room");
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn of_several_who_write_at_once_each_is_heard() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let place = &place;
            scope.spawn(move || {
                let name = format!("token-{number}");
                place.stage().keep("acme", &account(&name), name.as_bytes()).expect("kept");
            });
        }
    });
    for number in 0..6 {
        let name = format!("token-{number}");
        assert_eq!(place.stage().read("acme", &account(&name)), Ok(name.into_bytes()));
    }
}

#[test]
fn who_waits_too_long_for_the_lock_says_so_and_ends() {
    let (place, whole) = with_one();
    let _held = place.hold("acme");
    let mut stage = place.stage();
    stage.within = Duration::from_millis(300);
    assert_eq!(trouble(stage.keep("acme", &account("token"), b"new")), Trouble::TimedOut);
    assert_eq!(fs::read(place.file("acme")).expect("there"), whole);
    // Reading waits for nobody.
    assert_eq!(place.stage().read("acme", &account("token")), Ok(b"value".to_vec()));
}
