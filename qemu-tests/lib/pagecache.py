# SPDX-License-Identifier: GPL-2.0
"""What of a file is in the page cache, and how: mincore(2), cachestat(2), and the pages'
flags in /proc/kpageflags."""

import ctypes
import mmap
import os
import struct

from case import check, drop_caches
from mountapi import libc, syscall

PAGE = mmap.PAGESIZE
CACHESTAT = 451
# Documentation/admin-guide/mm/pagemap.rst.
KPF_COMPOUND_HEAD, KPF_COMPOUND_TAIL = 15, 16
POPULATE_READ = 22  # MADV_POPULATE_READ, which Python's mmap does not name

libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


class Map:
    """A shared, read-only map of a whole file, with its address."""

    def __init__(self, fd, flags=mmap.MAP_SHARED):
        self.size = os.fstat(fd).st_size
        self.address = libc.mmap(None, self.size, mmap.PROT_READ, flags, fd, 0)
        if self.address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        libc.munmap(self.address, self.size)

    def bytes(self):
        return ctypes.string_at(self.address, self.size)

    def advise(self, advice):
        if libc.madvise(self.address, self.size, advice):
            raise OSError(ctypes.get_errno(), "madvise")

    def in_core(self):
        """Which pages mincore(2) says are in memory."""
        pages = ctypes.create_string_buffer((self.size + PAGE - 1) // PAGE)
        if libc.mincore(self.address, self.size, pages):
            raise OSError(ctypes.get_errno(), "mincore")
        return [page & 1 for page in pages.raw]

    def large(self):
        """How many of its mapped pages are part of a large folio."""
        with open("/proc/self/pagemap", "rb") as f:
            f.seek(self.address // PAGE * 8)
            entries = struct.unpack(f"{self.size // PAGE}Q", f.read(self.size // PAGE * 8))
        count = 0
        with open("/proc/kpageflags", "rb", buffering=0) as f:
            for entry in entries:
                if entry >> 63:  # present
                    flags, = struct.unpack("Q", os.pread(f.fileno(), 8, (entry & (1 << 55) - 1) * 8))
                    count += flags >> KPF_COMPOUND_HEAD & 1 | flags >> KPF_COMPOUND_TAIL & 1
        return count


def cached(fd):
    """Pages of the file in the page cache, by cachestat(2)."""
    span, stat = struct.pack("QQ", 0, 0), ctypes.create_string_buffer(40)
    syscall(CACHESTAT, fd, span, stat, 0)
    return struct.unpack_from("Q", stat.raw)[0]


def cold(name, function):
    """A probe of a root that calls `function` with the file `name`, opened and not cached."""
    def probe(root):
        drop_caches()
        fd = os.open(f"{root}/{name}", os.O_RDONLY)
        try:
            check(cached(fd) == 0, f"{root}/{name} stays cached")
            return function(fd)
        finally:
            os.close(fd)
    return probe
