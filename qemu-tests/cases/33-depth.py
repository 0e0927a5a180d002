#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G; kernel stock
# shows: how deep filesystems stack. Neither PuzzleFS nor EROFS over a file counts itself, so that two
# overlayfs can lie on them; and they make no tower.

import errno
import os
import shutil
import subprocess

from case import check, equal
from stacks import IMAGE, SCRATCH, erofs, overlay, place, puzzlefs, right_bytes


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


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
shutil.copytree(IMAGE.layout, f"{SCRATCH}/tree/layout")

# An image is no level, as EROFS over a file is none: two overlayfs may lie on it.
image = puzzlefs(IMAGE.layout, "image")
right_bytes(overlay(overlay(image, "first"), "second"))
refused("a third overlayfs on two on PuzzleFS", errno.EINVAL, overlay, "/mnt/second", "third")

# A layout in a container whose root is an image: its files are on another filesystem.
shutil.copytree(IMAGE.layout, "/mnt/first/layout")
right_bytes(puzzlefs("/mnt/first/layout", "inner"))
refused("overlayfs on PuzzleFS on overlayfs on PuzzleFS", errno.EINVAL, overlay, "/mnt/inner", "fourth")

# Files of an image, or of an EROFS over a file, which might be one of an image, are no layout:
# not through an overlayfs either, nor through two.
run("puzzlefs", "build", f"{SCRATCH}/tree", f"{SCRATCH}/oci:test")
run("mount", "-t", "puzzlefs", f"{SCRATCH}/oci:test", place("tower"))
overlay(overlay("/mnt/tower", "third"), "fourth")
erofs("/mnt/tower/layout.erofs", "erofs")
for lower in "tower", "third":
    refused(f"PuzzleFS on {lower}", errno.ELOOP, puzzlefs, f"/mnt/{lower}/layout", "next")
refused("PuzzleFS on EROFS on a file", errno.ELOOP, puzzlefs, "/mnt/erofs", "next")
refused("PuzzleFS on overlayfs on EROFS on a file", errno.ELOOP, puzzlefs, overlay("/mnt/erofs", "fifth"), "next")
refused("PuzzleFS on two overlayfs", errno.ELOOP, puzzlefs, "/mnt/fourth/layout", "next")
refused("EROFS on a file of overlayfs on PuzzleFS", errno.ENOTBLK, erofs, "/mnt/third/layout.erofs", "next")

# A loop device reads with a task of its own: nothing stacks.
run("mount", "-t", "erofs", "-o", "loop,ro", "/mnt/tower/layout.erofs", place("next"))
right_bytes(puzzlefs("/mnt/next", "last"))
print("PuzzleFS on EROFS on a loop device on PuzzleFS: right bytes")

for name in "last", "next", "fifth", "erofs", "fourth", "third", "tower", "inner", "second", "first", "image":
    run("umount", f"/mnt/{name}")
shutil.rmtree(SCRATCH)
print("filesystems stack as deep as the kernel means them to")
