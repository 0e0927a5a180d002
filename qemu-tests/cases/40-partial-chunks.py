#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 1G; kernel stock
# shows: a page at random costs the blocks of its chunk up to its own, and none behind: a probe in the
# kernel's zstd counts them; in a chunk of one frame as the builder makes it, and in one of several.

import os
import random
import subprocess

from case import check, drop_caches, equal
from probe import Kprobe

SCRATCH, MNT, PAGE = "/scratch/partial", "/mnt/partial", 4096
PAGES = 15  # less than 64 KiB are one chunk
FORMS = {"blocks": (), "frames": ("--compression", "zstd:15", "--frame-size", "8192")}


def text():
    rng = random.Random(1)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randrange(2, 12))) for _ in range(2000)]
    out = b" ".join(rng.choices(words, k=20000))
    return out[:PAGES * PAGE]


def blocks(form, offset, length):
    """How many blocks the kernel decompresses for a read of a mount that has read nothing yet."""
    subprocess.run(["mount", "-t", "puzzlefs", f"{SCRATCH}/oci:{form}", MNT], check=True)
    drop_caches()
    fd = os.open(f"{MNT}/file", os.O_RDONLY)
    with Kprobe("ZSTD_decompressBlock_internal") as probe:
        got, hits = os.pread(fd, length, offset), probe.hits()
    os.close(fd)
    subprocess.run(["umount", MNT], check=True)
    check(got == data[offset:offset + length], f"{form}: {length} bytes at {offset} are not those of the file")
    return hits


data = text()
os.makedirs(f"{SCRATCH}/tree")
os.mkdir(MNT)
with open(f"{SCRATCH}/tree/file", "wb") as f:
    f.write(data)
for form, options in FORMS.items():
    subprocess.run(["puzzlefs", "build", *options, f"{SCRATCH}/tree", f"{SCRATCH}/oci:{form}"],
                   check=True, stdout=subprocess.DEVNULL)
    everything = blocks(form, 0, len(data))
    check(everything >= 6, f"the chunk of the form {form} has only {everything} blocks")
    counted = [blocks(form, page * PAGE, PAGE) for page in range(1, PAGES)]
    print(f"{form}: of {everything} blocks the pages cost {counted}")
    for page, count in enumerate(counted, 1):
        # Blocks are of about one size, but less of the chunk's begin fits into one.
        most = everything * (page + 1) // PAGES + 2
        check(count <= most, f"{form}: page {page} costs {count} of {everything} blocks, not {most} at most")
    equal(counted, sorted(counted), f"{form}: the blocks of one page after another")
    equal(counted[-1], everything, f"{form}: the blocks of the last page")
