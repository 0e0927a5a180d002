#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images upstream-raw upstream-zstd upstream-delta; memory 2G
# shows: images that upstream puzzlefs 0.2.0 builds (raw, compressed, and as a
# delta over a base layer) mount in our kernel and equal their source.

from case import Image, compare, mounted
from tree import NOT_IN_UPSTREAM

for name, least in ("upstream-raw", 10000), ("upstream-zstd", 10000), ("upstream-delta", 1000):
    with mounted(Image(name)) as root:
        compare(root, Image(name), ignore=NOT_IN_UPSTREAM, least=least)
