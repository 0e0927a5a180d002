# SPDX-License-Identifier: GPL-2.0
"""Reads at random offsets and lengths of files of a mounted image, by read(), mmap and splice."""

import contextlib
import mmap
import os
import random

from case import check

READERS = 4


@contextlib.contextmanager
def opened(image, root, count):
    """`count` files: the path of each, its size, and its source and the same below `root`, open."""
    chosen = random.Random(1).sample(image.files(at_least=2000), count)
    files = [(path, size, os.open(os.path.join(os.fsencode(image.source), path), os.O_RDONLY),
              os.open(os.path.join(os.fsencode(root), path), os.O_RDONLY))
             for path, size in chosen]
    yield files
    for _, _, source, target in files:
        os.close(source)
        os.close(target)


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


def readers(files, count):
    """As many by four processes at once."""
    pids = []
    for seed in range(READERS):
        pid = os.fork()
        if pid == 0:
            reads(files, 100 + seed, count // READERS)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        check(os.waitpid(pid, 0)[1] == 0, "one of the four readers failed")
