#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-cache; memory 2G
# shows: the page cache of a file is as EROFS has it: maps, advice, readahead(2), large folios;
# and four readers in a small memory cgroup.

import hashlib
import mmap
import os

import pagecache
from case import check, drop_caches
from pagecache import PAGE, Map, cached, cold
from peers import outcome, peers

CGROUP, LIMIT = "/sys/fs/cgroup/small", 24 << 20


def same(data):
    return "right bytes" if data == TEXT else "wrong bytes"


def is_all(pages):
    return "all pages" if pages == len(TEXT) // PAGE else f"{pages} pages"


def shared(fd):
    with Map(fd) as area:
        right = same(area.bytes())
    return right, outcome(mmap.mmap, fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def private(fd):
    with mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as area:
        for at in range(0, len(TEXT), 1 << 20):
            area[at:at + 4] = b"mine"
        check(area[1 << 20:][:4] == b"mine" and area[4:1 << 20] == TEXT[4:1 << 20], "the copy is wrong")
        return same(os.pread(fd, len(TEXT), 0))


def populate(fd):
    with Map(fd, mmap.MAP_SHARED | mmap.MAP_POPULATE) as area:
        return is_all(sum(area.in_core()))


def advise(advice):
    def probe(fd):
        with Map(fd) as area:
            area.advise(advice)
            right = same(area.bytes())
            area.advise(advice)
            return right, is_all(sum(area.in_core()))
    return probe


def random_fault(fd):
    """MADV_RANDOM: a fault reads no more than it must (a PuzzleFS chunk, an EROFS pcluster)."""
    with Map(fd) as area:
        area.advise(mmap.MADV_RANDOM)
        check(pagecache.ctypes.string_at(area.address + (5 << 20), 16) == TEXT[5 << 20:][:16], "wrong bytes")
        return "less than 2 MiB" if 0 < sum(area.in_core()) * PAGE < 2 << 20 else sum(area.in_core())


def fadvise(fd):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    before = cached(fd) > 0
    right = same(os.pread(fd, len(TEXT), 0))
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return "read ahead" if before else "nothing read", right, "dropped" if cached(fd) < 100 else cached(fd)


def readahead(fd):
    pagecache.libc.readahead(fd, pagecache.ctypes.c_long(0), len(TEXT))
    return "1 MiB or more" if cached(fd) * PAGE >= 1 << 20 else f"{cached(fd)} pages"


def large_folios(fd):
    os.pread(fd, len(TEXT), 0)
    with Map(fd, mmap.MAP_SHARED | mmap.MAP_POPULATE) as area:
        return "yes" if area.large() * 2 > len(TEXT) // PAGE else f"{area.large()} pages"


def small_cgroup(root):
    """Four readers that together have less memory than the files take."""
    with open("/sys/fs/cgroup/cgroup.subtree_control", "w") as f:
        f.write("+memory")
    os.makedirs(CGROUP, exist_ok=True)
    for name, value in ("memory.max", LIMIT), ("memory.swap.max", 0):
        with open(f"{CGROUP}/{name}", "w") as f:
            f.write(str(value))
    drop_caches()
    pids = []
    for number in range(4):
        pids.append(os.fork())
        if pids[-1] == 0:
            with open(f"{CGROUP}/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
            for name in sorted(DIGESTS, reverse=number % 2):
                digest = hashlib.sha256()
                with open(f"{root}/{name}", "rb", buffering=0) as f:
                    while data := f.read(1 << 16):
                        digest.update(data)
                if digest.digest() != DIGESTS[name]:
                    os._exit(1)
            os._exit(0)
    failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
    with open(f"{CGROUP}/memory.events") as f:
        events = dict(line.split() for line in f)
    os.rmdir(CGROUP)
    check(int(events["max"]) > 0, "the limit was never met")
    return "right bytes" if failed == 0 else f"{failed} failed", f"{events['oom_kill']} killed"


with peers("cache") as found:
    with open(found.source("text"), "rb") as f:
        TEXT = f.read()
    DIGESTS = {}
    for name in ["text", "random", "verify", *(f"small/{i}" for i in range(200))]:
        with open(found.source(name), "rb") as f:
            DIGESTS[name] = hashlib.sha256(f.read()).digest()

    found.row("mmap, shared, and for writing", cold("text", shared))
    found.row("mmap, private, written to", cold("text", private))
    found.row("MAP_POPULATE", cold("text", populate))
    for name, advice in ("WILLNEED", mmap.MADV_WILLNEED), ("POPULATE_READ", pagecache.POPULATE_READ), \
            ("DONTNEED", mmap.MADV_DONTNEED):
        found.row(f"madvise({name}), mincore", cold("text", advise(advice)))
    found.row("madvise(RANDOM)", cold("text", random_fault))
    found.row("posix_fadvise(WILLNEED, DONTNEED)", cold("text", fadvise))
    found.row("readahead(2)", cold("text", readahead))
    found.row("large folios", cold("text", large_folios))
    found.row("four readers in 24 MiB", small_cgroup)
print("the page cache is that of EROFS")
