#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: build, convert, export and pull are killed at each call by which they write, the one after the other:
# every blob is what its name says, the tag is the old image or the new one, and the next run goes on.

import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess

from case import check, equal
from killing import killed

PUZZLEFS = os.path.join(os.environ["PUZZLEFS_TOP"], "build/puzzlefs")
WRITES = ("write", "pwrite64", "writev", "ftruncate", "mkdirat", "renameat", "renameat2", "unlinkat", "fsync", "fdatasync", "syncfs")
TOP = pathlib.Path("/tmp/killed")


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    check(done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def puzzlefs(*arguments):
    return run(PUZZLEFS, *arguments)


def sound(layout, what):
    blobs = layout / "blobs/sha256"
    for blob in blobs.iterdir() if blobs.is_dir() else []:
        if len(blob.name) == 64:
            equal(hashlib.sha256(blob.read_bytes()).hexdigest(), blob.name, f"{what}: a blob")


def tagged(layout):
    """The digest that the tag x has, if it has one."""
    index = layout / "index.json"
    entries = json.loads(index.read_text())["manifests"] if index.exists() else []
    found = [entry["digest"] for entry in entries
             if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == "x"]
    check(len(found) < 2, f"{entries}")
    return found[0] if found else None


def tree(path, seed):
    rng = random.Random(seed)
    path.mkdir()
    for number in range(12):
        (path / f"file-{number}").write_bytes(rng.randbytes(rng.randrange(1, 90_000)))
        os.utime(path / f"file-{number}", (number, number))
    os.utime(path, (0, 0))


def try_all(name, before, arguments, layout, verify):
    """Kills the command at each call; `before` is the layout that it begins with."""
    points = 0

    def begin():
        shutil.rmtree(layout, ignore_errors=True)
        shutil.copytree(before, layout)

    begin()
    old = tagged(layout)
    puzzlefs(*arguments)
    new = tagged(layout)
    check(old != new, f"{name}: the tag stays {old}")
    for call in WRITES:
        for number in range(1, 1000):
            begin()
            if not killed([PUZZLEFS, *arguments], call, number):
                break
            what = f"{name}, killed at {call} {number}"
            sound(layout, what)
            check(tagged(layout) in (old, new), f"{what}: the tag is {tagged(layout)}")
            verify(layout)
            puzzlefs(*arguments)
            equal(tagged(layout), new, f"{what}: the tag after another run")
            sound(layout, f"{what}, and run again")
            left = [path.name for path in layout.iterdir() if path.name.startswith(".puzzlefs-build")]
            equal(left, [], f"{what}: what is left after another run")
            points += 1
        else:
            check(False, f"{name}: {call} has no end")
    check(points > 10, f"{name}: only {points} points")
    print(f"{name}: killed at {points} points")


def ours(layout):
    puzzlefs("verify", f"{layout}:x")


def ordinary(layout):
    run("skopeo", "copy", "-q", f"oci:{layout}:x", f"dir:{TOP}/copied")
    shutil.rmtree(TOP / "copied")


shutil.rmtree(TOP, ignore_errors=True)
TOP.mkdir()
for number in 1, 2:
    tree(TOP / f"tree-{number}", number)
run("umoci", "init", "--layout", TOP / "ordinary")
run("umoci", "new", "--image", f"{TOP}/ordinary:x")
run("umoci", "insert", "--image", f"{TOP}/ordinary:x", TOP / "tree-2", "/")
storing = ("--no-cache", "--threads", "1", "--pack-size", "128K")
puzzlefs("build", *storing, TOP / "tree-1", f"{TOP}/first:x")
puzzlefs("export", "--to", f"oci:{TOP}/exported:x", f"{TOP}/first:x")
puzzlefs("build", *storing, TOP / "tree-2", f"{TOP}/second:x")
layout = TOP / "layout"
try_all("build", TOP / "first", ["build", *storing, TOP / "tree-2", f"{layout}:x"], layout, ours)
try_all("convert", TOP / "first", ["convert", *storing, f"oci:{TOP}/ordinary:x", f"{layout}:x"], layout, ours)
try_all("export", TOP / "exported", ["export", "--to", f"oci:{layout}:x", f"{TOP}/second:x"], layout, ordinary)
try_all("pull", TOP / "first", ["pull", f"oci:{TOP}/second:x", f"{layout}:x"], layout, ours)
