#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G; kernel sanitizers
# shows: any allocation may fail, of mounting, looking up, reading, unmounting, loading the
# module: the caller gets ENOMEM or EIO or the right result, nothing leaks, nothing wrong is
# cached, and all reads right afterwards.

import collections
import errno
import hashlib
import os

import injection
import mountapi
import tree
from case import Image, check, compare, drop_caches, equal

IMAGE = Image("small")
TARGET = "/mnt/target"
WANT = tree.read(IMAGE.list)
MODULE = open(os.environ["PUZZLEFS_MODULE"], "rb")
DELETE_MODULE, FINIT_MODULE = 176, 313  # of x86_64


def mount():
    mountapi.mount([("oci_root_dir", IMAGE.layout), ("image_manifest", IMAGE.digest)], TARGET)


def umount():
    if mountapi.libc.umount2(TARGET.encode(), 0):
        raise OSError(mountapi.ctypes.get_errno(), f"umount {TARGET}")


def one_by_one(what, function, *arguments, before=lambda: None, after=lambda result: None):
    """Calls `function` with its first allocation failing, then with its second, until it has
    no more; `before` each time, and `after` each success."""
    outcomes = collections.Counter()
    nth, has_more = 0, True
    while has_more:
        nth += 1
        before()
        result, error, has_more = injection.with_nth(nth, function, *arguments)
        if error is None:
            after(result)
        if has_more:
            outcomes[errno.errorcode[error.errno] if error else "no error"] += 1
    check(sum(outcomes.values()), f"{what} allocates nothing: the failures are not injected")
    print(f"{what}: " + ", ".join(f"{count} times {name}" for name, count in outcomes.items()), flush=True)


def entry(path):
    """All there is to know of one inode."""
    path = os.path.join(os.fsencode(TARGET), path)
    e = tree.entry(path, {})
    if e["type"] == "directory":
        e["names"] = sorted(os.listdir(path))
    return e


def is_right(path):
    want = {key: value for key, value in WANT[tree.text(path)].items() if key != "same inode as"}

    def check_entry(got):
        for key, value in want.items():
            equal(got.get(key), value, f"{key} of {path}")
    return check_entry


def load():
    mountapi.syscall(FINIT_MODULE, MODULE.fileno(), b"", 0)


def unload():
    mountapi.syscall(DELETE_MODULE, b"puzzlefs", 0)


def loading():
    """Where our functions will be is not known yet, but who calls the first of them."""
    unload()
    injection.prepare("do_one_initcall")
    one_by_one("loading the module", load, after=lambda _: unload())
    load()
    injection.prepare("puzzlefs")


def walk(seed):
    """In a process of its own, with allocations failing: all entries. Exit status 0 when all
    that could be read was right and enough could not."""
    injection.may_fail()
    failed = 0
    for path in sorted(WANT, key=lambda path: hashlib.sha256(f"{seed}{path}".encode()).digest()):
        try:
            is_right(path.encode("latin-1"))(entry(path.encode("latin-1")))
        except OSError as error:
            check(error.errno in injection.ALLOWED, f"{path}: {error}")
            failed += 1
    print(f"at random: {failed} of {len(WANT)} entries failed", flush=True)
    os._exit(not failed)


def at_random():
    with injection.at_random(3):
        pids = []
        for seed in range(2):
            pids.append(os.fork())
            if pids[-1] == 0:
                try:
                    walk(seed)
                finally:
                    os._exit(1)
        equal([os.waitpid(pid, 0)[1] for pid in pids], [0, 0], "the status of those who walked")


def mounting_at_random():
    injection.may_fail()
    failed = 0
    with injection.at_random(1):
        for _ in range(20):
            try:
                mount()
            except OSError as error:
                check(error.errno in injection.ALLOWED, error)
                failed += 1
                continue
            for path in CHOSEN:
                try:
                    is_right(path)(entry(path))
                except OSError as error:
                    check(error.errno in injection.ALLOWED, error)
            umount()
    print(f"at random: {failed} of 20 mounts failed")


CHOSEN = [b"./srv/corners/incompressible", b"./srv/corners/sparse", b"./etc/passwd", b"./srv/corners/many",
          b"./srv/corners/with-acl", b"./srv/corners/with-user-xattrs", b"./srv/corners/target-of-path-max"]
os.makedirs(TARGET, exist_ok=True)
loading()
one_by_one("mounting", mount, after=lambda _: umount())
mount()
for path in CHOSEN:
    one_by_one(tree.text(path), entry, path, before=drop_caches, after=is_right(path))
at_random()
for _ in range(2):
    compare(TARGET, IMAGE)
    drop_caches()
umount()
mounting_at_random()
print("every allocation failed once, and nothing went wrong")
