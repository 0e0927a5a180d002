#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; memory 2G
# shows: 5,000 reads at random offsets and lengths over many files, by read(),
# mmap and splice, equal the source; again after dropping caches; again with four readers.

from case import Image, drop_caches, mounted
from random_reads import opened, readers, reads

READS, FILES = 5000, 300

image = Image("debian")
with mounted(image) as root, opened(image, root, FILES) as files:
    for seed in 1, 2:
        drop_caches()
        reads(files, seed, READS)
    drop_caches()
    readers(files, READS)
print(f"{3 * READS} reads of {FILES} files equal the source")
