#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small debian; memory 2G
# shows: mounts of one image share a superblock and its memory, by whatever path they name
# the layout in one mount; others do not; mounting and unmounting at the same time from many tasks.

import concurrent.futures
import errno
import os
import subprocess

import mountapi
from case import Image, check, compare, drop_caches, equal, mount, mounted

small, debian = Image("small"), Image("debian")
for name in "abcl":
    os.makedirs(f"/mnt/{name}", exist_ok=True)


def device(path):
    return os.stat(path).st_dev


def cached_kib():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Cached:"))


def read(root, files):
    total = 0
    for path, _ in files:
        with open(os.path.join(root.encode(), path), "rb") as f:
            total += len(f.read())
    return total


# By the same path, and through a symbolic link; not through another mount of the layout (case 46).
subprocess.run(["mount", "--bind", debian.layout, "/mnt/l"], check=True)
os.symlink(debian.layout, "/mnt/link")
with mounted(debian, "/mnt/a"):
    for layout, is_same in (debian.layout, True), ("/mnt/link", True), ("/mnt/l", False):
        mount(f"oci_root_dir={layout},image_manifest={debian.digest}", "/mnt/b")
        equal(device("/mnt/b") == device("/mnt/a"), is_same, f"whether the device is the same by {layout}")
        subprocess.run(["umount", "/mnt/b"], check=True)
    with mounted(small, "/mnt/c"):
        check(device("/mnt/c") != device("/mnt/a"), "two images have one device")

    # What one mount has read the other one finds in memory.
    mount(debian.options(), "/mnt/b")
    files = debian.files(at_least=65536)[:200]
    drop_caches()
    size = read("/mnt/a", files)
    before = cached_kib()
    equal(read("/mnt/b", files), size, "what is read through the second mount")
    grown = (cached_kib() - before) * 1024
    check(grown < size / 10, f"reading {size} bytes again took {grown} bytes of page cache")

    # fsopen(2) can ask for a superblock of its own; there is none.
    fs = mountapi.syscall(mountapi.FSOPEN, b"puzzlefs", 0)
    for key, value in (("oci_root_dir", debian.layout), ("image_manifest", debian.digest)):
        mountapi.syscall(mountapi.FSCONFIG, fs, mountapi.FSCONFIG_SET_STRING,
                         key.encode(), value.encode(), 0)
    try:
        mountapi.syscall(mountapi.FSCONFIG, fs, mountapi.FSCONFIG_CMD_CREATE_EXCL, None, None, 0)
        check(False, "an exclusive superblock was made")
    except OSError as error:
        equal(error.errno, errno.EBUSY, "the errno of FSCONFIG_CMD_CREATE_EXCL")
    os.close(fs)

    # The first mount goes, the second stays.
    subprocess.run(["umount", "/mnt/a"], check=True)
    drop_caches()
    equal(read("/mnt/b", files), size, "what is read after the first is unmounted")
    subprocess.run(["mount", "--move", "/mnt/b", "/mnt/a"], check=True)


def churn(number):
    """Mounts and unmounts one of two images, ten times."""
    target = f"/mnt/churn{number}"
    os.makedirs(target, exist_ok=True)
    for _ in range(10):
        image = (small, debian)[number % 2]
        mount(image.options(), target)
        check(os.listdir(f"{target}/etc"), "a mount has nothing in etc")
        subprocess.run(["umount", target], check=True)


with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(churn, range(4)))
with mounted(small, "/mnt/a"):
    compare("/mnt/a", small, least=1000)
subprocess.run(["umount", "/mnt/l"], check=True)
print("one image, one superblock")
