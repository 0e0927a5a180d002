#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 512M
# shows: metadata of some hundred KB that stand for more memory than the machine has: a Rootfs in blocks repeats two
# chunks, and to list one directory looks at 12,000 of its blocks. The machine lives, readdir can be killed, and a
# reader of the metadata keeps none of what it has read.

import hashlib
import os
import signal
import struct
import time

import mountapi
from case import check, drop_caches, equal

LAYOUT, TARGET = "/tmp/oci", "/mnt/heavy"
BLOCK, WORDS = 65536, 8192
ENTRIES, LAYERS = 2048, 4
DIR = 3


def store(data):
    name = hashlib.sha256(data).digest()
    with open(f"{LAYOUT}/blobs/sha256/{name.hex()}", "wb") as f:
        f.write(data)
    return name


class Words(bytearray):
    """A segment that is written by words; positions are in words."""

    def put(self, at, data):
        self.extend(bytes(max(0, (at + (len(data) + 7) // 8) * 8 - len(self))))
        self[at * 8:at * 8 + len(data)] = data

    def structure(self, at, target, data, pointers):
        self.put(at, struct.pack("<iHH", target - at - 1 << 2, data, pointers))

    def list(self, at, tag, count, data, pointers):
        """A composite list whose tag is at `tag`."""
        words = count * (data + pointers)
        self.put(at, struct.pack("<iI", (tag - at - 1) << 2 | 1, words << 3 | 7))
        self.put(tag, struct.pack("<IHH", count << 2, data, pointers))

    def data(self, at, target, length):
        self.put(at, struct.pack("<iI", (target - at - 1) << 2 | 1, length << 3 | 2))


def message():
    """The first words of the message, and how many blocks of names and of inodes follow."""
    w = Words()
    # The head is 4 blocks less the message's header of a word. Blocks of names come next, inodes then.
    first_name = 4 * WORDS - 1
    first_inode = first_name + (ENTRIES + 1) * WORDS
    vector = (ENTRIES + 1) * WORDS
    w.structure(0, 1, 3, 2)
    w.put(1, struct.pack("<QQQ", 6, 2, 0))
    metadatas = 8
    w.list(4, metadatas, 1 + LAYERS, 0, 1)
    # The newest layer: the root directory.
    root = 32
    w.list(metadatas + 1, root, 1, 6, 2)
    w.put(root + 1, struct.pack("<QHHIIIqIIQ", 1, DIR, 0o755, 0, 0, 0, 0, 2, 1, ENTRIES))
    directory, entries = 48, 64
    w.structure(root + 7, directory, 1, 1)
    w.put(directory, struct.pack("<Q", 1 << 1))  # sorted: nobody looks whether it is
    w.list(directory + 1, entries, ENTRIES, 1, 1)
    for index in range(ENTRIES):
        at = entries + 1 + 2 * index
        w.put(at, struct.pack("<Q", 2 + index))
        # Its name is in a block of its own.
        w.data(at + 1, first_name + index * WORDS + 1, 4)
    # The others: each inode fills a block, and none is one that was asked for.
    for layer in range(LAYERS):
        tag = first_inode + layer * vector
        at = metadatas + 2 + layer
        w.put(at, struct.pack("<iI", (tag - at - 1) << 2 | 1, (ENTRIES * WORDS) << 3 | 7))
    assert len(w) <= first_name * 8
    w.put(first_name - 1, bytes(8))
    blocks = ENTRIES + 1 + LAYERS * (ENTRIES + 1)
    head = struct.pack("<II", 0, first_name + blocks * WORDS) + bytes(w)
    return head, ENTRIES + 1, LAYERS * (ENTRIES + 1)


def image():
    """An image of which only the digest of the Rootfs is needed."""
    head, names, inodes = message()
    name_block = bytearray(BLOCK)
    name_block[8:12] = b"name"
    # A block holds the tag of a list of inodes in its first word, and the last word but one of an element, which
    # begins behind that: its number, and its mode, a file's.
    inode_block = bytearray(BLOCK)
    inode_block[0:8] = struct.pack("<IHH", ENTRIES << 2, WORDS - 2, 2)
    inode_block[8:24] = struct.pack("<QHHI", 1 << 40, 5, 0o644, 0)
    heads = [head[at:at + BLOCK] for at in range(0, len(head), BLOCK)]
    kinds = [*heads, bytes(name_block), bytes(inode_block)]
    order = [*range(len(heads)), *[len(heads)] * names, *[len(heads) + 1] * inodes]
    w = Words()
    w.structure(0, 1, 1, 3)
    w.put(1, struct.pack("<Q", 6))
    tag = 5
    w.list(4, tag, len(order), 1, 1)
    refs = tag + 1 + 2 * len(order)
    for index, kind in enumerate(kinds):
        at = refs + 7 * index
        w.put(at, struct.pack("<QQ", 0, 0))
        w.data(at + 2, at + 3, 32)
        w.put(at + 3, store(kind))
    for index, kind in enumerate(order):
        at = tag + 1 + 2 * index
        w.put(at, struct.pack("<Q", BLOCK))
        w.structure(at + 1, refs + 7 * kind, 2, 1)
    rootfs = struct.pack("<II", 0, len(w) // 8) + bytes(w)
    stored = len(rootfs) + sum(map(len, set(kinds)))
    print(f"{stored} bytes of image stand for {len(order) * BLOCK >> 20} MiB of metadata")
    return store(rootfs).hex()


def listed():
    """Lists the directory in a child; the child's number and when it began."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(len(os.listdir(TARGET)) > 0)
        except OSError as error:
            os._exit(error.errno)
    return child, time.monotonic()


def available():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable:"))


os.makedirs(f"{LAYOUT}/blobs/sha256")
os.makedirs(TARGET)
mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", image())], TARGET)

# All of its entries are of inodes that are not there: nothing is listed. And the machine lives.
drop_caches()
before, least = available(), 1 << 40
child, start = listed()
while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
    least = min(least, available())
    time.sleep(0.05)
took = time.monotonic() - start
equal(ended[1], 0, "how listing ended")
print(f"listed in {took:.1f} s; of {before} KiB available {least} were at least")
check(before - least < 64 << 10, f"{before - least} KiB could not be reclaimed while a directory was listed")

# Whoever lists it can be killed.
drop_caches()
child, start = listed()
time.sleep(min(1.0, took / 4))
os.kill(child, signal.SIGKILL)
start = time.monotonic()
equal(os.waitpid(child, 0)[1], signal.SIGKILL, "how it ended")
ended = time.monotonic() - start
check(ended < 1, f"it took {ended:.1f} s to end")
equal(os.system(f"umount {TARGET}"), 0, "umount")
print(f"listed in {took:.1f} s, with {before - least} KiB less available meanwhile; ended {ended:.2f} s after SIGKILL")
