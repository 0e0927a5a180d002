#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian debian-raw small-loose; memory 2G
# shows: a Debian tree equals its source in every path, type, mode, uid, gid,
# size, mtime in nanoseconds, nlink, hard link, symlink target, device number, xattr and
# SHA-256, stored as zstd and stored raw; and a part of it, in loose chunks instead of packs.

from case import Image, compare, mounted

for name, least in ("debian", 10000), ("debian-raw", 10000), ("small-loose", 1000):
    with mounted(Image(name), "/mnt") as root:
        compare(root, Image(name), least=least)
