#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-stacking; memory 2G
# shows: what a layout may lie on, and that a mount outlives what is done to its filesystem:
# freezing, remounting, lazy unmounting; links to blobs/sha256; no PuzzleFS below PuzzleFS.

import contextlib
import errno
import os
import shutil
import subprocess

import mountapi
from case import SANITIZERS, Image, check, drop_caches, equal

BASE, TARGET = "/mnt/base", "/mnt/target"
IMAGE = Image("peers-stacking")


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def mount(layout):
    mountapi.mount([("oci_root_dir", layout), ("image_manifest", IMAGE.digest)], TARGET)


def check_reads():
    """Reads the big file through the mount, after dropping what is cached."""
    drop_caches()
    with open(f"{TARGET}/lower/big", "rb") as f, open(f"{IMAGE.source}/lower/big", "rb") as want:
        check(f.read() == want.read(), "what is read is wrong")


def refused(layout, word):
    try:
        mount(layout)
    except mountapi.MountError as error:
        equal(error.errno, errno.ELOOP, f"the errno of a layout on {layout}")
        check(word in "".join(error.messages), f"the messages are {error.messages}")
        print(f"refused: {error.messages}")
    else:
        check(False, f"a layout on {layout} was mounted")


@contextlib.contextmanager
def filesystem(kind, *options, source="none"):
    """A filesystem at BASE."""
    run("mount", "-t", kind, *options, source, BASE)
    try:
        yield BASE
    finally:
        run("umount", "-l", BASE)


@contextlib.contextmanager
def on_disk(kind, size="400M"):
    """A new one of that kind, in a file of /scratch."""
    run("modprobe", "-a", "loop", kind)
    with open("/scratch/disk", "wb"):
        os.truncate("/scratch/disk", int(size[:-1]) << 20)
    run(f"mkfs.{kind}", "/scratch/disk")
    with filesystem(kind, "-o", "loop", source="/scratch/disk"):
        yield BASE
    os.unlink("/scratch/disk")


@contextlib.contextmanager
def overlay(lower):
    for name in "upper", "work":
        os.makedirs(f"/scratch/{name}", exist_ok=True)
    with filesystem("overlay", "-o", f"lowerdir={lower},upperdir=/scratch/upper,workdir=/scratch/work"):
        yield BASE


def layout_on(root):
    """A copy of the layout, mounted and read, packs and loose chunks."""
    layout = f"{root}/oci"
    shutil.copytree(IMAGE.layout, layout)
    mount(layout)
    check_reads()
    run("umount", TARGET)
    run("puzzlefs", "unpack", "--gc", layout)
    mount_loose(layout)
    check_reads()
    run("umount", TARGET)
    shutil.rmtree(layout)


def mount_loose(layout):
    """Unpacking makes another manifest."""
    run("mount", "-t", "puzzlefs", f"{layout}:test", TARGET)


for name in BASE, TARGET:
    os.makedirs(name, exist_ok=True)
subprocess.run(["modprobe", "overlay"], check=True)

# Where a layout may be.
for kind in ("ext4", "xfs") if SANITIZERS else ("ext4", "xfs", "btrfs"):
    with on_disk(kind) as root:
        layout_on(root)
    print(f"layout on {kind}: right bytes")
with filesystem("tmpfs") as root:
    layout_on(root)
with overlay("/etc") as root:
    layout_on(root)
print("layout on tmpfs, overlayfs: right bytes")
mount(IMAGE.layout)
check_reads()
with open("/proc/self/mountinfo") as f:
    check(any(" - virtiofs " in line for line in f), "the cache is not on virtiofs")
print("layout on virtiofs: right bytes")

# Where it may not: on PuzzleFS, also with an overlayfs in between. Where the overlayfs has the
# layout itself, it may.
shutil.copytree(IMAGE.layout, "/scratch/tree/layout")
run("puzzlefs", "build", "/scratch/tree", "/scratch/nested:image")
os.makedirs("/mnt/image", exist_ok=True)
run("mount", "--move", TARGET, "/mnt/image")
run("mount", "-t", "puzzlefs", "/scratch/nested:image", "/mnt/image")
refused("/mnt/image/layout", "lies on a PuzzleFS")
with overlay("/mnt/image"):
    refused(f"{BASE}/layout", "lies on a PuzzleFS")
    layout_on(BASE)
    print("layout on overlayfs over PuzzleFS: refused if it is below, right bytes if it is above")
for _ in range(2):
    run("umount", "/mnt/image")

# Links as LXC makes them.
LAYOUT = "/scratch/oci"
shutil.rmtree(LAYOUT, ignore_errors=True)
shutil.copytree(IMAGE.layout, LAYOUT)
os.rename(f"{LAYOUT}/blobs/sha256", "/scratch/store")
for link in "../../store", "/scratch/store":
    os.symlink(link, f"{LAYOUT}/blobs/sha256")
    mount(LAYOUT)
    check_reads()
    run("umount", TARGET)
    os.unlink(f"{LAYOUT}/blobs/sha256")
print("blobs/sha256 by a relative and an absolute link: right bytes")

# What may happen to the filesystem of a layout in use.
with on_disk("ext4") as root:
    shutil.copytree(IMAGE.layout, f"{root}/oci")
    run("puzzlefs", "unpack", "--gc", f"{root}/oci")
    run("sync")
    run("fsfreeze", "--freeze", root)
    mount_loose(f"{root}/oci")
    check_reads()
    run("fsfreeze", "--unfreeze", root)
    run("mount", "-o", "remount,ro", root)
    check_reads()
    run("mount", "-o", "remount,rw", root)
    check(subprocess.run(["umount", root], stderr=subprocess.DEVNULL).returncode != 0, "the layout was unmounted")
check_reads()  # leaving on_disk has unmounted it lazily
run("umount", TARGET)
print("frozen, remounted and lazily unmounted layouts: right bytes")
