#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images corpus; memory 2G
# shows: damaged images (qemu-tests/corpus): each is refused, or reads as an independent reader says; what `puzzlefs verify`
# passes mounts and reads right, and what reads right in full passes it, but for what corpus/exceptions.py explains. An
# eighth of 5,600 images, always the same; `make corpus` takes them all.

import collections
import json
import os
import sys
import time

from case import check

from corpus_guest import Check, unpack

sys.path.insert(0, os.path.join(os.environ["PUZZLEFS_TOP"], "qemu-tests"))
from corpus.exceptions import KERNEL, ONLY_VERIFY, explained, known

SOURCE = os.path.join(os.environ["PUZZLEFS_IMAGES"], "corpus")
LAYOUT = "/scratch/corpus"
# Seconds for one image under emulation.
MOST = 20


def disagreement(image, one, whole, needed):
    """What verify and the kernel do not agree about."""
    if image["verify"] and not whole:
        return f"verify passes it, and {one.errors} answers are errors"
    if image["verify"] or not whole or one.faults:
        return None
    reason = explained(image["words"])
    if reason is None:
        return f"all of it reads right, and verify says {image['words']}"
    needed["verify", reason] += 1
    return None


def forgiven(image, fault, needed):
    """Whether the kernel is known to do that."""
    number = known(image["name"], fault)
    needed["kernel", number] += 1
    return number is not None


unpack(f"{SOURCE}/blobs.bin", LAYOUT)
with open(f"{SOURCE}/right.json") as f:
    right = json.load(f)
everything = os.environ.get("PUZZLEFS_CORPUS") == "all"
images = [image for image in right["images"] if everything or image["sample"]]
memory = os.memfd_create("read")
counts, needed, faults, start = collections.Counter(), collections.Counter(), [], time.monotonic()
for number, image in enumerate(images):
    if number % 200 == 0:
        print(f"{number} of {len(images)} after {time.monotonic() - start:.0f} s", flush=True)
    one = Check(image, right["entries"], memory)
    begin = time.monotonic()
    mounted = one.run(LAYOUT)
    took = time.monotonic() - begin
    if took > MOST:
        one.fault("", f"took {took:.0f} s")
    whole = mounted and not one.errors
    counts["mounted" if mounted else "refused"] += 1
    counts["right in full"] += whole and not one.faults
    counts["answers"] += one.answers
    if said := disagreement(image, one, whole, needed):
        one.fault("", said)
    found = [fault for fault in one.faults if not forgiven(image, fault, needed)]
    for fault in found:
        print(fault, flush=True)
    faults += found
for what, entries in ("verify", ONLY_VERIFY), ("kernel", KERNEL):
    for number, entry in enumerate(entries):
        print(f"{what}: {needed[what, number]} times {entry[0].pattern!r}")
        # A sample need not have an image for each.
        if everything and not needed[what, number]:
            faults.append(f"corpus/exceptions.py: nothing needs {entry[0].pattern!r}")
            print(faults[-1])
print(f"{len(images)} images in {time.monotonic() - start:.0f} s: {dict(counts)}")
check(not faults, f"{len(faults)} answers are not right")
