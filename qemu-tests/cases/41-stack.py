#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G; cpus 1; kernel stock
# shows: how much of the kernel's stack reading takes, on filesystems as deep as they stack (33).
# One processor: to switch the kernel's stack tracer on changes its code, of which an emulated
# second one may see a half.

import shutil

from case import check
from stacks import IMAGE, SCRATCH, right_bytes, run, take_down, tower

TRACING = "/sys/kernel/tracing"


def write(path, value):
    with open(path, "w") as f:
        f.write(value)


def used(root):
    """Bytes of the stack of 16 KiB that reading below `root` takes at the most, and where: as the
    tracer has it, which looks where functions of C begin."""
    write(f"{TRACING}/stack_max_size", "0")
    write("/proc/sys/kernel/stack_tracer_enabled", "1")
    right_bytes(root)
    write("/proc/sys/kernel/stack_tracer_enabled", "0")
    with open(f"{TRACING}/stack_max_size") as size, open(f"{TRACING}/stack_trace") as trace:
        return int(size.read()), trace.read()


run("modprobe", "-a", "erofs", "overlay")
run("mount", "-t", "tracefs", "none", TRACING)
tower(IMAGE.layout)
sizes = []
for name, what in (("image", "PuzzleFS"), ("inner", "PuzzleFS, overlayfs"), ("second", "two overlayfs, PuzzleFS"),
                   ("fourth", "two overlayfs, EROFS on a file, PuzzleFS")):
    size, trace = used(f"/mnt/{name}")
    sizes.append(size)
    print(f"{what}: {size} bytes of stack\n{trace}")
    check(1000 < size < 11000, f"reading takes {size} bytes of stack")

take_down()
shutil.rmtree(SCRATCH)
print(f"reading takes {', '.join(map(str, sizes))} bytes of stack")
