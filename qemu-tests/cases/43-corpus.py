#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images corpus; memory 2G; scratch 2G
# shows: thousands of damaged images (qemu-tests/corpus): each is refused, or reads as an independent reader says;
# what `puzzlefs verify` passes mounts and reads right, and what reads right in full passes it. CORPUS_SHARE=N
# takes every Nth image only, as the sanitizer kernel does (5).

import collections
import json
import os
import time

from case import check

from corpus_guest import Check

SOURCE = os.path.join(os.environ["PUZZLEFS_IMAGES"], "corpus")
LAYOUT = "/scratch/corpus"


def unpack():
    os.makedirs(f"{LAYOUT}/blobs/sha256")
    with open(f"{SOURCE}/blobs.bin", "rb") as f:
        while head := f.read(40):
            with open(f"{LAYOUT}/blobs/sha256/{head[:32].hex()}", "wb") as blob:
                blob.write(f.read(int.from_bytes(head[32:], "little")))


unpack()
with open(f"{SOURCE}/right.json") as f:
    right = json.load(f)
sanitizers = os.path.exists("/sys/kernel/debug/kmemleak")
share = int(os.environ.get("CORPUS_SHARE") or (5 if sanitizers else 1))
images = right["images"][::share]
memory = os.memfd_create("read")
counts, faults, start = collections.Counter(), [], time.monotonic()
for image in images:
    one = Check(image, right["entries"], memory)
    begin = time.monotonic()
    mounted = one.run(LAYOUT)
    took = time.monotonic() - begin
    if took > 20:
        one.fault("", f"took {took:.0f} s")
    counts["mounted" if mounted else "refused"] += 1
    whole = mounted and not one.errors
    counts["right in full"] += whole and not one.faults
    # A directory that says to be sorted and is not loses names, which verify warns of: FORMAT.md, 3.4.
    if image["verify"] and not whole and "say that they are sorted" not in image["words"]:
        one.fault("", f"verify passes it: {image['words']!r}, and {one.errors} answers are errors")
    if whole and not image["verify"]:
        counts["only verify refuses"] += 1
        if counts["only verify refuses"] <= 20:
            print(f"only verify refuses {image['name']}: {image['words'].strip()[-150:]!r}")
    faults += one.faults
for fault in faults[:600]:
    print(fault)
print(f"{len(images)} images in {time.monotonic() - start:.0f} s: {dict(counts)}")
check(not faults, f"{len(faults)} answers are not right")
