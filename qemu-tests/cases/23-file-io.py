#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-cache; memory 2G
# shows: the ways of a file's data other than read(2) are those of EROFS: splice, sendfile,
# copy_file_range, RWF_NOWAIT, O_DIRECT; and fio checks what many jobs read at once, by io_uring,
# libaio, mmap and more.

import os
import subprocess

from case import check, drop_caches
from pagecache import cold
from peers import outcome, peers
from peers_tree import FIO_FILES

FIO_ENGINES = "psync", "pvsync2", "mmap", "io_uring", "libaio"


def same(data):
    return "right bytes" if data == TEXT else "wrong bytes"


def splice(fd):
    parts, (reader, writer) = [], os.pipe()
    while count := os.splice(fd, writer, 1 << 16):
        parts.append(os.read(reader, count))
    os.close(reader)
    os.close(writer)
    return same(b"".join(parts))


def sendfile(target):
    def probe(fd):
        with open(target, "w+b") as out:
            done = 0
            while done < len(TEXT):
                count = os.sendfile(out.fileno(), fd, done, len(TEXT))
                check(count > 0, f"nothing copied at {done}")
                done += count
            return same(os.pread(out.fileno(), len(TEXT), 0))
    return probe


def copy_range(target):
    """The kernel does not copy from one filesystem to another this way; the caller falls back."""
    def probe(fd):
        with open(target, "wb") as out:
            return outcome(os.copy_file_range, fd, out.fileno(), len(TEXT))
    return probe


def nowait(fd):
    first = outcome(os.preadv, fd, [bytearray(16)], 0, os.RWF_NOWAIT)
    os.pread(fd, 16, 0)
    return first, outcome(os.preadv, fd, [bytearray(16)], 0, os.RWF_NOWAIT)


def fio(root):
    """fio wrote these files, and checks each block as it reads it: by sequence and at random, in
    every way that it knows to read, all at once and from a cold cache."""
    command = ["fio", "--readonly", "--verify_fatal=1", "--iodepth=8", "--output=/dev/null"]
    for name, (size, block, checksum) in FIO_FILES.items():
        for engine in FIO_ENGINES:
            for order in "read", "randread":
                command += [f"--name={engine}-{order}-{name}", f"--filename={root}/{name}", f"--ioengine={engine}",
                            f"--rw={order}", f"--size={size}", f"--bs={block}", f"--verify={checksum}"]
    drop_caches()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "verified" if done.returncode == 0 else done.stdout[:300]


def direct(root):
    return outcome(os.open, f"{root}/text", os.O_RDONLY | os.O_DIRECT)


with peers("cache") as found:
    with open(found.source("text"), "rb") as f:
        TEXT = f.read()
    found.row("splice", cold("text", splice))
    for target in "/tmp/copy", "/scratch/copy":
        kind = "tmpfs" if target.startswith("/tmp") else "ext4"
        found.row(f"sendfile to {kind}", cold("text", sendfile(target)))
        found.row(f"copy_file_range to {kind}", cold("text", copy_range(target)))
    found.row("preadv2(RWF_NOWAIT), cold and warm", cold("text", nowait))
    found.row(f"fio --verify by {len(FIO_FILES) * len(FIO_ENGINES) * 2} jobs", fio)
    found.row("O_DIRECT", direct)
print("files are read as those of EROFS")
