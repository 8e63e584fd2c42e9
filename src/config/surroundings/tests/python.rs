//! Homes of people who install servers of Python.

use super::*;

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
