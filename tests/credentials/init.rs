//! `tenantd credential init`: a key, once, and what it opens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tenantd::wire::credential::StorePlan;

use crate::role::{Stage, account};
use crate::support::{Home, test_user};

#[test]
fn a_key_is_made_once_and_opens_what_it_closed() {
    let home = Home::new();
    let init = || {
        let output = home.run(&["credential", "init", "--user"]);
        assert!(output.status.success(), "{output:?}");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr))
    };
    let (said, warned) = init();
    let path = home.path().join("state/tenantd.key");
    assert!(said.contains(path.to_str().expect("a path")) && said.contains("encrypted-file"));
    assert!(warned.contains("beside the secrets"), "{warned}");
    let key = fs::read(&path).expect("there");
    assert_eq!(key.len(), 32);
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);

    let mut stage = Stage::new(StorePlan::EncryptedFile {
        directory: home.path().join("state/secrets"),
        key: path.clone(),
    });
    stage.uid = test_user().map(|user| user.uid.as_raw());
    stage.keep("acme", &account("token"), b"value").expect("kept");
    let (said, _) = init();
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(fs::read(&path).expect("there"), key);
    assert_eq!(stage.read("acme", &account("token")), Ok(b"value".to_vec()));

    let other = Home::new();
    assert!(other.run(&["credential", "init", "--user"]).status.success());
    assert_ne!(fs::read(other.path().join("state/tenantd.key")).expect("there"), key);
}
