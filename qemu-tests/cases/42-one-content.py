#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 1G
# shows: a zstd chunk that no encoder writes has one content, or one error, page by page: by pread in
# any order, read, mmap, splice and extract, and verify passes it only where all can be read.

import hashlib
import json
import mmap
import os
import random
import re
import shutil
import struct
import subprocess

import mountapi
from case import check, drop_caches, equal

SCRATCH, TARGET, PAGE = "/scratch/one-content", "/mnt/one-content", 4096
LAYOUT = f"{SCRATCH}/oci"
PAGES = 15
SIZE = PAGES * PAGE
RAW, RLE, COMPRESSED, RESERVED = 0, 1, 2, 3
NO_SIZE, CHECKSUM = b"\0\0", b"\4\0"  # descriptors of a frame, and a window of 1 KiB
SINGLE = b"\x60" + struct.pack("<H", SIZE - 256)  # the size, and a window of that
noise = random.Random(1).randbytes(SIZE)


def block(kind, size, data, last=False):
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + data


def match(distance, last=False):
    """A compressed block: no literals, and four bytes from `distance` back (RFC 8878, 3.1.1.3.2)."""
    value = distance + 3
    code = value.bit_length() - 1
    data = bytes([0, 1, 0x54, 0, code, 1]) + value.to_bytes(code // 8 + 1, "little")
    return block(COMPRESSED, len(data), data, last)


def raw(length, last=False, step=1024):
    """Blocks of noise of `length` bytes."""
    ends = range(0, length, step)
    return b"".join(block(RAW, min(step, length - at), noise[at:min(at + step, length)], last and at == ends[-1])
                    for at in ends)


def frame(blocks, header=NO_SIZE, checksum=b""):
    return struct.pack("<I", 0xFD2FB528) + header + blocks + checksum


def chunk(*frames):
    """A chunk of frames, each with the size of its content."""
    entries = b"".join(struct.pack("<II", len(data), size) for data, size in frames)
    return (b"".join(data for data, _ in frames) + struct.pack("<II", 0x184D2A5E, len(entries) + 9) + entries
            + struct.pack("<IBI", len(frames), 0, 0x8F92EAB1))


def one(blocks, header=NO_SIZE, checksum=b""):
    return chunk((frame(blocks, header, checksum), SIZE))


def far(distance):
    """Matches that reach this far back, from 20,000 bytes on every 2,000 bytes."""
    out, length = raw(20000), 20000
    while length < SIZE - 4000:
        out += match(distance) + raw(2000)
        length += 2004
    return out + raw(SIZE - length, True)


HALF = SIZE // 2
damaged = raw(20000) + match(1 << 20) + raw(SIZE - 20004, True)
CHUNKS = {  # what can be read: "all", "nothing", or the pages in front of the damage
    "sound": (one(raw(SIZE, True, 60000), SINGLE), "all"),
    "within the window": (one(far(900)), "all"),
    "further back than the window": (one(far(3500)), "all"),
    "in two frames": (chunk((frame(raw(HALF, True)), HALF), (frame(raw(HALF, True)), HALF)), "all"),
    "further back than the frame": (one(damaged), 4),
    "the same, with a size": (one(damaged, SINGLE), 4),
    "in the second frame": (chunk((frame(raw(HALF, True)), HALF), (frame(match(9, True)), 4),
                                  (frame(raw(SIZE - HALF - 4, True)), SIZE - HALF - 4)), HALF // PAGE),
    "more than it should be": (one(raw(SIZE - 4) + match(9) + match(9, True)), PAGES - 1),
    "a wrong checksum": (one(raw(SIZE, True), CHECKSUM, b"sums"), "nothing"),
    "a checksum cut off": (one(raw(SIZE, True), CHECKSUM, b"su"), "nothing"),
    "another size": (one(raw(SIZE, True), b"\x60" + struct.pack("<H", SIZE - 255)), "nothing"),
    "no last block": (one(raw(SIZE)), "nothing"),
    "blocks behind the last": (one(raw(SIZE, True) + raw(9, True)), "nothing"),
    "bytes behind the last": (one(raw(SIZE, True), NO_SIZE, b"more"), "nothing"),
    "too few bytes": (one(raw(SIZE - 1, True)), "nothing"),
    "a reserved block": (one(raw(SIZE) + block(RESERVED, 1, b"x", True)), "nothing"),
    "an empty compressed block": (one(raw(20000) + block(COMPRESSED, 0, b"") + raw(SIZE - 20000, True)), "nothing"),
    "a block larger than the window": (one(raw(SIZE, True, 2048)), "nothing"),
}


def blob(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{LAYOUT}/blobs/sha256/{digest}", "wb") as f:
        f.write(data)
    return digest


def contents(digest):
    with open(f"{LAYOUT}/blobs/sha256/{digest}", "rb") as f:
        return f.read()


def build():
    os.makedirs(f"{SCRATCH}/tree")
    with open(f"{SCRATCH}/tree/file", "wb") as f:
        f.write(noise[:SIZE // 4] * 4)
    command = ["puzzlefs", "build", "--layout", "loose", "--compression", "zstd:3", f"{SCRATCH}/tree", f"{LAYOUT}:x"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(contents(re.search("^manifest +sha256:(.*)$", out, re.M).group(1)))


def replace(manifest, data):
    """The image with this chunk; its digest."""
    rootfs, victim = (layer["digest"].removeprefix("sha256:") for layer in manifest["layers"])
    new = blob(data)
    changed = contents(rootfs).replace(bytes.fromhex(victim), bytes.fromhex(new))
    digests = {rootfs: blob(changed), victim: new}
    out = json.loads(json.dumps(manifest))
    for layer in out["layers"]:
        digest = digests[layer["digest"].removeprefix("sha256:")]
        layer |= {"digest": f"sha256:{digest}", "size": len(contents(digest))}
    data = json.dumps(out).encode()
    with open(f"{LAYOUT}/index.json") as f:
        index = json.load(f)
    index["manifests"][0] |= {"digest": f"sha256:{blob(data)}", "size": len(data)}
    with open(f"{LAYOUT}/index.json", "w") as f:
        json.dump(index, f)
    return hashlib.sha256(data).hexdigest()


def attempt(read):
    try:
        return read()
    except OSError:
        return None


def by_pread(fd, order):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    found = {page: attempt(lambda page=page: os.pread(fd, PAGE, page * PAGE)) for page in order}
    return [found[page] for page in range(PAGES)]


def by_read(fd, length):
    """In order, so many bytes at once; behind what fails, from the next page on."""
    found = []
    while len(found) < PAGES:
        got = attempt(lambda: os.pread(fd, length, len(found) * PAGE))
        found += [got[at:at + PAGE] for at in range(0, len(got), PAGE)] if got else [None]
    return found


def by_mmap(fd, advice):
    # A write from a page that cannot be had is an error, not a signal.
    reader, writer = os.pipe()
    with mmap.mmap(fd, SIZE, prot=mmap.PROT_READ) as area:
        area.madvise(advice)

        def page(at):
            with memoryview(area)[at:at + PAGE] as view:
                return os.read(reader, os.write(writer, view))
        found = [attempt(lambda at=at: page(at)) for at in range(0, SIZE, PAGE)]
    os.close(reader)
    os.close(writer)
    return found


def by_splice(fd):
    reader, writer = os.pipe()
    found = [attempt(lambda at=at: os.read(reader, os.splice(fd, writer, PAGE, offset_src=at)))
             for at in range(0, SIZE, PAGE)]
    os.close(reader)
    os.close(writer)
    return found


shuffled = random.Random(2).sample(range(PAGES), PAGES)
WAYS = {
    "pread in order": lambda fd: by_pread(fd, range(PAGES)),
    "pread backwards": lambda fd: by_pread(fd, range(PAGES)[::-1]),
    "pread at random": lambda fd: by_pread(fd, shuffled),
    "read by pages": lambda fd: by_read(fd, PAGE),
    "read by 16 KiB": lambda fd: by_read(fd, 4 * PAGE),
    "read at once": lambda fd: by_read(fd, SIZE),
    "mmap": lambda fd: by_mmap(fd, mmap.MADV_NORMAL),
    "mmap at random": lambda fd: by_mmap(fd, mmap.MADV_RANDOM),
    "mmap in order": lambda fd: by_mmap(fd, mmap.MADV_SEQUENTIAL),
    "splice": by_splice,
}


def readings(digest):
    """What each page is, by each way, with nothing in memory before."""
    found = {}
    for name, way in WAYS.items():
        mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", digest)], TARGET)
        drop_caches()
        fd = os.open(f"{TARGET}/file", os.O_RDONLY)
        found[name] = way(fd)
        os.close(fd)
        equal(os.system(f"umount {TARGET}"), 0, "umount")
    return found


def command(*arguments):
    return subprocess.run(["puzzlefs", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


os.makedirs(TARGET)
manifest = build()
wrong = []
for name, (data, expected) in CHUNKS.items():
    found = readings(replace(manifest, data))
    first = found["pread at random"]
    readable = {"all": PAGES, "nothing": 0}.get(expected, expected)
    if [page is not None for page in first] != [at < readable for at in range(PAGES)]:
        wrong.append(f"{name}: can be read: {[at for at, page in enumerate(first) if page]}, not {expected}")
    wrong += [f"{name}: page {at} differs by {way}" + " (an error)" * (pages[at] is None)
              for way, pages in found.items() for at in range(PAGES) if pages[at] != first[at]]
    if command("verify", f"{LAYOUT}:x") != (expected == "all"):
        wrong.append(f"{name}: verify does not agree")
    shutil.rmtree(f"{SCRATCH}/out", ignore_errors=True)
    if command("extract", f"{LAYOUT}:x", f"{SCRATCH}/out") != (expected == "all"):
        wrong.append(f"{name}: extract does not agree")
    elif expected == "all":
        with open(f"{SCRATCH}/out/file", "rb") as f:
            check(f.read() == b"".join(first), f"{name}: extract gives other bytes")
    print(f"{name}: {expected}")
check(not wrong, "\n".join(wrong))
