#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small-loose; memory 2G
# shows: a listener for fanotify's permission events that watches a mount and the filesystem
# of its layout, and reads what it is asked about: it gets events of its own reads, as over
# EROFS on a file. With several readers of its queue it works; with one it waits for itself
# until it is killed.

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time

import mountapi
from case import Image, check, drop_caches, equal
from fanotify import FAN_ACCESS_PERM, Scanner

IMAGE = Image("small-loose")
STORE = "/scratch/listened"
NAMES = [f"{d[len(IMAGE.source) + 1:]}/{n}" for d, _, ns in os.walk(f"{IMAGE.source}/etc") for n in ns
         if os.path.isfile(f"{d}/{n}") and not os.path.islink(f"{d}/{n}")][:50]


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def right_bytes(root):
    drop_caches()
    for name in NAMES:
        with open(f"{root}/{name}", "rb") as f, open(f"{IMAGE.source}/{name}", "rb") as want:
            check(f.read() == want.read(), f"{root}/{name} has other bytes")


def alone(root):
    """Whether a listener that has one reader of its queue stands still when files are read. When
    it is killed, the kernel denies what it was about to be asked, and allows the rest."""
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        scanner = Scanner(0, root)
        os.write(say, b"ready")
        scanner.answer()
    os.read(said, 5)
    drop_caches()
    def read():
        with contextlib.suppress(PermissionError):
            right_bytes(root)

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(5)
    stands = reader.is_alive()
    start = time.monotonic()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reader.join()
    print(f"{root}: one reader of the queue, {'stands still' if stands else 'answers'}; "
          f"killed, the reader ended after {time.monotonic() - start:.1f} s")
    return stands


# Files that are open before somebody listens have no permission events.
os.makedirs(STORE)
shutil.copytree(IMAGE.layout, f"{STORE}/oci")
run("modprobe", "erofs")
run("mkfs.erofs", "--quiet", "-zlz4", f"{STORE}/erofs", IMAGE.source)
for name in "/mnt/puzzlefs", "/mnt/erofs":
    os.makedirs(name, exist_ok=True)
answers = {}
for root, options, flags in (("/mnt/puzzlefs", [("oci_root_dir", f"{STORE}/oci"), ("image_manifest", IMAGE.digest)], ()),
                             ("/mnt/erofs", [("source", f"{STORE}/erofs")], ("ro",))):
    scanner = Scanner(4)
    mountapi.mount(options, root, flags, kind=os.path.basename(root))
    scanner.mounted(root)
    right_bytes(root)
    scanner.close()
    above, below = ([mask for place, mask in scanner.seen if place == where] for where in (True, False))
    print(f"{root}: four readers of the queue, right bytes; {len(above)} events of it, {len(below)} below")
    check(len(above) >= 2 * len(NAMES) and FAN_ACCESS_PERM in below, "files were read without an event")
    answers[root] = alone(root)
    run("umount", root)
equal(answers["/mnt/puzzlefs"], answers["/mnt/erofs"], "whether a listener waits for itself, as over EROFS")
shutil.rmtree(STORE)
print("a listener for both filesystems is served")
