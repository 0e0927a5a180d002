#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-limits; memory 2G
# shows: statx(2) and FIEMAP as of EROFS: attributes, alignment of direct I/O, the extents of
# a sparse file and of a dense one.

import array
import fcntl
import os
import struct

from mountapi import syscall
from peers import outcome, peers

STATX, STATX_BASIC_STATS, STATX_DIOALIGN = 332, 0x7FF, 0x2000
IMMUTABLE, COMPRESSED = 0x10, 0x4
FS_IOC_FIEMAP, FIEMAP_FLAG_XATTR, ALL = 0xC020660B, 2, 0xFFFF_FFFF_FFFF_FFFF
LAST, UNKNOWN, ENCODED, NOT_ALIGNED = 1, 2, 8, 0x100
HEAD, EXTENT = struct.Struct("QQIIII"), struct.Struct("QQQQQIIII")
GIB = 1 << 30


def statx(path):
    """The attributes that are set, those that are known, and whether the alignment of
    direct I/O is: of memory and of the position in the file."""
    buffer = bytes(256)
    syscall(STATX, -100, path.encode(), 0x100, STATX_BASIC_STATS | STATX_DIOALIGN, buffer)
    mask, _, attributes = struct.unpack_from("IIQ", buffer)
    known, = struct.unpack_from("Q", buffer, 56)
    align = struct.unpack_from("II", buffer, 152)
    return hex(attributes & (IMMUTABLE | COMPRESSED)), hex(known & (IMMUTABLE | COMPRESSED)), \
        align if mask & STATX_DIOALIGN else None


def attributes(root):
    return [statx(f"{root}/{name}") for name in ("dense", "few", "types/link-59", "types/fifo")]


def is_immutable(ours, erofs):
    """EROFS says of each file whether it is compressed, and reads others directly from a block
    device. PuzzleFS says of all that nothing changes, and nothing is read directly."""
    return all(mine == ("0x10", "0x10", theirs[2] and (0, 0)) and int(theirs[0], 16) & IMMUTABLE
               for mine, theirs in zip(ours, erofs))


def fiemap(path, start=0, length=ALL, room=100, flags=0):
    """The (position, length, flags) of the extents; their number if there is no room."""
    request = array.array("B", HEAD.pack(start, length, flags, 0, room, 0) + bytes(EXTENT.size * room))
    with open(path, "rb") as f:
        fcntl.ioctl(f, FS_IOC_FIEMAP, request)
    mapped = HEAD.unpack_from(request)[3]
    if room == 0:
        return mapped
    found = (EXTENT.unpack_from(request, HEAD.size + i * EXTENT.size) for i in range(mapped))
    return [(e[0], e[2], hex(e[5])) for e in found]


def sparse(root):
    """Data of 4 KiB each at 0, 1 GiB and 4 GiB; holes in between."""
    path = f"{root}/sparse"
    return (fiemap(path), fiemap(path, room=0), fiemap(path, start=GIB + 100, length=GIB), fiemap(path, room=1),
            fiemap(path, start=4096, length=4096))


def dense(root):
    got = fiemap(f"{root}/dense")
    return len(got), got[0][0], got[-1][0] + got[-1][1], int(got[-1][2], 16) & LAST


def errors(root):
    return (outcome(fiemap, f"{root}/dense", 0, 0), outcome(fiemap, f"{root}/dense", 0, ALL, 1, FIEMAP_FLAG_XATTR),
            outcome(fiemap, f"{root}/dense", 1 << 40))


FLAGS = UNKNOWN | ENCODED | NOT_ALIGNED
HERE = [(0, 4096, hex(FLAGS)), (GIB, 4096, hex(FLAGS)), (4 * GIB, 4096, hex(FLAGS | LAST))]


def every_extent(ours, _):
    """EROFS maps zeros as data; here each hole is one."""
    return ours == (HERE, 3, [(GIB + 100, 3996, hex(FLAGS))], HERE[:1], [])


with peers("limits", ("puzzlefs", "erofs")) as found:
    found.row("statx: attributes set, known, alignment", attributes, same=is_immutable)
    found.row("FIEMAP of a sparse file", sparse, same=every_extent)
    found.row("FIEMAP of a dense file: extents, begin, end, last", dense,
              same=lambda ours, erofs: ours == (1, 0, 100_000, 1) and ours[1:] == erofs[1:])
    found.row("FIEMAP of nothing, of xattrs, past the end", errors)
print("attributes and extents are as of EROFS")
