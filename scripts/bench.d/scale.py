# SPDX-License-Identifier: GPL-2.0
"""scripts/scale: what a mount and the first read after it take, in time and memory, of images
of few and of many files; beside EROFS."""

import os
import shutil
import sys
import tempfile

import images
import measure
import report
import systems

COUNTS = [10_000, 100_000, 1_000_000]
IN_A_DIRECTORY = 1000
ROWS = {"mount": ("mount",), "first": ("read", "{first}")}


def path(number):
    return f"d{number // IN_A_DIRECTORY:04}/file-{number:07}.txt"


def tree_of(count, place):
    """Makes a tree of `count` small files that differ, in memory: once for all systems."""
    def make():
        root = os.path.join(place, f"files-{count}")
        if not os.path.exists(root):
            images.say(f"tree of {count} files ...")
            for number in range(count):
                if number % IN_A_DIRECTORY == 0:
                    os.makedirs(os.path.dirname(f"{root}/{path(number)}"))
                with open(f"{root}/{path(number)}", "w") as file:
                    file.write(f"file {number}\n")
            for folder, folders, names in os.walk(root):
                for name in folders + names:
                    os.utime(os.path.join(folder, name), (0, 0))
        return root

    # Stands for the tree in the key of what is built from it.
    make.__doc__ = f"{count} files, {IN_A_DIRECTORY} in a directory"
    return make


def compared(count):
    return [systems.puzzlefs(f"puzzlefs-{count}", f"PuzzleFS, {count:,} files", "ours"),
            systems.erofs(f"erofs-{count}", f"EROFS zstd 64K, {count:,} files", "zstd", "-zzstd,level=3", "-C65536")]


def main():
    counts = [int(count) for count in sys.argv[1:]] or COUNTS
    shown, built = [], {}
    for count in counts:
        place = tempfile.mkdtemp(prefix="puzzlefs-scale-")
        try:
            for system in compared(count):
                shown.append(system)
                built[system.name] = images.build(system, tree_of(count, place))
        finally:
            shutil.rmtree(place)

    with tempfile.NamedTemporaryFile("w", dir=images.CACHE, prefix="bench-first-") as first:
        # Of the files that all have the last one: its inode, its directory and its chunk are far apart.
        first.write(f"0 {path(min(counts) - 1)}\0")
        first.flush()
        rows = [{"name": name, "after": "", "walk": [word.format(first=first.name) for word in walk]}
                for name, walk in ROWS.items()]
        plan = {"walk": str(images.compiled("walk.c")), "perf": None, "bare": None,
                "systems": [{"name": s.name, "mount": s.mount, "program": None, "path": built[s.name]["path"],
                             "manifest": built[s.name]["manifest"], "rows": rows} for s in shown]}
        took = measure.machine(plan, measure.COUNTED)

    def line(system):
        mount, first = took[system.name]["mount"], took[system.name]["first"]
        made = built[system.name]
        return [system.title, report.number(made["size"] / 1e6), f"{made['hashed'] / 1024:.1f}",
                report.number(mount["ns"] / 1e6), f"{mount['used'] / 1024:,.0f}",
                report.number(first["ns"] / 1e6), f"{first['used'] / 1024:,.0f}"]

    report.print_table(["", "image MB", "hashed KiB", "mount ms", "KiB", "first read ms", "KiB"],
                       [line(system) for system in shown])


main()
