# SPDX-License-Identifier: GPL-2.0
"""Filesystems on one another, each at a place of its own below /mnt."""

import os
import shutil
import subprocess

import mountapi
from case import Image, check, drop_caches

IMAGE = Image("small")
SCRATCH = "/scratch/depth"
FILES = "etc/passwd", "srv/corners/incompressible"


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


def tower(layout):
    """Filesystems on one another, as deep as they stack, below /mnt:
    image, first, second: two overlayfs on PuzzleFS of `layout`; inner: PuzzleFS on the first of them;
    files, third, fourth: two overlayfs on EROFS on a file in PuzzleFS."""
    for name in FILES:
        os.makedirs(os.path.dirname(f"{SCRATCH}/files/{name}"), exist_ok=True)
        shutil.copy(f"{IMAGE.source}/{name}", f"{SCRATCH}/files/{name}")
    os.makedirs(f"{SCRATCH}/tree")
    run("mkfs.erofs", "--quiet", "-zzstd", f"{SCRATCH}/tree/files.erofs", f"{SCRATCH}/files")
    run("puzzlefs", "build", f"{SCRATCH}/tree", f"{SCRATCH}/oci:test")
    overlay(overlay(puzzlefs(layout, "image"), "first"), "second")
    shutil.copytree(IMAGE.layout, "/mnt/first/layout")
    puzzlefs("/mnt/first/layout", "inner")
    run("mount", "-t", "puzzlefs", f"{SCRATCH}/oci:test", place("tower"))
    erofs("/mnt/tower/files.erofs", "files")
    overlay(overlay("/mnt/files", "third"), "fourth")


def take_down():
    """Unmounts what `tower` has mounted."""
    for name in "fourth", "third", "files", "tower", "inner", "second", "first", "image":
        run("umount", f"/mnt/{name}")


def right_bytes(root):
    """Reads FILES below `root`, cold."""
    drop_caches()
    for name in FILES:
        with open(f"{root}/{name}", "rb") as f, open(f"{IMAGE.source}/{name}", "rb") as want:
            check(f.read() == want.read(), f"{root}/{name} has other bytes")
