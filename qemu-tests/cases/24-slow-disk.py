#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-cache; memory 2G
# shows: a reader of a disk that answers no more is ended by a signal, in read(2) and in a page
# fault; what others read after that is right.

import hashlib
import mmap
import os
import shutil
import signal
import subprocess
import time

from case import Image, check, drop_caches, equal

IMAGE, TARGET, STORE = Image("peers-cache"), "/mnt/target", "/mnt/store"
SIZE = 256 << 20


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def is_ended(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.05)
    return False


def by_read(f):
    os.pread(f.fileno(), 1 << 20, 8 << 20)


def by_fault(f):
    with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as area:
        area[8 << 20]


def stalled(read, number):
    with open(f"{TARGET}/text", "rb", buffering=0) as f:
        drop_caches()
        run("dmsetup", "suspend", "--nolockfs", "--noflush", "disk")
        pid = os.fork()
        if pid == 0:
            if number != signal.SIGKILL:  # as it is where no program asks for it
                signal.signal(number, signal.SIG_DFL)
            read(f)
            os._exit(0)
        waited = not is_ended(pid, 1)
        os.kill(pid, number)
        ended = is_ended(pid, 10)
        run("dmsetup", "resume", "disk")
        check(waited, "the disk does not stand still")
        check(ended, f"signal {number} did not end the reader {read.__name__}")
        equal(hashlib.sha256(f.read()).hexdigest(), SHA256, "what is read after that")


# A disk that can be told to stand still.
for name in TARGET, STORE:
    os.makedirs(name, exist_ok=True)
run("modprobe", "-a", "loop", "dm-mod")
with open("/scratch/disk", "wb") as f:
    f.truncate(SIZE)
loop = run("losetup", "--find", "--show", "/scratch/disk")
run("dmsetup", "create", "disk", "--noudevsync", "--table", f"0 {SIZE // 512} linear {loop} 0")
run("dmsetup", "mknodes", "disk")
run("mkfs.ext4", "-q", "/dev/mapper/disk")
run("mount", "/dev/mapper/disk", STORE)
shutil.copytree(IMAGE.layout, f"{STORE}/oci")
os.sync()
run("mount", "-t", "puzzlefs", f"{STORE}/oci:test", TARGET)

SHA256 = dict(IMAGE.digests())[b"./text"]
for read in by_read, by_fault:
    for number in signal.SIGKILL, signal.SIGTERM, signal.SIGINT:
        stalled(read, number)
run("umount", TARGET, STORE)
run("dmsetup", "remove", "--noudevsync", "disk")
run("losetup", "--detach", loop)
print("signals end readers of a disk that stands still")
