#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G
# shows: oci_root_dir as an open file (O_PATH too), as a path from one on, and as a string of
# /proc/self/fd: the same superblock, the same options in /proc/mounts, a remount that repeats
# them; a layout that no path leads to; what is no layout is refused.

import contextlib
import errno
import os
import subprocess

import mountapi
from case import Image, check, equal
from mountapi import AT_FDCWD, syscall

OPEN_TREE, OPEN_TREE_CLONE = 428, 1
IMAGE = Image("small")
TARGET = "/mnt/target"


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    equal(done.returncode, 0, f"{' '.join(command)} ({done.stdout})")


@contextlib.contextmanager
def opened(path, flags=os.O_PATH):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def shown(target):
    """The options of a mount in /proc/mounts."""
    with open("/proc/mounts") as f:
        return next(line.split()[3] for line in f if line.split()[1] == target).split(",")


def right_bytes():
    with open(f"{TARGET}/etc/passwd", "rb") as f, open(f"{IMAGE.source}/etc/passwd", "rb") as want:
        equal(f.read(), want.read(), "a file")


def mounts(what, value, layout=IMAGE.layout, is_same=True):
    """Mounts the layout once more, finds the superblock of /mnt/first or another, and remounts."""
    mountapi.mount([("oci_root_dir", value), ("image_manifest", IMAGE.digest)], TARGET)
    right_bytes()
    equal(os.stat(TARGET).st_dev == os.stat("/mnt/first").st_dev, is_same, f"{what}: whether the device is the same")
    check(f"oci_root_dir={layout}" in shown(TARGET), f"{what}: /proc/mounts has {shown(TARGET)}")
    run("mount", "-o", "remount,nosuid", TARGET)
    check("nosuid" in shown(TARGET), f"{what}: after the remount it has {shown(TARGET)}")
    run("umount", TARGET)
    print(f"{what}: {'the same' if is_same else 'another'} superblock")


def refused(what, options, number, word):
    try:
        mountapi.mount(options, TARGET)
    except mountapi.MountError as error:
        equal(errno.errorcode[error.errno], errno.errorcode[number], f"{what}: the errno")
        check(word in "".join(error.messages), f"{what}: the messages are {error.messages}")
        print(f"{what}: {errno.errorcode[number]}, {error.messages}")
    else:
        check(False, f"{what}: it was mounted")


for name in "/mnt/first", "/mnt/bound", TARGET:
    os.makedirs(name, exist_ok=True)
mountapi.mount([("oci_root_dir", IMAGE.layout), ("image_manifest", IMAGE.digest)], "/mnt/first")

with opened(IMAGE.layout) as fd:
    mounts("an O_PATH descriptor", fd)
    mounts("an empty path from a descriptor on", (fd, ""))
    mounts("a string of /proc/self/fd", f"/proc/self/fd/{fd}")
    run("mount", "-i", "-t", "puzzlefs", "-o", f"oci_root_dir=/proc/self/fd/{fd},image_manifest={IMAGE.digest}",
        "none", TARGET, pass_fds=[fd])
    check(f"oci_root_dir={IMAGE.layout}" in shown(TARGET), f"mount(8) of /proc/self/fd: {shown(TARGET)}")
    run("umount", TARGET)
with opened(IMAGE.layout, os.O_RDONLY) as fd:
    mounts("a descriptor for reading", fd)
with opened(os.path.dirname(IMAGE.layout)) as fd:
    mounts("a path from a descriptor on", (fd, os.path.basename(IMAGE.layout)))
mounts("a path of more than 256 bytes", (AT_FDCWD, "/." * 150 + IMAGE.layout))
run("mount", "--bind", IMAGE.layout, "/mnt/bound")
with opened("/mnt/bound") as fd:
    mounts("a descriptor of another mount of the same directory", fd, "/mnt/bound", is_same=False)
run("umount", "/mnt/bound")
deep = "/mnt/" + "/".join(["d" * 100] * 3)
os.makedirs(deep)
run("mount", "--bind", IMAGE.layout, deep)
run("puzzlefs", "mount", f"{deep}:test", TARGET)
right_bytes()
run("umount", TARGET)
run("umount", deep)
print("puzzlefs mount of a path of more than 256 bytes: right bytes")

# Where no path leads; its blobs behind an absolute link.
run("mount", "-t", "tmpfs", "tmpfs", "/mnt/bound")
os.makedirs("/mnt/bound/oci/blobs")
os.symlink(f"{IMAGE.layout}/blobs/sha256", "/mnt/bound/oci/blobs/sha256")
detached = syscall(OPEN_TREE, AT_FDCWD, b"/mnt/bound", OPEN_TREE_CLONE)
run("umount", "/mnt/bound")
layout = os.open("oci", os.O_PATH, dir_fd=detached)
mountapi.mount([("oci_root_dir", layout), ("image_manifest", IMAGE.digest)], TARGET)
os.close(layout)
os.close(detached)
right_bytes()
print(f"a layout on a detached mount: right bytes; /proc/mounts has {shown(TARGET)}")
run("umount", TARGET)

digest = ("image_manifest", IMAGE.digest)
with opened(f"{IMAGE.layout}/index.json") as fd:
    refused("a regular file", [("oci_root_dir", fd), digest], errno.ENOTDIR, "oci_root_dir")
with opened("/mnt") as fd:
    refused("another directory", [("oci_root_dir", fd), digest], errno.ENOENT, "not an OCI layout")
    refused("a digest by a descriptor", [("image_manifest", fd)], errno.EINVAL, "image_manifest")
done = subprocess.run(["mount", "-o", "remount,oci_root_dir=/mnt", "/mnt/first"], stdout=subprocess.PIPE,
                      stderr=subprocess.STDOUT, text=True)
check(done.returncode != 0 and "remount" in done.stdout, f"a remount with another directory: {done.stdout}")
run("umount", "/mnt/first")
print("a layout by descriptor is the same layout")
