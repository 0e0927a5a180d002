#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; memory 2G
# shows: 5,000 reads at random offsets and lengths over many files, by read(),
# mmap and splice, equal the source; again after dropping caches; again with four readers.

import mmap
import os
import random

from case import Image, check, drop_caches, mounted

READS, FILES, READERS = 5000, 300, 4


def by_read(fd, offset, length, _size):
    return os.pread(fd, length, offset)


def by_mmap(fd, offset, length, size):
    if offset >= size:
        return b""
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as area:
        return area[offset:offset + length]


def by_splice(fd, offset, length, _size):
    # Not more than a pipe holds, whatever the alignment.
    reader, writer = os.pipe()
    try:
        got = os.splice(fd, writer, min(length, 32 << 10), offset_src=offset)
        return os.read(reader, got) if got else b""
    finally:
        os.close(reader)
        os.close(writer)


def reads(files, seed, count):
    """`count` random reads; compares each with the source, read by pread."""
    rng = random.Random(seed)
    for i in range(count):
        path, size, source, image = rng.choice(files)
        # Short and long ones alike, some that begin or end beyond the end of the file.
        length = int(2 ** rng.uniform(0, 18))
        offset = rng.randrange(size + 4096)
        method = (by_read, by_mmap, by_splice)[i % 3]
        got = method(image, offset, length, size)
        want = os.pread(source, length, offset)
        if method is by_splice:
            check(got or not want, f"{path} {offset}+{length}: splice() returned nothing")
            want = want[:len(got)]
        check(got == want, f"{path} {offset}+{length} differs by {method.__name__}")


def readers(files):
    pids = []
    for seed in range(READERS):
        pid = os.fork()
        if pid == 0:
            reads(files, 100 + seed, READS // READERS)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        check(os.waitpid(pid, 0)[1] == 0, "one of the four readers failed")


image = Image("debian")
chosen = random.Random(1).sample(image.files(at_least=2000), FILES)
with mounted(image) as root:
    files = [(path, size, os.open(os.path.join(os.fsencode(image.source), path), os.O_RDONLY),
              os.open(os.path.join(os.fsencode(root), path), os.O_RDONLY))
             for path, size in chosen]
    for seed in 1, 2:
        drop_caches()
        reads(files, seed, READS)
    drop_caches()
    readers(files)
    for _, _, source, target in files:
        os.close(source)
        os.close(target)
print(f"{3 * READS} reads of {FILES} files equal the source")
