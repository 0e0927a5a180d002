#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small-loose; memory 2G
# shows: mounts of one image share a superblock only by one mount of the layout, with one set of
# credentials and the same flags: nobody reads with another's rights, nor lacks his own.

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys

from case import Image, check, drop_caches, equal
from mountapi import libc
from pagecache import cached

IMAGE = Image("small-loose")
LAYOUT = "/scratch/credentials/oci"
FILE = "srv/corners/incompressible"
KEYCTL, JOIN_SESSION_KEYRING = 250, 1
PR_SET_SECUREBITS, NO_SETUID_FIXUP = 28, 1 << 2
# mount(8) lets only root mount, these system calls whoever has the capability.
MOUNT = """import sys, mountapi
layout, digest, target, *flags = sys.argv[1:]
mountapi.mount([("oci_root_dir", layout), ("image_manifest", digest)], target, flags)"""
# With no other capability than to mount.
USER = ("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps", "+sys_admin",
        "--ambient-caps", "+sys_admin")


def run(*command):
    subprocess.run(command, check=True)


def device(path):
    return os.stat(path).st_dev


@contextlib.contextmanager
def mounted(number, *how, layout=LAYOUT, flags=(), before=None):
    """The image at /mnt/NUMBER, mounted by a process that `how` begins, after it has called `before`."""
    target = f"/mnt/{number}"
    os.makedirs(target, exist_ok=True)
    subprocess.run([*how, sys.executable, "-c", MOUNT, layout, IMAGE.digest, target, *flags], check=True,
                   preexec_fn=before)
    try:
        yield target
    finally:
        run("umount", "-l", target)


def read(root):
    """Whether the file has the right bytes; None if it cannot be opened or read."""
    with open(f"{IMAGE.source}/{FILE}", "rb") as f:
        want = f.read()
    try:
        with open(f"{root}/{FILE}", "rb") as f:
            return f.read() == want
    except OSError as error:
        print(f"{root}: {error}")
        return None


def new_session():
    if libc.syscall(KEYCTL, JOIN_SESSION_KEYRING, None) < 0:
        raise OSError(ctypes.get_errno(), "keyctl")


def other_securebits():
    if libc.prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def who():
    """Every part of the credentials counts, and nothing else does."""
    with mounted("first") as first:
        with mounted("second", "nice", "sh", "-c", 'umask 077; exec "$@"', "sh") as second:
            equal(device(second), device(first), "the device of a second mount by root")
        for what, how, before in (
                ("supplementary groups", ("setpriv", "--groups", "7"), None),
                ("a group", ("setpriv", "--regid", "7", "--clear-groups"), None),
                ("a real user", ("setpriv", "--ruid", "7"), None),
                ("capabilities", ("setpriv", "--bounding-set", "-sys_time"), None),
                ("securebits", (), other_securebits),
                ("a session keyring", (), new_session),
                ("all ids and nearly all capabilities", USER, None)):
            with mounted("second", *how, before=before) as second:
                check(device(second) != device(first), f"a mount by who has other {what} shares the superblock")
                equal(read(second), True, f"what is read through a mount by who has other {what}")
                with mounted("third", *how, before=before) as third:
                    # A new keyring is a new one each time.
                    if before is not new_session:
                        equal(device(third), device(second), f"the device of two mounts with the same {what}")
            print(f"{what}: a superblock of its own")


def rights():
    """Of a chunk that only root may read. Who mounts first has no say in what the other one reads."""
    # Opened when the file is; what was there at mount time may be read by all.
    for name in os.listdir(f"{LAYOUT}/blobs/sha256"):
        os.chmod(f"{LAYOUT}/blobs/sha256/{name}", 0o600)
    with open(f"{LAYOUT}/blobs/sha256/{IMAGE.digest}") as f:
        metadata = json.load(f)["layers"][0]["digest"].partition(":")[2]
    for name in IMAGE.digest, metadata:
        os.chmod(f"{LAYOUT}/blobs/sha256/{name}", 0o644)
    for order in ((), USER), (USER, ()):
        with mounted("first", *order[0]) as first, mounted("second", *order[1]) as second:
            drop_caches()
            want = [True if how == () else None for how in order]
            equal([read(root) for root in (first, second)], want, "who reads a chunk that only root may read")
            equal([read(root) for root in (second, first)], want[::-1], "the same when it was read before")
        print(f"mounted {'by a user first' if order[0] else 'by root first'}: each reads what he may")


@contextlib.contextmanager
def bound(number, *options):
    """The layout once more at /mnt/NUMBER."""
    target = f"/mnt/{number}"
    os.makedirs(target, exist_ok=True)
    run("mount", "--bind", *options, LAYOUT, target)
    try:
        yield target
    finally:
        if os.path.ismount(target):
            run("umount", "-l", target)


def other_mounts():
    """A mount of the layout is held by who mounted through it, and by no other."""
    with bound("one") as one, bound("two") as two:
        with mounted("first", layout=one) as first:
            with mounted("second", layout=two) as second:
                check(device(second) != device(first), "two mounts of the layout give one superblock")
                with open("/proc/mounts") as f:
                    shown = [line.split()[3] for line in f if line.split()[1] == second]
                check(f"oci_root_dir={two}" in shown[0].split(","), f"/proc/mounts has {shown} at {second}")
                with mounted("third", layout=two) as third:
                    equal(device(third), device(second), "the device of the third mount")
                # The page cache of its files they have in common all the same.
                drop_caches()
                equal(read(first), True, "what is read through the first mount")
                with open(f"{second}/{FILE}", "rb") as f:
                    check(cached(f.fileno()) > 0, "two superblocks of an image share no page cache")
                busy = subprocess.run(["umount", one], stderr=subprocess.DEVNULL).returncode
                check(busy != 0, "the layout's mount went while an image was mounted from it")
                run("umount", first)
                run("umount", one)
                equal(read(second), True, "what is read when the first mount and its layout's are gone")
                run("mount", "--bind", "/mnt", first)  # for what unmounts it
        print("each holds the mount of the layout that it came by")


def idmapped():
    """The owner of the chunk is another user by an idmapped mount, and only there."""
    with bound("shifted", "-o", "X-mount.idmap=b:0:1000:1") as shifted:
        for order in (LAYOUT, shifted), (shifted, LAYOUT):
            with mounted("first", *USER, layout=order[0]) as first, \
                    mounted("second", *USER, layout=order[1]) as second:
                drop_caches()
                want = [True if layout == shifted else None for layout in order]
                equal([read(root) for root in (first, second)], want, f"who reads by {order}")
    print("an idmapped mount of the layout: read as it maps")


def flags():
    """What /proc/mounts shows of a mount is what that one asked for."""
    def shown(root):
        with open("/proc/mounts") as f:
            return next(line.split()[3].split(",") for line in f if line.split()[1] == root)

    with mounted("first") as first:
        with mounted("second", flags=("sync",)) as second, mounted("third", flags=("sync",)) as third:
            equal(["sync" in shown(root) for root in (first, second, third)], [False, True, True], "who is sync")
            equal(device(second), device(third), "the device of two that are")
        with mounted("second", flags=("ro",)) as second:
            equal(device(second), device(first), "the device of one that says that it is read-only")


os.makedirs(LAYOUT)
for directory in "/scratch", "/scratch/credentials":
    os.chmod(directory, 0o755)
shutil.copytree(IMAGE.layout, LAYOUT, dirs_exist_ok=True)
run("chmod", "-R", "a+rX", LAYOUT)
who()
other_mounts()
flags()
rights()
idmapped()
print("a superblock is shared by equals only")
