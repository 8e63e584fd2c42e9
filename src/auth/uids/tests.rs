//! The table under random lives, crashes and damage.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

/// Ten tenants, and one for trying out.
const RANGE: (u32, u32) = (2_000_000_000, 2_000_000_030);

struct Ground {
    dir: tempfile::TempDir,
    table: PathBuf,
    tenants: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (table, tenants) = (dir.path().join("uids.json"), dir.path().join("tenants"));
        fs::create_dir(&tenants).expect("made");
        Self { dir, table, tenants }
    }

    fn settle(&self, tenants: &[&str]) -> Uids {
        self.settle_in(RANGE, tenants)
    }

    fn settle_in(&self, range: (u32, u32), tenants: &[&str]) -> Uids {
        let tenants: Vec<_> = tenants.iter().map(|name| id(name)).collect();
        let place = Place { table: &self.table, tenants: &self.tenants };
        settle(place, range, &tenants, &Survey::default(), Care::Reload)
    }
}

fn id(name: &str) -> TenantId {
    TenantId::parse(name).expect("a tenant id")
}

#[test]
fn a_tenant_that_comes_back_finds_its_uids_and_nobody_else_was_given_them() {
    let ground = Ground::new();
    let first = ground.settle(&["acme", "globex"]);
    let acme = first.of(&id("acme")).expect("uids");
    assert_eq!(acme, Identities::from(RANGE.0));
    // Gone, while others come.
    let others = ground.settle(&["globex", "initech"]);
    assert_eq!(others.of(&id("initech")).expect("uids"), Identities::from(RANGE.0 + 6));
    let back = ground.settle(&["acme"]);
    assert_eq!(back.of(&id("acme")).expect("uids"), acme);
    let mode = ground.table.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_range_without_room_says_so_and_who_has_uids_keeps_them() {
    let ground = Ground::new();
    let names: Vec<String> = (0..11).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(ground.settle(&names[..10]).trouble().is_none());
    let full = ground.settle(&names);
    assert!(matches!(full.trouble(), Some((UidsError::Exhausted(..), _))), "{full:?}");
    assert!(
        full.of(&id("t10")).expect_err("none").contains("uid_range = [2000000000, 2000000060]")
    );
    assert_eq!(full.known(&id("t9")), Some(Identities::from(RANGE.0 + 27)));
    assert_eq!(full.known(&id("t10")), None);
    // A wider range goes on behind the old one.
    let wider = ground.settle_in((RANGE.0, RANGE.1 + 3), &names);
    assert_eq!(wider.of(&id("t10")).expect("uids"), Identities::from(RANGE.0 + 30));
}

#[test]
fn a_range_that_leaves_somebody_out_starts_nobody() {
    let ground = Ground::new();
    ground.settle(&["acme"]);
    let moved = ground.settle_in((2_000_000_002, 2_000_000_050), &["acme", "globex"]);
    let error = moved.of(&id("globex")).expect_err("refused");
    assert!(error.contains("leaves out uid 2000000000") && error.contains("acme"), "{error}");
    assert!(error.contains("write uid_range = [2000000000, "), "{error}");
}

#[test]
fn a_damaged_or_lost_table_gives_uids_to_nobody() {
    let ground = Ground::new();
    ground.settle(&["acme"]);
    let good = fs::read_to_string(&ground.table).expect("there");
    let twice = good.replace("2000000001", "2000000000");
    let root = good.replace("2000000001", "0");
    for damaged in
        ["", "{", &good[..good.len() / 2], "{\"version\":2,\"tenants\":{}}", &twice, &root]
    {
        fs::write(&ground.table, damaged).expect("written");
        let uids = ground.settle(&["acme"]);
        assert!(matches!(uids.trouble(), Some((UidsError::Table { .. }, _))), "{damaged:?}");
        assert!(uids.of(&id("acme")).is_err(), "{damaged:?}");
        assert_eq!(fs::read_to_string(&ground.table).expect("there"), damaged, "left as it is");
    }
    fs::remove_file(&ground.table).expect("removed");
    std::os::unix::fs::symlink("/dev/null", &ground.table).expect("a link");
    assert!(ground.settle(&["acme"]).of(&id("acme")).is_err(), "a link in its place");
}

#[test]
fn a_table_that_is_gone_while_files_of_its_uids_are_not_is_no_first_start() {
    let ground = Ground::new();
    let data = ground.tenants.join("acme/data");
    fs::create_dir_all(&data).expect("made");
    let mine = data.metadata().expect("there").uid();
    let lost = ground.settle_in((mine, mine + 10), &["acme"]);
    assert!(lost.of(&id("acme")).expect_err("refused").contains("is gone"), "{lost:?}");
    assert!(ground.settle_in((mine + 1, mine + 10), &["acme"]).trouble().is_none());
}

#[test]
fn a_crash_between_writing_and_moving_leaves_the_old_table() {
    let ground = Ground::new();
    let acme = ground.settle(&["acme"]).of(&id("acme")).expect("uids");
    let beside = ground.dir.path().join("uids.json.new");
    fs::write(&beside, "{\"version\":1,\"tenants\":{\"globex\":").expect("written");
    let uids = ground.settle(&["acme", "globex"]);
    assert_eq!(uids.of(&id("acme")).expect("uids"), acme);
    assert_eq!(uids.of(&id("globex")).expect("uids"), Identities::from(RANGE.0 + 3));
    assert!(!beside.exists());
}

#[test]
fn what_could_not_be_written_was_not_given() {
    let ground = Ground::new();
    ground.settle(&["acme"]);
    // Something that cannot be opened for writing stands where the new table is to be.
    fs::create_dir(ground.dir.path().join("uids.json.new")).expect("made");
    let uids = ground.settle(&["acme", "globex"]);
    assert!(matches!(uids.trouble(), Some((UidsError::Unwritable(..), _))), "{uids:?}");
    assert_eq!(uids.known(&id("globex")), None);
    assert!(uids.known(&id("acme")).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However tenants come and go, however often the table is read anew, and wherever a write is cut off.
    #[test]
    fn no_uid_ever_has_two_owners(
        rounds in prop::collection::vec((prop::collection::btree_set(0..20_u8, 0..6), any::<bool>()), 1..12),
    ) {
        let ground = Ground::new();
        let mut owners: BTreeMap<u32, String> = BTreeMap::new();
        for (present, cut) in rounds {
            let names: Vec<String> = present.iter().map(|n| format!("t{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if cut {
                fs::write(ground.dir.path().join("uids.json.new"), "{\"vers").expect("written");
            }
            let uids = ground.settle_in((RANGE.0, RANGE.0 + 44), &names);
            for name in names {
                let Ok(identities) = uids.of(&id(name)) else {
                    prop_assert!(matches!(uids.trouble(), Some((UidsError::Exhausted(..), _))));
                    continue;
                };
                for uid in identities.all() {
                    let owner = owners.entry(uid).or_insert_with(|| name.to_owned());
                    prop_assert_eq!(owner.as_str(), name);
                    prop_assert!((RANGE.0..=RANGE.0 + 44).contains(&uid));
                }
            }
        }
    }
}
