#!/usr/bin/env python3
"""Holds deny.toml against the dependencies where cargo-deny is not installed.

Knows the keys that our deny.toml uses: licenses.allow and licenses.exceptions, bans.deny and bans.wildcards,
sources.unknown-registry, sources.unknown-git and sources.allow-git. Any other key that could refuse something is an error
here, so that the policy never says more than is checked.
"""

import json
import re
import subprocess
import sys
import tomllib

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
KNOWN = {
    "graph": {"targets", "all-features"},
    "licenses": {"allow", "exceptions", "confidence-threshold", "unused-allowed-license"},
    "bans": {"multiple-versions", "wildcards", "deny"},
    "sources": {"unknown-registry", "unknown-git", "allow-git"},
}


def satisfied(expression, allowed):
    """Whether the allowed licences satisfy an SPDX expression ("/" is the old way to write OR)."""
    tokens = re.findall(r"[()]|[^\s()/]+|/", expression)
    position = 0

    def atom():
        nonlocal position
        token = tokens[position]
        position += 1
        if token == "(":
            value = either()
            position += 1  # the closing parenthesis
            return value
        if position < len(tokens) and tokens[position] == "WITH":
            token += " WITH " + tokens[position + 1]
            position += 2
        return token in allowed

    def both():
        nonlocal position
        value = atom()
        while position < len(tokens) and tokens[position] == "AND":
            position += 1
            value = atom() and value
        return value

    def either():
        nonlocal position
        value = both()
        while position < len(tokens) and tokens[position] in ("OR", "/"):
            position += 1
            value = both() or value
        return value

    return either()


def packages(target):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]


def problems(policy, package):
    name = f"{package['name']} {package['version']}"
    allowed = set(policy["licenses"]["allow"])
    for exception in policy["licenses"].get("exceptions", []):
        if exception["crate"] == package["name"]:
            allowed |= set(exception["allow"])
    if not satisfied(package["license"] or "none", allowed):
        yield f"{name}: the licence {package['license']!r} is not allowed"
    if package["source"] not in (None, REGISTRY):
        yield f"{name}: comes from an unknown source"
    if package["name"] in {ban["crate"] for ban in policy["bans"]["deny"]}:
        yield f"{name}: is banned"
    if package["source"] is None:
        for dependency in package["dependencies"]:
            if dependency["req"] == "*" and not dependency.get("path"):
                yield f"{name}: depends on any version of {dependency['name']}"


def main():
    with open("deny.toml", "rb") as file:
        policy = tomllib.load(file)
    found = [
        f"deny.toml: {section}.{key} is not checked by this script"
        for section, keys in policy.items()
        for key in keys
        if key not in KNOWN.get(section, set())
    ]
    seen = {}
    for target in policy["graph"]["targets"]:
        seen |= {package["id"]: package for package in packages(target)}
    for package in seen.values():
        found += problems(policy, package)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(seen)} packages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    assert satisfied("MIT/Apache-2.0", {"MIT"}) and not satisfied("(MIT OR Zlib) AND GPL-3.0", {"MIT"})
    assert satisfied("Apache-2.0 WITH LLVM-exception OR MIT", {"MIT"})
    sys.exit(main())
