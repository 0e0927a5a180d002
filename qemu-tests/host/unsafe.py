#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: every unsafe block, impl and function says why it is sound, in macros too, which clippy
# does not look into; there is none outside kmod/vfs, the crate for fanotify and the one that makes a process, and the compiler forbids it there.

import collections
import re
import tomllib

from case import check, equal
from rust_source import TOP, code, files, scan

UNSAFE_CRATES = ("kmod/vfs/", "userspace-builder/fanotify/", "userspace-builder/unnoticed/")
# What ends a statement, or begins what a statement is in.
BORDERS = (";", "{", "}", ",")


def kinds(tokens):
    """The `unsafe` among the tokens of a file: what each begins, and its line. The type of a
    pointer to an unsafe function begins nothing."""
    for place, (token, line) in enumerate(tokens):
        if token != "unsafe":
            continue
        words = [word for word, _ in tokens[place + 1:place + 6] if word != "extern"]
        if words[0] != "fn":
            yield {"{": "block"}.get(words[0], words[0]), line
        elif words[1] != "(":
            yield "fn", line


def above(lines, comments, line):
    """The text of the comments right above the statement that `line` is a part of."""
    at = line - 1
    while at > 0 and at not in comments:
        bare = lines[at - 1].strip()
        if not bare or (bare.endswith(BORDERS) and not bare.startswith("#[")):
            return ""
        at -= 1
    found = []
    while at in comments or (at > 0 and lines[at - 1].strip().startswith("#[")):
        found.append(comments.get(at, ""))
        at -= 1
    return "\n".join(reversed(found))


def comments_of(text):
    """The comments that have lines for themselves, by line."""
    lines = text.splitlines()
    return {line: token for kind, token, line in scan(text)
            if kind == "comment" and lines[line - 1].strip() == token.splitlines()[0].strip()}


def undocumented(text):
    """What is unsafe in a source: how many of each kind, and of which there is no reason."""
    lines, comments = text.splitlines(), comments_of(text)
    count, bare = collections.Counter(), []
    for kind, line in kinds(code(text)):
        count[kind] += 1
        said = above(lines, comments, line)
        wanted = r"# Safety\b" if kind in ("fn", "trait") else r"SAFETY: \S"
        if not re.search(wanted, said):
            bare.append((kind, line))
    return count, bare


def forbids(manifest):
    """Whether a Cargo.toml, or that of its workspace, forbids unsafe code; None if it is no crate."""
    def lints(table):
        return table.get("lints", {}).get("rust", {}).get("unsafe_code") == "forbid"
    table = tomllib.loads((TOP / manifest).read_text())
    if "package" not in table:
        return None
    if table.get("lints", {}).get("workspace"):
        folder = (TOP / manifest).parent
        while not (folder / "Cargo.toml").exists() or "workspace" not in tomllib.loads((folder / "Cargo.toml").read_text()):
            folder = folder.parent
        return lints(tomllib.loads((folder / "Cargo.toml").read_text())["workspace"])
    root = TOP / manifest.parent / table.get("lib", {}).get("path", "src/lib.rs")
    return lints(table) or root.exists() and "#![forbid(unsafe_code)]" in root.read_text()


# The test can see what it looks for.
EXAMPLE = """
// SAFETY: a reason.
let a = unsafe { 1 };
let text = "unsafe {"; /* unsafe { */
unsafe { no_reason() };
/// A function.
/// # Safety
/// What it asks for.
#[inline]
unsafe extern "C" fn documented(callback: unsafe fn()) {}
/// A function.
unsafe fn no_reason() {}
macro_rules! inside { () => { unsafe impl Sync for X {} } }
// SAFETY: the reason of the first.
let b = f(|| unsafe { 1 });
let c = unsafe { 2 };
"""
found, bare = undocumented(EXAMPLE)
equal(dict(found), {"block": 4, "fn": 2, "impl": 1}, "what is unsafe in the example")
equal(bare, [("block", 5), ("fn", 12), ("impl", 13), ("block", 16)], "what has no reason in the example")

total, missing, outside = collections.Counter(), [], []
for file in files(".rs"):
    count, bare = undocumented((TOP / file).read_text())
    total += count
    missing += [f"{file}:{line}: unsafe {kind}" for kind, line in bare]
    outside += [str(file)] if count and not str(file).startswith(UNSAFE_CRATES) else []
print("\n".join(missing))
equal(missing, [], "what is unsafe without a reason")
equal(outside, [], f"files with unsafe code outside {UNSAFE_CRATES}")
check(total["block"] > 100, f"only {total['block']} unsafe blocks: the test does not see them")

# A macro of vfs expands to unsafe code in the root of the filesystem's crate: so its modules forbid it.
modules = re.findall(r"(.*)\n(?:pub(?:\(crate\))? )?mod (\w+);", (TOP / "kmod/puzzlefs.rs").read_text())
check(modules, "kmod/puzzlefs.rs has no modules")
equal([name for line, name in modules if line != "#[forbid(unsafe_code)]"], [], "modules that do not forbid unsafe code")
crates = {str(file): forbids(file) for file in files("Cargo.toml") if not str(file).startswith(UNSAFE_CRATES)}
equal([crate for crate, answer in crates.items() if answer is False], [], "crates that do not forbid unsafe code")
check(sum(map(bool, crates.values())) >= 3, f"only {crates} are crates")

print(", ".join(f"{number} unsafe {kind}s" for kind, number in sorted(total.items())) + ", each with its reason")
