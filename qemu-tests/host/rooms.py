#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: the rooms of the module and of the command, which are the folders and files of their sources,
# import what the tables qemu-tests/lib/rooms.* let them, which is below them. Files of one room do
# not import each other in a circle either. Only the rooms that a table names say certain names.

import re
import tempfile

from case import check, equal
from rust_imports import Crate, circles
from rust_source import TOP

# Of each crate: its table, its root, what is no room of it, and the name by which its program calls it.
CRATES = (
    ("qemu-tests/lib/rooms.kmod", "kmod/puzzlefs.rs", ("vfs",), None),
    ("qemu-tests/lib/rooms.command", "userspace-builder/puzzlefs/src/lib.rs", (), "puzzlefs"),
)


def read_table(text):
    """The rooms with those that each may import, and who may say which name."""
    rooms, names = {}, {}
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        left, right = line.split(":")
        says = re.fullmatch(r"says (\w+)", left)
        if says:
            names[says[1]] = set(right.split())
        else:
            check(left not in rooms, f"{left} is in the table twice")
            rooms[left] = right.split()
    return rooms, names


def room(module):
    return module.path[0] if module.path else "top"


def faults(crate, rooms, names):
    """What is not as the table has it, a line each."""
    order = list(rooms)
    for name, below in rooms.items():
        for other in below:
            if other not in order[order.index(name) + 1:]:
                yield f"the table: {name} may not import {other}, which does not stand below it"
    there = {room(module) for module in crate.modules.values()}
    for name in sorted(there ^ set(rooms)):
        yield f"{name} is {'not in the table' if name in there else 'in the table, and not there'}"

    used, edges = set(), set()
    for module, target, line in crate.imports():
        a, b = room(module), room(target)
        edges.add((str(module.file), str(target.file)))
        used.add((a, b))
        if a != b and b not in rooms.get(a, ()):
            yield f"{module.file}:{line}: {a} imports {b}, by {target.file}"
    for name, below in rooms.items():
        for other in below:
            if (name, other) not in used:
                yield f"the table: {name} does not import {other}"
    for circle in circles(edges):
        yield f"import each other: {', '.join(sorted(circle))}"

    for name, allowed in names.items():
        saying = {room(module) for module in crate.modules.values() if name in module.names}
        for who in sorted(saying ^ allowed):
            yield f"{who} {'says' if who in saying else 'does not say'} {name}"


def of_sources(sources, table, root, name=None):
    """The faults of a crate of these sources."""
    with tempfile.TemporaryDirectory(dir=TOP / "build") as folder:
        for file, text in sources.items():
            path = TOP / folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        found = faults(Crate((TOP / folder / root).relative_to(TOP), name=name), *read_table(table))
        return [fault.replace(str((TOP / folder).relative_to(TOP)) + "/", "") for fault in found]


def check_examples():
    """The test can see what it looks for: a crate that has one fault of each kind."""
    sources = {
        "main.rs": "mod high; mod low; mod lost; use high::Image;",
        "high/mod.rs": "mod part; pub(crate) use part::Image; use crate::low::{self, Low};",
        "high/part.rs": "use super::other; pub(crate) struct Image;",
        "low.rs": "fn f(x: &crate::high::Image) { mod inner { use super::super::lost; } }",
        "lost.rs": '// crate::low\nuse core::fmt; const TEXT: &str = "crate::low";',
    }
    table = "top: high\nhigh: low bottom # a reason\nlow:\nbottom: high\nsays Image: top high"
    equal(of_sources(sources, table, "main.rs"), [
        "the table: bottom may not import high, which does not stand below it",
        "bottom is in the table, and not there",
        "lost is not in the table",
        "low.rs:1: low imports high, by high/part.rs",
        "low.rs:1: low imports lost, by lost.rs",
        "the table: high does not import bottom",
        "the table: bottom does not import high",
        "import each other: high/mod.rs, high/part.rs, low.rs",
        "low says Image",
    ], "what is wrong in the example")
    # A program beside its library, which has a room with the name of our folder of products.
    sources = {
        "lib.rs": "pub mod build; mod low;",
        "main.rs": "mod cli; fn main() { cli::run() }",
        "cli.rs": "use own::build::Build; pub fn run() { own::low::low() }",
        "build/mod.rs": "pub struct Build;",
        "low.rs": "pub fn low() { crate::cli::run() }",
    }
    table = "top:\nmain: cli\ncli: build\nbuild:\nlow:"
    equal(of_sources(sources, table, "lib.rs", "own"), [
        "cli.rs:1: cli imports low, by low.rs",
        "low.rs:1: low imports cli, by cli.rs",
        "import each other: cli.rs, low.rs",
    ], "what is wrong in the program")


check_examples()

total = 0
for table, root, without, name in CRATES:
    rooms, names = read_table((TOP / table).read_text())
    crate = Crate(root, without, name)
    found = list(dict.fromkeys(faults(crate, rooms, names)))
    total += len(found)
    print("\n".join([f"{root}: {len(rooms)} rooms, {len(crate.modules)} files, {len(found)} faults", *found]))
check(total == 0, f"{total} faults")
print("imports lead downward only")
