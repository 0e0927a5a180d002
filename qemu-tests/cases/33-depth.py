#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G; scratch 2G; cpus 1
# shows: how deep filesystems stack. Neither PuzzleFS nor EROFS over a file counts itself, so that two
# overlayfs can lie on them; they make no tower, and leave enough of the kernel's stack.

import errno
import os
import shutil
import subprocess

import mountapi
from case import Image, check, drop_caches, equal

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


def right_bytes(root):
    drop_caches()
    for name in FILES:
        with open(f"{root}/{name}", "rb") as f, open(f"{IMAGE.source}/{name}", "rb") as want:
            check(f.read() == want.read(), f"{root}/{name} has other bytes")


def refused(what, number, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        equal(errno.errorcode[error.errno], errno.errorcode[number], what)
        print(f"{what}: {errno.errorcode[number]}")
    else:
        check(False, f"{what}: it was mounted")


def stack_used(root):
    """Bytes of the kernel's stack of 16 KiB that reading below `root` takes at the most, as its stack
    tracer has it, which looks where functions of C begin. To switch it on changes the kernel's code,
    of which an emulated second processor may see a half."""
    def setting(path, value):
        with open(path, "w") as f:
            f.write(value)
    setting("/sys/kernel/tracing/stack_max_size", "0")
    setting("/proc/sys/kernel/stack_tracer_enabled", "1")
    right_bytes(root)
    setting("/proc/sys/kernel/stack_tracer_enabled", "0")
    with open("/sys/kernel/tracing/stack_trace") as f:
        trace = f.read()
    with open("/sys/kernel/tracing/stack_max_size") as f:
        return int(f.read()), trace


run("modprobe", "-a", "erofs", "overlay", "loop")
run("mount", "-t", "tracefs", "none", "/sys/kernel/tracing")
os.makedirs(f"{SCRATCH}/tree")
run("mkfs.erofs", "--quiet", f"{SCRATCH}/tree/layout.erofs", IMAGE.layout)
shutil.copytree(IMAGE.layout, f"{SCRATCH}/tree/layout")
for name in FILES:
    os.makedirs(os.path.dirname(f"{SCRATCH}/files/{name}"))
    shutil.copy(f"{IMAGE.source}/{name}", f"{SCRATCH}/files/{name}")
run("mkfs.erofs", "--quiet", "-zzstd", f"{SCRATCH}/tree/files.erofs", f"{SCRATCH}/files")

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

# As high as it goes: an EROFS over a file of an image, and two overlayfs.
erofs("/mnt/tower/files.erofs", "files")
overlay(overlay("/mnt/files", "sixth"), "seventh")
for name in "image", "inner", "second", "seventh":
    used, trace = stack_used(f"/mnt/{name}")
    print(f"reading /mnt/{name} takes {used} bytes of stack")
    check(1000 < used < 10000, f"reading takes {used} bytes of stack:\n{trace}")

for name in ("seventh", "sixth", "files", "last", "next", "fifth", "erofs", "fourth", "third", "tower",
             "inner", "second", "first", "image"):
    run("umount", f"/mnt/{name}")
shutil.rmtree(SCRATCH)
print("filesystems stack as deep as the kernel means them to")
