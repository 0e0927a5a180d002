#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G; scratch 2G
# shows: how deep filesystems stack. EROFS over a file does not count itself, so that it
# must not lie on what does; PuzzleFS counts itself, so that the two make no tower.

import errno
import os
import shutil
import subprocess

import mountapi
from case import Image, check, drop_caches, equal

IMAGE = Image("small")
SCRATCH = "/scratch/depth"


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def place(name):
    os.makedirs(f"/mnt/{name}", exist_ok=True)
    return f"/mnt/{name}"


def erofs(file, name):
    """EROFS over a file, without a loop device."""
    mountapi.mount([("source", file)], place(name), flags=("ro",), kind="erofs")
    return f"/mnt/{name}"


def puzzlefs(layout, name):
    mountapi.mount([("oci_root_dir", layout), ("image_manifest", IMAGE.digest)], place(name))
    return f"/mnt/{name}"


def overlay(lower, name):
    for layer in "upper", "work":
        os.makedirs(f"{SCRATCH}/{name}/{layer}", exist_ok=True)
    mountapi.mount([("lowerdir+", lower), ("upperdir", f"{SCRATCH}/{name}/upper"),
                    ("workdir", f"{SCRATCH}/{name}/work")], place(name), kind="overlay")
    return f"/mnt/{name}"


def right_bytes(root):
    drop_caches()
    for name in "etc/passwd", "srv/corners/incompressible":
        with open(f"{root}/{name}", "rb") as f, open(f"{IMAGE.source}/{name}", "rb") as want:
            check(f.read() == want.read(), f"{root}/{name} has other bytes")


def refused(what, number, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        equal(errno.errorcode[error.errno], errno.errorcode[number], what)
        print(f"{what}: {errno.errorcode[number]}")
    else:
        check(False, f"{what}: it was mounted")


run("modprobe", "-a", "erofs", "overlay", "loop")
os.makedirs(f"{SCRATCH}/tree")
run("mkfs.erofs", "--quiet", f"{SCRATCH}/tree/layout.erofs", IMAGE.layout)

# Two levels count: PuzzleFS and an overlayfs. The EROFS below them is a third that does not.
root = puzzlefs(erofs(f"{SCRATCH}/tree/layout.erofs", "erofs"), "image")
right_bytes(root)
right_bytes(overlay(root, "first"))
refused("overlayfs on overlayfs on PuzzleFS", errno.EINVAL, overlay, "/mnt/first", "second")
print("PuzzleFS on EROFS on a file, overlayfs on that: right bytes")

# The way on: that EROFS as a file of an image, and another image in it.
run("puzzlefs", "build", f"{SCRATCH}/tree", f"{SCRATCH}/oci:test")
run("mount", "-t", "puzzlefs", f"{SCRATCH}/oci:test", place("tower"))
refused("EROFS on a file of PuzzleFS", errno.ENOTBLK, erofs, "/mnt/tower/layout.erofs", "next")
refused("EROFS on a file of overlayfs on PuzzleFS", errno.ENOTBLK, erofs,
        f"{overlay('/mnt/tower', 'third')}/layout.erofs", "next")

# A loop device reads with a task of its own: nothing stacks.
run("mount", "-t", "erofs", "-o", "loop,ro", "/mnt/tower/layout.erofs", place("next"))
right_bytes(puzzlefs("/mnt/next", "last"))
print("PuzzleFS on EROFS on a loop device on PuzzleFS: right bytes")
for name in "last", "next", "third", "tower", "first", "image", "erofs":
    run("umount", f"/mnt/{name}")
shutil.rmtree(SCRATCH)
print("filesystems stack as deep as the kernel means them to")
