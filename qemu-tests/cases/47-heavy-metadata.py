#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 512M
# shows: metadata of some hundred KB that stand for more memory than the machine has: a Rootfs in blocks repeats two
# chunks, and to list one directory looks at 12,000 of its blocks; a file has 16,777,216 extents. The machine lives,
# whoever lists or reads can be killed, and keeps little in memory that cannot be reclaimed.

import os
import signal
import struct
import time

import mountapi
from case import check, drop_caches, equal
from heavy import BLOCK, LAYOUT, WORDS, Words, image

TARGET = "/mnt/heavy"
ENTRIES, LAYERS, EXTENTS = 2048, 4, 1 << 24
DIR, FILE = 3, 5


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


def directory():
    """An image with a directory whose names and inodes are each in a block of their own."""
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
    return image(kinds, order)


def long_file():
    """An image with a file of 16,777,216 extents: holes of a page, all in one block that is repeated."""
    w = Words()
    list_tag = WORDS - 2  # the header is a word: elements begin with a block
    w.structure(0, 1, 3, 2)
    w.put(1, struct.pack("<QQQ", 6, 2, 0))
    w.list(4, 8, 1, 0, 1)
    inodes = 16
    w.list(9, inodes, 2, 6, 2)
    w.put(inodes + 1, struct.pack("<QHHIIIqIIQ", 1, DIR, 0o755, 0, 0, 0, 0, 2, 1, 1))
    w.structure(inodes + 7, 40, 1, 1)
    w.put(40, struct.pack("<Q", 1 << 1))
    w.list(41, 48, 1, 1, 1)
    w.put(49, struct.pack("<Q", 2))
    w.data(50, 52, 4)
    w.put(52, b"file")
    w.put(inodes + 9, struct.pack("<QHHIIIqIIQ", 2, FILE, 0o644 | 1 << 15, 0, 0, 0, 0, 1, 0, EXTENTS * 4096))
    w.list(inodes + 15, list_tag, EXTENTS, 1, 1)
    blocks = EXTENTS * 16 // BLOCK
    head = struct.pack("<II", 0, WORDS - 1 + blocks * WORDS) + bytes(w)
    assert len(head) == BLOCK
    return image([head, struct.pack("<QQ", 4096, 0) * (BLOCK // 16)], [0] + [1] * blocks)


def child_that(function):
    """Calls it in a child; the child's number and when it began."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(function())
        except OSError as error:
            os._exit(error.errno)
    return child, time.monotonic()


def within_bounds(what, function):
    """Whoever does it takes no memory that cannot be had back, and can be killed."""
    drop_caches()
    before, least = available(), 1 << 40
    child, start = child_that(function)
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        least = min(least, available())
        time.sleep(0.05)
    took = time.monotonic() - start
    equal(ended[1], 0, f"how {what} ended")
    check(before - least < 64 << 10, f"{what}: {before - least} KiB could not be reclaimed meanwhile")
    drop_caches()
    child, start = child_that(function)
    time.sleep(min(1.0, took / 4))
    os.kill(child, signal.SIGKILL)
    start = time.monotonic()
    equal(os.waitpid(child, 0)[1], signal.SIGKILL, f"how {what} ended")
    ended = time.monotonic() - start
    check(ended < 1, f"{what}: it took {ended:.1f} s to end")
    print(f"{what}: {took:.1f} s, {before - least} KiB less available meanwhile; ended {ended:.2f} s after SIGKILL")


def read_file():
    """Opens the file, looks for data, and reads at some places: all is zeros."""
    with open(f"{TARGET}/file", "rb", buffering=0) as f:
        for at in 0, 4096 * 12345 - 1000, EXTENTS * 2048 + 7, EXTENTS * 4096 - 100_000:
            f.seek(at)
            data = f.read(100_000)
            if data.strip(b"\0") or len(data) != 100_000:
                return 1
        return f.seek(4096 * EXTENTS - 5_000, os.SEEK_HOLE) != 4096 * EXTENTS - 5_000


def available():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable:"))


def mounted(digest):
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", digest)], TARGET)


os.makedirs(f"{LAYOUT}/blobs/sha256")
os.makedirs(TARGET)
mounted(directory())
# All of its entries are of inodes that are not there: nothing is listed.
within_bounds("listing", lambda: len(os.listdir(TARGET)))
equal(os.system(f"umount {TARGET}"), 0, "umount")
mounted(long_file())
within_bounds("reading", read_file)
equal(os.system(f"umount {TARGET}"), 0, "umount")
print("a directory and a file that stand for more memory than there is")
