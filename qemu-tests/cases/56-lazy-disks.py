#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small debian; memory 3G; scratch 5G
# shows: lazy images on ext4, xfs and btrfs, of which nothing was fetched: four readers, mmap, an overlayfs above, Python
# started from one. The disk goes away while it is filled, as at a loss of power, and comes back with what was written to it:
# what the records say is there reads right, and the image is completed.

import contextlib
import hashlib
import mmap
import os
import random
import shutil
import subprocess
import time

from case import Image, check, equal, mounted
from lazyguest import IMAGE, TREE, Lazy, Reader, daemon, is_completed, largest, path_of, puzzlefs, right_or_missing
from registries import Registry

KINDS = ("ext4", "xfs", "btrfs")
SIZE = 1 << 30
LOSSES = 4
FILLING = 2  # seconds after which a daemon begins with what nobody reads
PYTHON = "import decimal, email.message, json, sqlite3; print(json.dumps([str(decimal.Decimal('0.1') + 1), 6 * 7]))"
DEBIAN = Image("debian")


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Disk:
    """A filesystem at /scratch/KIND, on a disk that can go away."""

    def __init__(self, kind):
        self.kind, self.root, self.file = kind, f"/scratch/{kind}", f"/scratch/{kind}.disk"
        os.makedirs(self.root, exist_ok=True)
        with open(self.file, "wb") as f:
            f.truncate(SIZE)
        self.loop = run("losetup", "--find", "--show", self.file)
        self.path = f"/dev/mapper/{kind}"
        run("dmsetup", "create", kind, "--noudevsync", "--table", self.table("linear {} 0"))
        run("dmsetup", "mknodes", kind)
        run(f"mkfs.{kind}", "-q", self.path)
        self.mount()

    def table(self, target):
        return f"0 {SIZE // 512} {target.format(self.loop)}"

    def become(self, target):
        run("dmsetup", "suspend", "--nolockfs", "--noflush", self.kind)
        run("dmsetup", "load", self.kind, "--table", self.table(target))
        run("dmsetup", "resume", "--noudevsync", self.kind)

    def mount(self):
        run("mount", "-t", self.kind, self.path, self.root)

    def lose_power(self):
        """Nothing more gets to the disk, nor what is in memory."""
        self.become("error")

    def comes_back(self):
        subprocess.run(["umount", self.root], check=True)
        self.become("linear {} 0")
        self.mount()

    def close(self):
        run("umount", self.root)
        run("dmsetup", "remove", "--noudevsync", self.kind)
        run("losetup", "--detach", self.loop)
        os.unlink(self.file)


def pull(layout, source, image=IMAGE):
    puzzlefs("pull", "--lazy", "--plain-http", "--quiet", source, f"/scratch/{layout}:test")
    lazy = Lazy(layout)
    lazy.digest = image.digest
    check(len(lazy.records()) > 0, "nothing is missing")
    return lazy


def mapped(root):
    name = largest()
    with open(path_of(root, name), "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as content:
        content.madvise(mmap.MADV_RANDOM)
        # From the end: a fault for each page.
        for at in range(len(content) - 1, 0, -65536):
            content[at]
        equal(hashlib.sha256(content).hexdigest(), TREE[name]["sha256"], f"{name}, mapped")


@contextlib.contextmanager
def above(lower):
    """An overlayfs over a mount, with what is changed in memory."""
    top = "/tmp/above"
    run("mount", "-t", "tmpfs", "none", os.makedirs(top) or top)
    for name in "upper", "work", "root":
        os.mkdir(f"{top}/{name}")
    run("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={top}/upper,workdir={top}/work", "none", f"{top}/root")
    try:
        yield f"{top}/root"
    finally:
        run("umount", f"{top}/root")
        run("umount", top)
        os.rmdir(top)


def copied_up(root):
    """A file that is changed through overlayfs has all its other bytes."""
    name = sorted(TREE, key=lambda name: -TREE[name]["size"])[1]
    with open(path_of(root, name), "ab") as f:
        f.write(b"more")
    with open(path_of(root, name), "rb") as f:
        content = f.read()
    equal(content[-4:], b"more", "what was written")
    equal(hashlib.sha256(content[:-4]).hexdigest(), TREE[name]["sha256"], f"{name}, copied up")


def used(disk, source):
    lazy = pull(f"{disk.kind}/used", source)
    with daemon(lazy, options=("--no-fill",)), mounted(lazy) as root:
        mapped(root)
        with above(root) as over:
            copied_up(over)
        readers = [Reader(root, seed) for seed in range(4)]
        for reader in readers:
            reader.join()
            equal(reader.faults, [], f"what a reader found on {disk.kind}")
    puzzlefs("verify", f"{lazy.layout}:test")


def executed(disk, source):
    lazy = pull(f"{disk.kind}/debian", source, DEBIAN)
    with daemon(lazy, options=("--no-fill",)), mounted(lazy) as root, above(root) as over:
        equal(run("chroot", over, "/usr/bin/python3", "-c", PYTHON), '["1.1", 42]', f"Python's answer on {disk.kind}")
    status = puzzlefs("status", "--format", "json", lazy.layout)["images"][0]
    print(f"{disk.kind}: Python has run, {status['bytes_here']} of {status['bytes']} bytes are here")
    check(status["bytes_here"] * 2 < status["bytes"], "half of the image came for Python alone")


def lost(disk, source, rng):
    """The disk goes away at some moments of filling."""
    lazy, here, count = pull(f"{disk.kind}/lost", source), [], None
    run("sync")
    for _ in range(LOSSES):
        # So slowly that it is not done by then.
        with daemon(lazy, options=("--rate", "500K")):
            time.sleep(FILLING + rng.uniform(0.1, 3))
            disk.lose_power()
        disk.comes_back()
        status = puzzlefs("status", "--format", "json", lazy.layout)["images"][0]
        here.append(status["bytes_here"])
        if count is None and status["bytes_here"] * 3 > status["bytes"]:
            count = right_or_missing(lazy)
    check(len(set(here)) > 1 and here[0] < status["bytes"], f"{here}: it was filled before the disk went away")
    is_completed(lazy, "--plain-http", "--quiet")
    print(f"{disk.kind}: after each of {LOSSES} losses of power {here} bytes were here; after the first that left a third "
          f"{count} of {len(TREE)} files read, all right")


run("modprobe", "-a", "loop", "dm_mod", "overlay", *KINDS)
with Registry("/scratch") as registry:
    source = f"docker://{registry.host}/a/small:1"
    debian = f"docker://{registry.host}/a/debian:1"
    puzzlefs("push", "--plain-http", "--quiet", f"{IMAGE.layout}:test", source)
    puzzlefs("push", "--plain-http", "--quiet", f"{DEBIAN.layout}:test", debian)
    for seed, kind in enumerate(KINDS):
        disk = Disk(kind)
        used(disk, source)
        executed(disk, debian)
        lost(disk, source, random.Random(seed))
        shutil.rmtree(f"{disk.root}/debian")
        disk.close()
print(f"lazy images on {', '.join(KINDS)}: right bytes, also after a loss of power")
