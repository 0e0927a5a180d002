#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 1G; append slab_debug=F slab_nomerge damon_stat.enabled=N
# shows: mount, read, umount, rmmod 50 times over: slab and page counters
# return to where they were.

import os
import subprocess
import time

from case import Image, check, mounted
from meminfo import settled
import mountapi

ROUNDS, WARM_UP = 50, 10
# Each counter with what it may grow by, KiB. They move a little by themselves (per-CPU
# batches, kernel threads); one page leaked a round would be 200 KiB.
COUNTERS = {"SUnreclaim": 120, "Percpu": 40, "VmallocUsed": 40, "KernelStack": 40, "Unaccounted": 180}
# A slab cache may not grow by an object a round. Caches that are debugged have no sheaves, the
# objects of which, 60 for each processor, count as used; nor is one merged with those of others.
# DAMON's statistics allocate regions as they like, up to a thousand.
OBJECTS = ROUNDS - 1


def counters():
    fields = settled(2)
    return {name: fields[name] for name in COUNTERS}


def objects():
    """Objects in use of each slab cache."""
    with open("/proc/slabinfo") as f:
        rows = [line.split() for line in f if not line.startswith(("slabinfo", "#"))]
    return {row[0]: int(row[1]) for row in rows}


def a_round(files):
    subprocess.run(["insmod", os.environ["PUZZLEFS_MODULE"]], check=True)
    with mounted(image, "/mnt/target") as root:
        for path, _ in files:
            with open(os.path.join(os.fsencode(root), path), "rb") as f:
                f.read()
        list(os.walk(root))
    try:  # the way out of a mount that fails, too
        mountapi.mount([("oci_root_dir", image.layout), ("image_manifest", "0" * 64)], "/mnt/target")
    except mountapi.MountError:
        pass
    subprocess.run(["rmmod", "puzzlefs"], check=True)


image = Image("small")
files = image.files()[::24]
os.mkdir("/mnt/target")
subprocess.run(["rmmod", "puzzlefs"], check=True)
for i in range(WARM_UP + ROUNDS):
    if i == WARM_UP:
        before, objects_before = counters(), objects()
    a_round(files)
# What is leaked stays; what a kernel thread or an exiting process holds does not.
for attempt in range(6):
    after, objects_after = counters(), objects()
    more = {name: count - objects_before.get(name, 0) for name, count in objects_after.items()}
    grown = {name: after[name] - before[name] for name in COUNTERS}
    print("slab objects more than before:", {n: m for n, m in more.items() if m})
    print("KiB more than before:", grown)
    if max(more.values()) <= OBJECTS and all(grown[n] <= COUNTERS[n] for n in COUNTERS):
        break
    time.sleep(3)
subprocess.run(["insmod", os.environ["PUZZLEFS_MODULE"]], check=True)

for name, count in more.items():
    check(count <= OBJECTS, f"slab cache {name} grew by {count} objects in {ROUNDS} rounds")
for name, limit in COUNTERS.items():
    check(grown[name] <= limit, f"{name} grew by {grown[name]} KiB in {ROUNDS} rounds")
print(f"{ROUNDS} rounds of {len(files)} files; " + ", ".join(f"{n} {m:+} KiB" for n, m in grown.items()))
