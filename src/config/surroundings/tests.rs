//! Made-up homes, laid out as version managers and installers lay them out.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::paths::Mode;

/// A home directory below a temporary one.
struct Home {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("a path").join("home/alice");
        fs::create_dir_all(&path).expect("a home");
        Self { _dir: dir, path }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.at(path)).expect("mkdir");
        self
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        fs::create_dir_all(self.at(path).parent().expect("a parent")).expect("mkdir");
        fs::write(self.at(path), text.replace('~', self.path.to_str().expect("UTF-8")))
            .expect("a file");
        fs::set_permissions(self.at(path), Permissions::from_mode(0o755)).expect("chmod");
        self
    }

    /// Machine code, by its first bytes.
    fn elf(&self, path: &str) -> &Self {
        self.file(path, "\x7fELF\x02\x01")
    }

    fn link(&self, path: &str, says: &str) -> &Self {
        fs::create_dir_all(self.at(path).parent().expect("a parent")).expect("mkdir");
        symlink(says.replace('~', self.path.to_str().expect("UTF-8")), self.at(path))
            .expect("a link");
        self
    }

    fn host(&self) -> Host {
        Host { mode: Mode::User, home: Some(self.path.clone()), program: None }
    }

    fn find(&self, command: &str, args: &[&str]) -> Result<Needs, Wrong> {
        let args = args.iter().map(|arg| arg.replace('~', self.path.to_str().expect("UTF-8")));
        let args = args.collect();
        let command = if command.starts_with('/') { command.into() } else { self.at(command) };
        let asked = Asked { command, args, shut: vec![self.at("shut")], ..Asked::default() };
        Known::default().find(&self.host(), asked).map(|found| found.needs)
    }

    /// What a command reads, seen from the home.
    fn reads(&self, command: &str, args: &[&str]) -> Vec<String> {
        self.below(&self.find(command, args).expect("found").read)
    }

    fn below(&self, paths: &[PathBuf]) -> Vec<String> {
        let below = |path: &PathBuf| match path.strip_prefix(&self.path) {
            Ok(below) => below.display().to_string(),
            Err(_) => path.display().to_string(),
        };
        paths.iter().map(below).collect()
    }

    fn links(&self, needs: &Needs) -> Vec<String> {
        self.below(&needs.links.keys().cloned().collect::<Vec<_>>())
    }
}

const NVM: &str = ".nvm/versions/node/v22.1.0";

fn nvm() -> Home {
    let home = Home::new();
    home.elf(&format!("{NVM}/bin/node"))
        .dir(&format!("{NVM}/lib/node_modules"))
        .dir(&format!("{NVM}/include"));
    home.file(&format!("{NVM}/lib/node_modules/@mcp/files/dist/index.js"), "#!/usr/bin/env node\n");
    home.file(&format!("{NVM}/lib/node_modules/@mcp/files/package.json"), "{}");
    home.link(&format!("{NVM}/bin/mcp-files"), "../lib/node_modules/@mcp/files/dist/index.js");
    home
}

#[test]
fn nvm_brings_its_version_and_the_node_beside_the_script() {
    let home = nvm();
    let needs = home.find(&format!("{NVM}/bin/mcp-files"), &[]).expect("found");
    assert_eq!(home.below(&needs.read), [NVM]);
    assert_eq!(home.below(&needs.path), [format!("{NVM}/bin")]);
    assert_eq!(home.links(&needs), [""; 0], "the links are inside what is read");
}

#[test]
fn links_outside_of_what_is_read_are_part_of_the_answer() {
    let home = nvm();
    home.link(".nvm/current", "versions/node/v22.1.0");
    home.link(".local/bin/files", "../../.nvm/current/bin/mcp-files");
    let needs = home.find(".local/bin/files", &[]).expect("found");
    assert_eq!(home.below(&needs.read), [NVM]);
    assert_eq!(home.links(&needs), [".local/bin/files", ".nvm/current"]);
    assert_eq!(needs.links[&home.at(".nvm/current")], Path::new("versions/node/v22.1.0"));
    // The node that the first line means is the one beside where the script's link leads.
    assert_eq!(needs.path, [home.at(&format!("{NVM}/bin"))]);
}

#[test]
fn node_itself_as_the_command_brings_the_script_it_is_given() {
    let home = nvm();
    home.file("work/app/dist/server.js", "").file("work/app/package.json", "{}");
    home.file("work/app/node_modules/zod/index.js", "").file("secret/key.json", "");
    let reads = home.reads(
        &format!("{NVM}/bin/node"),
        &["--no-warnings", "~/work/app/dist/server.js", "~/secret/key.json"],
    );
    assert_eq!(reads, [NVM, "work/app"]);
}

#[test]
fn a_checkout_loads_from_the_trees_above_it_and_from_linked_packages() {
    let home = nvm();
    home.file("mono/packages/server/dist/index.js", "")
        .file("mono/packages/server/package.json", "{}");
    home.file("mono/packages/shared/package.json", "{}").file("mono/packages/shared/index.js", "");
    home.file("mono/node_modules/zod/index.js", "").file("mono/.env", "SECRET=1");
    home.link("mono/node_modules/@org/shared", "../../packages/shared");
    home.link("mono/node_modules/linked", "../../elsewhere/linked");
    home.file("elsewhere/linked/package.json", "{}").file("elsewhere/other/package.json", "{}");
    home.dir("elsewhere/node_modules");
    home.link("mono/node_modules/broken", "../../nowhere");
    let reads = home.reads(&format!("{NVM}/bin/node"), &["~/mono/packages/server/dist/index.js"]);
    let expected = [
        NVM,
        "elsewhere/linked",
        "elsewhere/node_modules",
        "mono/node_modules",
        "mono/packages/server",
        "mono/packages/shared",
    ];
    assert_eq!(reads, expected);
}

#[test]
fn a_global_prefix_of_npm_runs_by_the_systems_node_and_npm_link_leads_to_the_checkout() {
    let home = Home::new();
    home.file(".npm-global/lib/node_modules/mcp/index.js", "#!/usr/bin/env sh\n");
    home.link(".npm-global/bin/mcp", "../lib/node_modules/mcp/index.js");
    home.file("work/mine/index.js", "#!/usr/bin/env -S node --no-warnings\n");
    home.file("work/mine/package.json", "{}").dir("work/other");
    home.link(".npm-global/lib/node_modules/mine", "../../../work/mine");
    home.link(".npm-global/lib/node_modules/other", "../../../work/other");
    home.link(".npm-global/bin/mine", "../lib/node_modules/mine/index.js");
    home.elf(".npm-global/bin/node");
    let needs = home.find(".npm-global/bin/mine", &[]).expect("found");
    assert_eq!(home.below(&needs.read), [".npm-global", "work/mine"]);
    assert_eq!(home.links(&needs), [""; 0]);
    assert_eq!(
        home.reads(".npm-global/bin/mcp", &[]),
        [".npm-global/lib/node_modules/mcp/index.js"]
    );
}

#[test]
fn pnpm_brings_the_store_that_its_packages_link_to() {
    let home = nvm();
    let global = ".local/share/pnpm/global/5";
    let real = format!("{global}/.pnpm/mcp@1.0.0/node_modules/mcp");
    home.file(&format!("{real}/dist/index.js"), "").file(&format!("{real}/package.json"), "{}");
    home.file(&format!("{global}/.pnpm/zod@3.0.0/node_modules/zod/index.js"), "");
    home.link(
        &format!("{global}/.pnpm/mcp@1.0.0/node_modules/zod"),
        "../../zod@3.0.0/node_modules/zod",
    );
    home.link(&format!("{global}/node_modules/mcp"), "../.pnpm/mcp@1.0.0/node_modules/mcp");
    home.file(
        ".local/share/pnpm/mcp",
        "#!/bin/sh\nbasedir=$(dirname \"$0\")\nif [ -x \"$basedir/node\" ]; then\n  \
         exec \"$basedir/node\" \"$basedir/global/5/node_modules/mcp/dist/index.js\" \"$@\"\nelse\n  \
         exec node  \"$basedir/global/5/node_modules/mcp/dist/index.js\" \"$@\"\nfi\n",
    );
    home.elf(".local/share/pnpm/node");
    let needs = home.find(".local/share/pnpm/mcp", &[]).expect("found");
    let expected = [&format!("{global}/.pnpm"), ".local/share/pnpm/mcp", ".local/share/pnpm/node"]
        .map(String::from);
    let mut reads = home.below(&needs.read);
    reads.sort();
    assert_eq!(reads, expected);
    assert_eq!(home.links(&needs), [format!("{global}/node_modules/mcp")]);
    assert_eq!(home.below(&needs.path), [".local/share/pnpm"]);
}

const UV: &str = ".local/share/uv/python/cpython-3.12.3-linux-x86_64-gnu";

fn uv() -> Home {
    let home = Home::new();
    home.elf(&format!("{UV}/bin/python3.12")).link(&format!("{UV}/bin/python3"), "python3.12");
    home.dir(&format!("{UV}/lib/python3.12/site-packages"));
    // uv names the minor version, and a link says which patch that is.
    home.link(".local/share/uv/python/cpython-3.12-linux", "cpython-3.12.3-linux-x86_64-gnu");
    let tool = ".local/share/uv/tools/mcp-git";
    home.file(
        &format!("{tool}/pyvenv.cfg"),
        "home = ~/.local/share/uv/python/cpython-3.12-linux/bin\nuv = 0.9\n",
    );
    home.link(
        &format!("{tool}/bin/python"),
        "~/.local/share/uv/python/cpython-3.12-linux/bin/python3.12",
    );
    home.file(&format!("{tool}/bin/mcp-git"), "#!~/.local/share/uv/tools/mcp-git/bin/python\n");
    home.dir(&format!("{tool}/lib/python3.12/site-packages"));
    home.link(".local/bin/mcp-git", "~/.local/share/uv/tools/mcp-git/bin/mcp-git");
    home.file(".local/share/keyrings/login.keyring", "secret");
    home
}

#[test]
fn uv_brings_the_tools_environment_and_the_python_below_it() {
    let home = uv();
    let needs = home.find(".local/bin/mcp-git", &[]).expect("found");
    assert_eq!(home.below(&needs.read), [UV, ".local/share/uv/tools/mcp-git"]);
    let links = [".local/bin/mcp-git", ".local/share/uv/python/cpython-3.12-linux"];
    assert_eq!(home.links(&needs), links);
    assert_eq!(needs.path, [""; 0].map(PathBuf::from));
}

#[test]
fn a_script_with_too_long_a_first_line_is_followed_as_well() {
    let home = uv();
    let tool = ".local/share/uv/tools/mcp-git/bin";
    for (name, exec) in [
        ("long", "'''exec' \"~/.local/share/uv/tools/mcp-git/bin/python\" \"$0\" \"$@\""),
        ("moved", "'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python' \"$0\" \"$@\""),
    ] {
        home.file(&format!("{tool}/{name}"), &format!("#!/bin/sh\n{exec}\n' '''\nimport sys\n"));
        assert_eq!(
            home.reads(&format!("{tool}/{name}"), &[]),
            [UV, ".local/share/uv/tools/mcp-git"]
        );
    }
}

#[test]
fn a_module_of_a_virtual_environment_in_a_checkout_brings_what_is_installed_editable() {
    let home = uv();
    let venv = "work/app/.venv";
    home.file(
        &format!("{venv}/pyvenv.cfg"),
        "home=~/.local/share/uv/python/cpython-3.12-linux/bin\n",
    );
    home.link(&format!("{venv}/bin/python3"), "python").link(
        &format!("{venv}/bin/python"),
        "~/.local/share/uv/python/cpython-3.12-linux/bin/python3.12",
    );
    let site = format!("{venv}/lib/python3.12/site-packages");
    home.file(
        &format!("{site}/_app.pth"),
        "~/work/app/src\n# no\nimport os; os.system('x')\n/no/such/place\n",
    );
    home.file(&format!("{site}/relative.pth"), "../../../../../lib2\n").dir("work/lib2");
    home.file(
        &format!("{site}/__editable___tool_finder.py"),
        "import sys\nMAPPING: dict[str, str] = {'tool': '~/work/tool/tool'}\nNAMESPACES = {}\n",
    );
    home.dir("work/app/src").file("work/app/.env", "SECRET").dir("work/tool/tool");
    let reads = home.reads(&format!("{venv}/bin/python3"), &["-m", "app", "/etc/passwd"]);
    assert_eq!(reads, [UV, "work/app/.venv", "work/app/src", "work/lib2", "work/tool/tool"]);
}

#[test]
fn a_script_of_python_brings_the_modules_beside_it() {
    let home = uv();
    let python = format!("{UV}/bin/python3");
    home.file("work/one/server.py", "").file("work/one/notes.txt", "");
    assert_eq!(home.reads(&python, &["-u", "~/work/one/server.py"]), [UV, "work/one/server.py"]);
    home.file("work/two/server.py", "").file("work/two/tools/__init__.py", "");
    assert_eq!(home.reads(&python, &["~/work/two/server.py"]), [UV, "work/two"]);
    home.file("server.py", "").file("other.py", "");
    assert_eq!(home.reads(&python, &["~/server.py"]), [UV, "server.py"]);
}

#[test]
fn what_the_environment_names_to_load_from_is_read() {
    let home = uv();
    home.dir("work/lib").link("lib", "work/lib").dir("shut/lib");
    let libraries = ["lib", "shut/lib", "gone"].map(|path| home.at(path)).to_vec();
    let command = home.at(&format!("{UV}/bin/python3"));
    let shut = vec![home.at("shut")];
    let asked = Asked { command, libraries, shut, ..Asked::default() };
    let needs = Known::default().find(&home.host(), asked).expect("found").needs;
    assert_eq!(home.below(&needs.read), [UV, "work/lib"]);
    assert_eq!(home.links(&needs), ["lib"]);
}

#[test]
fn a_package_installed_for_the_user_is_found_although_the_server_has_a_home_of_its_own() {
    let home = Home::new();
    let python = fs::canonicalize("/usr/bin/python3").ok();
    let Some(version) = python.and_then(|p| Some(p.file_name()?.to_str()?.to_owned())) else {
        return eprintln!("SKIPPED: this machine has no /usr/bin/python3");
    };
    home.file(".local/bin/mcp-time", "#!/usr/bin/python3\nimport mcp\n");
    home.dir(&format!(".local/lib/{version}/site-packages"))
        .dir(".local/lib/python2.7/site-packages");
    let needs = home.find(".local/bin/mcp-time", &[]).expect("found");
    assert_eq!(home.below(&needs.read), [".local/bin/mcp-time", &format!(".local/lib/{version}")]);
    assert_eq!(needs.env["PYTHONUSERBASE"], home.at(".local").to_str().expect("UTF-8"));
}

#[test]
fn pyenvs_versions_are_used_and_its_shims_are_refused_with_the_path_to_write() {
    let home = Home::new();
    let version = ".pyenv/versions/3.11.7";
    home.elf(&format!("{version}/bin/python3.11"))
        .dir(&format!("{version}/lib/python3.11/site-packages"));
    home.link(&format!("{version}/bin/python"), "python3.11");
    home.file(&format!("{version}/bin/mcp-git"), "#!~/.pyenv/versions/3.11.7/bin/python3.11\n");
    home.file(".pyenv/shims/mcp-git", "#!/usr/bin/env bash\nexec pyenv exec mcp-git\n");
    home.file(".pyenv/version", "3.11.7\n");
    assert_eq!(home.reads(&format!("{version}/bin/mcp-git"), &[]), [version]);
    let wrong = home.find(".pyenv/shims/mcp-git", &[]).expect_err("a shim");
    assert!(wrong.what.contains("is a shim"), "{wrong:?}");
    let real = home.at(&format!("{version}/bin/mcp-git")).display().to_string();
    assert_eq!(wrong.cure, format!("write the program itself: {real}"));
    home.file(".pyenv/shims/other", "#!/usr/bin/env bash\n");
    let wrong = home.find(".pyenv/shims/other", &[]).expect_err("a shim");
    assert!(wrong.cure.contains("pyenv which other"), "{wrong:?}");
}

#[test]
fn a_home_is_never_brought_along() {
    let home = uv();
    home.file("pyvenv.cfg", "home = ~/.local/share/uv/python/cpython-3.12-linux/bin\n");
    home.link("bin/python", "~/.local/share/uv/python/cpython-3.12-linux/bin/python3.12");
    let wrong = home.find("bin/python", &["-m", "x"]).expect_err("a home");
    assert!(wrong.what.contains("holds more than a program"), "{wrong:?}");
    // A script in a home that is a package: itself, its manifest and its packages.
    let home = nvm();
    home.file("server.js", "").file("package.json", "{}").dir("node_modules").file("diary", "");
    let reads = home.reads(&format!("{NVM}/bin/node"), &["~/server.js"]);
    assert_eq!(reads, [NVM, "node_modules", "package.json", "server.js"]);
    // A program in ~/.local/bin comes alone.
    home.elf(".local/bin/tool").dir(".local/share");
    assert_eq!(home.reads(".local/bin/tool", &[]), [".local/bin/tool"]);
}

#[test]
fn nothing_that_the_tenant_can_write_is_looked_at() {
    let home = uv();
    home.link("bin/tool", "../shut/tool").elf("shut/tool");
    let wrong = home.find("bin/tool", &[]).expect_err("writable");
    assert!(wrong.what.contains("the tenant can write there"), "{wrong:?}");
    home.file("bin/script", "#!~/shut/tool\n");
    assert!(home.find("bin/script", &[]).is_err());
    // As an argument it is the server's own matter.
    home.file("shut/script.py", "");
    let python = format!("{UV}/bin/python3");
    assert_eq!(home.reads(&python, &["~/shut/script.py"]), [UV]);
}

#[test]
fn what_is_missing_on_the_way_is_named() {
    let home = Home::new();
    home.file("bin/a", "#!/no/such/interpreter\n")
        .file("bin/b", "#!/usr/bin/env no-such-program\n");
    home.file("bin/c", "#!python\n").link("bin/d", "gone");
    let what = |command: &str| home.find(command, &[]).expect_err(command).what;
    assert!(what("bin/a").contains("/no/such/interpreter"), "{}", what("bin/a"));
    assert!(what("bin/b").contains("runs by \"no-such-program\""), "{}", what("bin/b"));
    assert!(what("bin/c").contains("no absolute path"), "{}", what("bin/c"));
    assert!(what("bin/d").contains("bin/gone"), "{}", what("bin/d"));
    home.file("bin/e", "#!/usr/bin/env -S uv run --script\n");
    assert!(what("bin/e").contains("uv run would download"), "{}", what("bin/e"));
    home.file("venv/pyvenv.cfg", "home = /no/such/place\n").elf("venv/bin/python");
    assert!(what("venv/bin/python").contains("no Python any more"), "{}", what("venv/bin/python"));
}

#[test]
fn circles_end() {
    let home = Home::new();
    home.link("a", "b").link("b", "a").link("self", "self/self");
    assert!(home.find("a", &[]).is_err() && home.find("self", &[]).is_err());
    home.file("x", "#!~/y\n").file("y", "#!~/x\n").file("z", "#!~/z\n");
    assert!(home.find("x", &[]).expect_err("a circle").what.contains("interpreter"));
    assert!(home.find("z", &[]).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

    /// Names of three letters that are links to each other, directories, scripts of each other or settings.
    #[test]
    fn no_tangle_of_links_and_scripts_is_too_much(
        parts in proptest::collection::vec((0..4u8, "[abc](/[abc]){0,2}", "(\\.\\./){0,2}[abc](/[abc]){0,2}"), 1..24),
    ) {
        let home = Home::new();
        for (kind, name, other) in &parts {
            let at = home.at(name);
            let _ = fs::create_dir_all(at.parent().expect("a parent"));
            let _ = match kind {
                0 => symlink(other, &at),
                1 => fs::create_dir(&at),
                2 => fs::write(&at, format!("#!{}\n", home.at(other).display())),
                _ => fs::write(&at, format!("home = {}\n", home.at(other).display()))
                    .and_then(|()| fs::rename(&at, at.with_file_name("pyvenv.cfg"))),
            };
        }
        for (_, name, _) in &parts {
            if let Ok(needs) = home.find(name, &["~/a", "~/b"]) {
                let all = home.path.ancestors().nth(2).expect("the temporary directory");
                proptest::prop_assert!(needs.read.iter().all(|path| path.starts_with(all)));
                // Nothing that is above the home, nor the home itself.
                proptest::prop_assert!(!needs.read.iter().any(|path| home.path.starts_with(path)));
            }
        }
    }
}
