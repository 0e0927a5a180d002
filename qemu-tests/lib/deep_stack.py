# SPDX-License-Identifier: GPL-2.0
"""Measures the kernel's stack for case 45, in a machine of its own."""

import contextlib
import glob
import itertools
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time

import stacks
from case import check
from stacks import IMAGE, erofs, overlay, place, right_bytes

STACK = 16 << 10
# A quarter must be left, for what was not met here.
MOST = STACK - (4 << 10)
STORE, GROUP = "/mnt/store", "/sys/fs/cgroup/reader"
SECTORS = (768 << 20) // 512
# What the reader has of its own, the dirty pages and what it reads are more: so it reclaims, and swaps out.
LIMIT, OWN, ROUNDS = 128 << 20, 112 << 20, 2


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def write(path, value):
    with open(path, "w") as f:
        f.write(str(value))


def encrypted(name, device, start, sectors):
    """A part of a disk, encrypted."""
    run("dmsetup", "create", name, "--noudevsync", "--table",
        f"0 {sectors} crypt aes-xts-plain64 {'5a' * 32}{'a5' * 32} 0 {device} {start}")
    run("dmsetup", "mknodes", name)
    return f"/dev/mapper/{name}"


def used():
    """Bytes of stack that this task has used at the most."""
    with open("/proc/stack_used") as f:
        return int(f.read())


def read_all(root):
    """Reads below `root` by all ways, cold, while its own memory has to give way."""
    own = mmap.mmap(-1, OWN)
    for number in range(ROUNDS):
        subprocess.run(["sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"], check=True)
        for at in range(0, OWN, mmap.PAGESIZE):
            own[at] = number
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                os.lstat(path)
                if os.path.islink(path) or not os.path.isfile(path) or not os.path.getsize(path):
                    continue
                os.listxattr(path)
                with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as area:
                    for at in range(0, min(len(area), 8 << 20), mmap.PAGESIZE * 5):
                        area[at]
                    while f.read(1 << 17):
                        pass
    return own


def measured(root):
    """What a task that reads below `root` uses at the most."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        write(f"{GROUP}/cgroup.procs", os.getpid())
        own = read_all(root)
        os.write(into, str(used()).encode())
        own.close()
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as f:
        size = f.read()
    status = os.waitpid(pid, 0)[1]
    if status:
        print(run("dmesg")[-6000:])
    with open(f"{GROUP}/memory.events") as f:
        check(status == 0 and size, f"the reader of {root} ended with {status}; {f.read().split()}")
    return int(size)


@contextlib.contextmanager
def dirty_pages():
    """A task of the same cgroup that overwrites a file all the time."""
    pid = os.fork()
    if pid == 0:
        write(f"{GROUP}/cgroup.procs", os.getpid())
        fd = os.open(f"{STORE}/dirty", os.O_WRONLY | os.O_CREAT, 0o600)
        for number in itertools.count():
            os.pwrite(fd, os.urandom(1 << 18), number % 64 << 18)
            time.sleep(0.02)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def helped():
    """Chunks that were decompressed by a helper, for all images."""
    total = 0
    for path in glob.glob("/sys/fs/puzzlefs/*/chunks_helped"):
        with open(path) as f:
            total += int(f.read())
    return total


def counters():
    with open(f"{GROUP}/memory.stat") as f:
        values = dict(line.split() for line in f)
    return {name: int(values[name]) for name in ("pgsteal", "pgscan_direct", "pswpout") if name in values}


run("modprobe", "-a", "erofs", "overlay", "dm-mod", "dm-crypt", "xfs")
run("insmod", sys.argv[1])
# The virtio disk itself, since a loop device would read it by a task of its own.
virtio = run("findmnt", "--noheadings", "--output", "SOURCE", "/scratch")
run("umount", "/scratch")
disk = encrypted("disk", virtio, 0, SECTORS)
swap = encrypted("swap", virtio, SECTORS, SECTORS // 4)
run("mkfs.xfs", "-q", disk)
run("mount", disk, place("store"))
run("mkswap", swap)
run("swapon", swap)
if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
    run("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup")
write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
os.mkdir(GROUP)
write(f"{GROUP}/memory.max", LIMIT)

stacks.SCRATCH = f"{STORE}/depth"
layout = f"{STORE}/layout"
shutil.copytree(IMAGE.layout, layout)
stacks.tower(layout)
os.sync()
# Without us, for comparison.
erofs(f"{stacks.SCRATCH}/tree/files.erofs", "plain-erofs")
overlay(overlay("/mnt/plain-erofs", "fifth"), "sixth")

sizes = []
with dirty_pages():
    for name, what in (("store/depth/files", "xfs"), ("sixth", "two overlayfs, EROFS on a file"), ("image", "PuzzleFS"),
                       ("inner", "PuzzleFS, overlayfs, PuzzleFS"), ("second", "two overlayfs, PuzzleFS"),
                       ("fourth", "two overlayfs, EROFS on a file, PuzzleFS")):
        size = measured(f"/mnt/{name}")
        sizes.append(size)
        print(f"{what}, on xfs on dm-crypt on virtio: {size} bytes of {STACK}", flush=True)
reclaimed, count = counters(), helped()
print(f"{reclaimed}; {count} chunks by helpers")
check(reclaimed["pswpout"] and reclaimed["pgscan_direct"] and count, "nothing was swapped out, or no helper ran")
for size in sizes:
    check(2000 < size <= MOST, f"reading takes {size} bytes of stack, more than {MOST}")
for name in "inner", "second":
    right_bytes(f"/mnt/{name}")
for name in "sixth", "fifth", "plain-erofs":
    run("umount", f"/mnt/{name}")
stacks.take_down()
run("swapoff", swap)
print(f"reading takes {', '.join(map(str, sizes))} bytes of stack")
