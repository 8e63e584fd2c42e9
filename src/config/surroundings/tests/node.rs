//! Homes of people who install servers of Node.

use super::*;

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
