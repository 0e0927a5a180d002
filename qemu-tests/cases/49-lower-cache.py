#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G
# shows: what PuzzleFS reads of a pack does not stay in the page cache of the filesystem below,
# and is read from the disk once; and what others have cached of it before stays.

import contextlib
import os
import shutil
import subprocess

import mountapi
from case import Image, check, drop_caches
from pagecache import PAGE, cached

IMAGE = Image("small")
BASE, TARGET = "/mnt/base", "/mnt/target"
# Those that have a page cache for their own files, and a disk.
DROPPING = "ext4", "xfs", "btrfs"
# What is dropped at once, in bytes; the rest at the end of a pack is not.
SEGMENT = 1 << 20
# The most that is read ahead of a pack, in KiB. Files are not in the order of their chunks, so that much of
# each segment may be brought again after it was dropped, and stay.
AHEAD = 256
# Of the bytes of all packs: what may stay in the page cache besides, and what metadata may add to what is
# read from the disk.
MOST_LEFT, METADATA = 0.05, 0.05


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@contextlib.contextmanager
def filesystem(kind, readahead):
    """A filesystem at BASE, and how many bytes its disk has read so far, if it has one. `readahead` is in KiB."""
    device, source = None, "none"
    options = ["-o", "lowerdir=/etc,upperdir=/scratch/upper,workdir=/scratch/work"] if kind == "overlay" else []
    if kind not in ("tmpfs", "overlay"):
        with open("/scratch/disk", "wb") as f:
            f.truncate(512 << 20)
        source = device = run("losetup", "--find", "--show", "--direct-io=on", "/scratch/disk")
        run(f"mkfs.{kind}", "-q", device)
        with open(f"/sys/class/block/{os.path.basename(device)}/queue/read_ahead_kb", "w") as f:
            f.write(str(readahead))
    run("mount", "-t", kind, *options, source, BASE)

    def read_from_disk():
        with open(f"/sys/class/block/{os.path.basename(device)}/stat") as f:
            return int(f.read().split()[2]) * 512
    try:
        yield read_from_disk if device else None
    finally:
        run("umount", BASE)
        if device:
            run("losetup", "--detach", device)


def packs():
    top = f"{BASE}/oci/blobs/sha256"
    for name in os.listdir(top):
        with open(f"{top}/{name}", "rb") as f:
            if f.read().endswith(b"PzPk"):
                yield f.name


def in_cache(paths):
    """Bytes of whole pages. Those of overlayfs are in the files of its upper directory."""
    total = 0
    for path in paths:
        with open(path.replace(BASE, "/scratch/upper") if kind == "overlay" else path, "rb") as f:
            total += cached(f.fileno()) * PAGE
    return total


def read_all():
    """Reads each file below a new mount; how many bytes they are."""
    mountapi.mount([("oci_root_dir", f"{BASE}/oci"), ("image_manifest", IMAGE.digest)], TARGET)
    total = 0
    for path, size in IMAGE.files():
        with open(os.path.join(TARGET.encode(), path), "rb", buffering=0) as f:
            while data := f.read(1 << 17):
                total += len(data)
    run("umount", TARGET)
    check(total == sum(size for _, size in IMAGE.files()), f"{total} bytes were read")
    return total


for name in BASE, TARGET, "/scratch/upper", "/scratch/work":
    os.makedirs(name, exist_ok=True)
run("modprobe", "-a", "loop", "overlay", "xfs", "btrfs")
# btrfs has a readahead of its own, of 4 MiB.
for kind, readahead in ("ext4", 128), ("ext4", 4096), ("xfs", 128), ("btrfs", 4096), ("tmpfs", 0), ("overlay", 0):
    with filesystem(kind, readahead) as read_from_disk:
        shutil.copytree(IMAGE.layout, f"{BASE}/oci")
        paths = list(packs())
        size = sum(map(os.path.getsize, paths))
        check(size > 4 << 20, f"packs of {size} bytes say nothing")
        os.sync()
        drop_caches()
        before = read_from_disk() if read_from_disk else 0
        total = read_all()
        read = read_from_disk() - before if read_from_disk else 0
        left = in_cache(paths)
        print(f"{kind}, readahead of {readahead} KiB: packs of {size} bytes, {total} bytes of files: {read} bytes were read from the disk, "
              f"{left} stay in the page cache below", flush=True)
        again = (min(AHEAD, readahead) << 10) * sum(os.path.getsize(path) // SEGMENT + 1 for path in paths)
        check(read <= (1 + METADATA) * size + again, f"{read} bytes were read of packs of {size}")
        rest = sum(os.path.getsize(path) % SEGMENT for path in paths)
        check(kind not in DROPPING or left <= rest + MOST_LEFT * size + again, f"{left} bytes of {size} stay cached")

        drop_caches()
        for path in paths:
            with open(path, "rb") as f:
                f.read()
        others = in_cache(paths)
        check(others >= size, f"only {others} bytes of {size} are cached")
        read_all()
        stays = in_cache(paths)
        check(stays == others, f"{kind}: of {others} bytes that others have cached, {stays} stay")
        shutil.rmtree(f"{BASE}/oci")
print("what others have cached stays")
