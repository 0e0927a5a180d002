#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 2G
# shows: a chunk of LZ4 with matches at distance 0, which no compressor writes and lib/lz4
# takes: whoever reads it, and however, gets EIO or the same bytes, and never what was in
# memory before.

import errno
import hashlib
import os
import random
import re
import struct
import subprocess

import mountapi
from case import check, drop_caches, equal

SCRATCH = "/scratch/hostile-lz4"
LAYOUT, TARGET, FILLERS = f"{SCRATCH}/oci", "/mnt/hostile-lz4", "/mnt/hostile-lz4-fillers"
SIZE = 60000  # of the file, and of its only chunk
PAGE = 4096
MAGIC = 0x184D2204  # of an LZ4 frame
FILLS = 0xAA, 0x55


def length(nibble, value):
    """The bytes after a token, one nibble of which is 15 (lz4/doc/lz4_Block_format.md)."""
    rest = value - 15
    return b"" if nibble < 15 else b"\xff" * (rest // 255) + bytes([rest % 255])


def sequence(literals, match):
    token = min(len(literals), 15), min(match - 4, 15)
    return (bytes([token[0] << 4 | token[1]]) + length(token[0], len(literals)) + literals
            + struct.pack("<H", 0) + length(token[1], match - 4))


def hostile(literals, match):
    """An LZ4 frame of SIZE bytes of content: `literals` and `match` bytes from distance 0,
    again and again."""
    block, left = b"", SIZE
    while left > len(literals) + match + 64:
        block += sequence(literals, match)
        left -= len(literals) + match
    block += bytes([15 << 4]) + length(15, left) + b"e" * left
    return struct.pack("<IBBQBI", MAGIC, 0x48, 0x40, SIZE, 0, len(block)) + block + bytes(4)


def build(name, files):
    """An image; returns the digest of its manifest."""
    tree = f"{SCRATCH}/{name}"
    os.mkdir(tree)
    for file, data in files.items():
        with open(os.path.join(tree, file), "wb") as f:
            f.write(data)
    out = subprocess.run(["puzzlefs", "build", "--layout", "loose", "--compression", "lz4", tree, f"{LAYOUT}:{name}"],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.search("^manifest +sha256:(.*)$", out, re.M).group(1)


def mount(digest, target):
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", digest)], target)


def store(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(LAYOUT, "blobs/sha256", digest), "wb") as f:
        f.write(data)
    return digest


def read(offset, size, path=os.path.join(TARGET, "file")):
    """Part of a file that is not in memory; none if it cannot be read."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(fd, size, offset)
    except OSError as error:
        equal(errno.errorcode[error.errno], "EIO", "the errno of reading")
        return None
    finally:
        os.close(fd)


def fill_memory(fill):
    """Leaves free pages, and the buffers of the module, full of `fill`."""
    drop_caches()
    path = os.path.join(FILLERS, f"{fill:02x}")
    for i in range(24):
        check(read(65600 * i + 40000, PAGE, path) == bytes([fill]) * PAGE, f"{path} is not {fill:02x}")
    pages = bytearray([fill]) * (64 << 20)
    del pages


def readings(digest):
    """What each page of the file was found to be, with all that can make a difference."""
    found = {}
    for fill in FILLS:
        mount(digest, TARGET)
        for offset in 0, 5 * PAGE, 9 * PAGE:  # by a part of the chunk, from its begin on
            fill_memory(fill)
            found.setdefault(offset, set()).add(read(offset, PAGE))
        fill_memory(fill)
        whole = read(0, SIZE)
        for offset in found:
            found[offset].add(whole and whole[offset:offset + PAGE])
        equal(os.system(f"umount {TARGET}"), 0, "umount")
    return found


os.mkdir(SCRATCH)
os.makedirs(TARGET)
os.makedirs(FILLERS)
content = random.Random(1).randbytes(SIZE // 4) * 4
build("victim", {"file": content})
blobs = {}
for digest in os.listdir(os.path.join(LAYOUT, "blobs/sha256")):
    with open(os.path.join(LAYOUT, "blobs/sha256", digest), "rb") as f:
        blobs[digest] = f.read()
victim, = (digest for digest, data in blobs.items() if data[:4] == struct.pack("<I", MAGIC))
rootfs, = (data for data in blobs.values() if bytes.fromhex(victim) in data)
# Each of their chunks differs from the others only in where it begins.
filled = build("fillers", {f"{fill:02x}": b"".join(bytes([fill]) * 65000 + os.urandom(600) for _ in range(24))
                           for fill in FILLS})
mount(filled, FILLERS)
for literals, match in (b"", 4), (b"", 5000), (b"literals", 9), (b"0123456789" * 3, 7000):
    chunk = store(hostile(literals, match))
    image = store(rootfs.replace(bytes.fromhex(victim), bytes.fromhex(chunk)))
    outcomes = set()
    for offset, found in readings(image).items():
        outcomes |= {"EIO" if data is None else "bytes" for data in found}
        found.discard(None)
        check(len(found) <= 1, f"{literals!r} and {match} at distance 0: the page at {offset} is now "
              + ", now ".join(str(data[:64]) + "..." for data in found))
    print(f"{len(literals)} literals, {match} bytes at distance 0: {' or '.join(sorted(outcomes))}")
equal(os.system(f"umount {FILLERS}"), 0, "umount")
