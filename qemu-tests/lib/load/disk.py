# SPDX-License-Identifier: GPL-2.0
"""The disk below the layouts: one that can be made slow, stand still, fail, and lie.

The filesystem on it is mounted read-only, without its journal, so that nothing of it has to be
written when the disk fails; what it caches of a bad time is dropped afterwards."""

import contextlib
import os
import shutil
import subprocess
import time

import injection

KINDS = {"ext4": ("noload",), "xfs": ("norecovery",)}
SIZE = 320 << 20  # mkfs.xfs makes none below 300 MiB


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Disk:
    """A filesystem with copies of the images' layouts, at `root`."""

    def __init__(self, kind, images):
        self.kind, self.name, self.root = kind, f"load-{kind}", f"/mnt/disk/{kind}"
        self.path = f"/dev/mapper/{self.name}"
        file = f"/scratch/{self.name}"
        os.makedirs(self.root, exist_ok=True)
        with open(file, "wb") as f:
            f.truncate(SIZE)
        self.loop = run("losetup", "--find", "--show", "--direct-io=on", file)
        run("dmsetup", "create", self.name, "--noudevsync", "--table", self._table("linear {} 0"))
        run("dmsetup", "mknodes", self.name)
        run(f"mkfs.{kind}", "-q", self.path)
        run("mount", "-t", kind, self.path, self.root)
        for image in images:
            shutil.copytree(image.layout, f"{self.root}/{image.name}")
        run("umount", self.root)
        run("mount", "-t", kind, "-o", ",".join(("ro", *KINDS[kind])), self.path, self.root)

    def close(self):
        run("umount", self.root)
        run("dmsetup", "remove", "--noudevsync", self.name)
        run("losetup", "--detach", self.loop)

    def _table(self, target):
        return f"0 {SIZE // 512} {target.format(self.loop)}"

    def _suspend(self):
        run("dmsetup", "suspend", "--nolockfs", "--noflush", self.name)

    def _resume(self):
        run("dmsetup", "resume", "--noudevsync", self.name)

    def _load(self, target):
        self._suspend()
        run("dmsetup", "load", self.name, "--table", self._table(target))
        self._resume()

    @contextlib.contextmanager
    def _as(self, target):
        self._load(target)
        try:
            yield
        finally:
            self._load("linear {} 0")

    def slow(self):
        """Each read takes 40 ms more."""
        return self._as("delay {} 0 40")

    def failing(self):
        """Every other second nothing can be read."""
        return self._as("flakey {} 0 1 1")

    def lying(self):
        """Two seconds of three, one read in five has a wrong byte."""
        return self._as("flakey {} 0 1 2 2 random_read_corrupt 200000000")

    @contextlib.contextmanager
    def requests_fail(self, percent):
        """Some requests fail, by the kernel's fault injection."""
        # Its name there is not that of the device mapper.
        device = os.stat(self.path).st_rdev
        part = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/make-it-fail"
        folder = "/sys/kernel/debug/fail_make_request"
        write(f"{folder}/verbose", 0)
        write(f"{folder}/task-filter", "N")
        write(part, 1)
        try:
            with injection.at_random(percent, folder):
                yield
        finally:
            write(part, 0)

    @contextlib.contextmanager
    def standing_still(self):
        self._suspend()
        try:
            yield time.monotonic()
        finally:
            self._resume()


def write(path, value):
    with open(path, "w") as f:
        f.write(str(value))
