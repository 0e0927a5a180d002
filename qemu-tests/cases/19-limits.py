#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-limits; memory 3G
# shows: inodes at the limits: 65,000 hard links, long names and links, xattrs by the thousand and of
# 64 KiB, a file of 1 TiB, a directory of 200,000 entries that costs no more to look up than one
# of 2,000; positions in it that survive a cache drop; what stat, statfs and du say.

import os
import random
import struct
import subprocess
import time

from case import check, drop_caches, equal
from mountapi import syscall
from peers import outcome, peers

GETDENTS64, STATX = 217, 332
TIB, FILE_4G = 1 << 40, 4 << 30
ENTRY = "entry-{:07}-of-a-directory"


def links(root):
    a, b = (os.stat(f"{root}/links/{i}") for i in (0, 64999))
    return a.st_nlink, "one inode" if a.st_ino == b.st_ino else "two inodes", len(os.listdir(f"{root}/links"))


def names(root):
    return os.path.exists(f"{root}/{'n' * 255}"), outcome(os.stat, f"{root}/{'n' * 256}")


def symlinks(root):
    return [len(os.readlink(f"{root}/types/link-{n}")) for n in (1, 59, 60, 255, 4095)]


def xattrs(root):
    right = sum(os.getxattr(f"{root}/xattrs/{i}", f"user.number-{i % 50}") == b"value %d" % i * (i % 20)
                for i in range(2000))
    return right, outcome(os.getxattr, f"{root}/xattrs/0", "user.other")


def sparse(root):
    """Reads around 4 GiB, and what lseek says; a hole may be called data, not the reverse."""
    with open(f"{root}/sparse", "rb") as f:
        parts = [os.pread(f.fileno(), 8192, at) for at in (0, (1 << 30) - 100, FILE_4G, FILE_4G - 4096)]
        with open(found.source("sparse"), "rb") as want:
            right = parts == [os.pread(want.fileno(), 8192, at)
                              for at in (0, (1 << 30) - 100, FILE_4G, FILE_4G - 4096)]
        return "right bytes" if right else "wrong bytes"


def seeks(root):
    with open(f"{root}/sparse", "rb") as f:
        return [os.lseek(f.fileno(), at, how) for at, how in
                ((0, os.SEEK_HOLE), (1 << 20, os.SEEK_DATA), (1 << 30, os.SEEK_HOLE), (2 << 30, os.SEEK_DATA))]


def disk_usage(root, *names):
    du = subprocess.run(["du", "--block-size=1", *(f"{root}/{name}" for name in names)],
                        check=True, stdout=subprocess.PIPE, text=True).stdout
    return [int(line.split()[0]) for line in du.splitlines()]


def sizes(root):
    st = os.stat(f"{root}/dense")
    return st.st_size, st.st_blksize


def statx(root):
    """The mask, and which attributes are known and set."""
    buffer = b"\0" * 256
    syscall(STATX, -100, f"{root}/dense".encode(), 0, 0x17FF, buffer)
    mask, _, attributes = struct.unpack_from("IIQ", buffer)
    known, = struct.unpack_from("Q", buffer, 56)
    return hex(mask & 0x7FF), hex(attributes), hex(known)


def statfs(root):
    st = os.statvfs(root)
    return st.f_bsize, st.f_bfree, st.f_namemax, bool(st.f_flag & os.ST_RDONLY)


def entries(fd):
    """The (name, d_type, position after it) of one call of getdents64(2)."""
    buffer = bytes(1 << 15)
    size = syscall(GETDENTS64, fd, buffer, len(buffer))
    at, got = 0, []
    while at < size:
        _, position, length, kind = struct.unpack_from("QqHB", buffer, at)
        got.append((buffer[at + 19:at + length].split(b"\0")[0], kind, position))
        at += length
    return got


def positions(root):
    """Reads half a directory, drops the caches, goes on where it was by lseek in another file."""
    fd, seen = os.open(f"{root}/many", os.O_RDONLY), []
    while len(seen) < 100_000:
        seen += entries(fd)
    os.close(fd)
    drop_caches()
    fd = os.open(f"{root}/many", os.O_RDONLY)
    # From the middle of what the last call returned.
    seen = seen[:-7]
    os.lseek(fd, seen[-1][2], os.SEEK_SET)
    while got := entries(fd):
        seen += got
    os.close(fd)
    return len(seen), len({name for name, _, _ in seen})


def types(root):
    fd = os.open(f"{root}/types", os.O_RDONLY)
    got = {name: kind for name, kind, _ in entries(fd) if name.isalpha()}
    os.close(fd)
    return sorted(got.items())


def lookups(directory, count):
    """The time of lookups, without what was looked up before; the best of some. Of names that
    are not there, so that no inode is read: how many there are of them is not the question."""
    rng, best = random.Random(1), float("inf")
    for _ in range(5):
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")  # dentries and inodes
        chosen = [f"{directory}/" + ENTRY.format(rng.randrange(count)) + "-not" for _ in range(300)]
        os.stat(directory)
        start = time.monotonic()
        for path in chosen:
            os.access(path, os.F_OK)
        best = min(best, time.monotonic() - start)
    return best


def growth(root):
    ratio = lookups(f"{root}/many", 200_000) / lookups(f"{root}/few", 2_000)
    return round(ratio, 1)


def tebibyte():
    """A file of 1 TiB with a little data at its end, built and mounted here."""
    os.mkdir("/scratch/tree")
    with open("/scratch/tree/huge", "wb") as f:
        f.seek(TIB - 5)
        f.write(b"the e")
    start = time.monotonic()
    subprocess.run(["puzzlefs", "build", "/scratch/tree", "/scratch/oci:test"], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - start
    size = sum(os.path.getsize(os.path.join(d, n)) for d, _, ns in os.walk("/scratch/oci") for n in ns)
    subprocess.run(["mount", "-t", "puzzlefs", "/scratch/oci:test", "/mnt/huge"], check=True)
    with open("/mnt/huge/huge", "rb") as f:
        equal(os.fstat(f.fileno()).st_size, TIB, "the size")
        equal(os.pread(f.fileno(), 10, TIB - 5), b"the e", "the end")
        equal(os.pread(f.fileno(), 1 << 20, TIB // 2), bytes(1 << 20), "the middle")
        data = os.lseek(f.fileno(), 0, os.SEEK_DATA)
        check(TIB - (1 << 20) < data <= TIB - 5, f"the first data is at {data}")
    print(f"1 TiB: built in {took:.1f} s, stored in {size} bytes; du says {disk_usage('/mnt/huge', 'huge')}")
    check(size < 10_000 and took < 30, "a hole costs too much")
    subprocess.run(["umount", "/mnt/huge"], check=True)


def big_xattr():
    """64 KiB, the most that the VFS takes; tmpfs is a source that can hold it."""
    value = random.Random(3).randbytes(1 << 16)
    os.makedirs("/tmp/big")
    with open("/tmp/big/file", "w"):
        os.setxattr("/tmp/big/file", "user.big", value)
    subprocess.run(["puzzlefs", "build", "/tmp/big", "/scratch/big:test"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mkfs.erofs", "--quiet", "/scratch/big.erofs", "/tmp/big"], check=True)
    answers = []
    for mount in ("-t", "puzzlefs", "/scratch/big:test"), ("-t", "erofs", "-o", "loop", "/scratch/big.erofs"):
        subprocess.run(["mount", *mount, "/mnt/huge"], check=True)
        got = outcome(os.getxattr, "/mnt/huge/file", "user.big")
        answers.append("right" if got == value else got)
        subprocess.run(["umount", "/mnt/huge"], check=True)
    print(f"an xattr of 64 KiB: puzzlefs {answers[0]} | erofs {answers[1]}")
    equal(answers[0], "right", "an xattr of 64 KiB")


os.makedirs("/mnt/huge", exist_ok=True)
with peers("limits") as found:
    found.row("65,000 hard links", links)
    found.row("names of 255 bytes", names)
    found.row("symlinks of 1 to 4,095 bytes", symlinks)
    found.row("2,000 files with xattrs", xattrs)
    found.row("a file over 4 GiB", sparse)
    found.row("SEEK_HOLE, SEEK_DATA", seeks, same=lambda ours, erofs: ours[0] <= 65536)
    found.row("du of a sparse file, and of another", lambda root: disk_usage(root, "sparse", "dense"),
              same=lambda ours, erofs: ours == [12288, 100352])
    found.row("st_size, st_blksize", sizes)
    found.row("statx: mask, attributes", statx, same=lambda ours, erofs: True)
    found.row("statfs", statfs)
    found.row("d_type", types)
    found.row("positions in a directory after a cache drop", positions)
    found.row("lookup in 200,000 entries, in those of one of 2,000", growth,
              forms=("puzzlefs", "erofs"), same=lambda ours, erofs: ours < 6)  # a search in order: 100
big_xattr()
tebibyte()
print("limits are where they should be")
