#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: the rooms of the module, which are the folders and files of kmod/, import what the table
# qemu-tests/lib/rooms lets them, which is below them. Files of one room do not import each other in
# a circle either. Only the rooms that the table names know the image as a whole.

import re
import tempfile

from case import check, equal
from rust_imports import Crate, circles
from rust_source import TOP

TABLE, ROOT = "qemu-tests/lib/rooms", "kmod/puzzlefs.rs"


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


def example():
    """The test can see what it looks for: faults of a crate that has one of each kind."""
    sources = {
        "main.rs": "mod high; mod low; mod lost; use high::Image;",
        "high/mod.rs": "mod part; pub(crate) use part::Image; use crate::low::{self, Low};",
        "high/part.rs": "use super::other; pub(crate) struct Image;",
        "low.rs": "fn f(x: &crate::high::Image) { mod inner { use super::super::lost; } }",
        "lost.rs": '// crate::low\nuse core::fmt; const TEXT: &str = "crate::low";',
    }
    table = "top: high\nhigh: low bottom # a reason\nlow:\nbottom: high\nsays Image: top high"
    with tempfile.TemporaryDirectory(dir=TOP / "build") as folder:
        for name, text in sources.items():
            path = TOP / folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        found = faults(Crate((TOP / folder / "main.rs").relative_to(TOP)), *read_table(table))
        return [fault.replace(str((TOP / folder).relative_to(TOP)) + "/", "") for fault in found]


equal(example(), [
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

rooms, names = read_table((TOP / TABLE).read_text())
crate = Crate(ROOT, without=("vfs",))
found = list(dict.fromkeys(faults(crate, rooms, names)))
print("\n".join(found))
check(not found, f"{len(found)} faults")
print(f"{len(rooms)} rooms, {len(crate.modules)} files: imports lead downward only")
