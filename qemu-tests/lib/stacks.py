# SPDX-License-Identifier: GPL-2.0
"""Filesystems on one another, each at a place of its own below /mnt."""

import os

import mountapi
from case import Image, check, drop_caches

IMAGE = Image("small")
SCRATCH = "/scratch/depth"
FILES = "etc/passwd", "srv/corners/incompressible"


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
    """Reads FILES below `root`, cold."""
    drop_caches()
    for name in FILES:
        with open(f"{root}/{name}", "rb") as f, open(f"{IMAGE.source}/{name}", "rb") as want:
            check(f.read() == want.read(), f"{root}/{name} has other bytes")
