//! A certificate authority of the house, and how a browser in a world comes to trust it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::Home;
use crate::world::World;

/// What an openssl(1) makes a key of.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// The authority, with one certificate that it has signed.
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes one, and a certificate for these names.
    pub(crate) fn new(home: &Home, names: &[&str]) -> Self {
        let authority = Self { directory: home.directory("authority") };
        authority.issue("house", "/CN=house", &[]);
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let names = format!("subjectAltName={}", names.join(","));
        let (signer, key) = (authority.file("house.pem"), authority.file("house.key"));
        let signed = ["-CA", &signer, "-CAkey", &key, "-addext", &names];
        let signed = [&signed[..], &["-addext", "basicConstraints=critical,CA:FALSE"]].concat();
        authority.issue("site", "/CN=site", &signed);
        authority
    }

    /// The key of the certificate, and the certificate.
    pub(crate) fn signed(&self) -> [PathBuf; 2] {
        ["site.key", "site.pem"].map(|name| self.directory.join(name))
    }

    /// Makes it known to every Chromium of the world: a policy, as `docs/servers.md` says it.
    pub(crate) fn trusted_in(&self, world: &World) {
        let pem = fs::read_to_string(self.directory.join("house.pem")).expect("a certificate");
        let der: String = pem.lines().filter(|line| !line.contains("-----")).collect();
        let managed = self.directory.join("chromium/policies/managed");
        fs::create_dir_all(&managed).expect("made");
        let policy = json!({"CACertificates": [der]}).to_string();
        fs::write(managed.join("house.json"), policy).expect("written");
        let [nsenter, arguments @ ..] = world.entering();
        let mut bind = Command::new(nsenter);
        bind.args(arguments).args(["mount", "--bind"]);
        run(bind.arg(self.directory.join("chromium")).arg("/etc/chromium"));
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn issue(&self, name: &str, subject: &str, more: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-days", "2", "-subj", subject]).args(KEY).args(more);
        openssl.args(["-keyout", &self.file(&format!("{name}.key"))]);
        run(openssl.args(["-out", &self.file(&format!("{name}.pem"))]));
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().expect("started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
