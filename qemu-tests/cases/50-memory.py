#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 2G; append movablecore=768M
# shows: pages of metadata, and of chunks that small files share, can be moved as those of files can: they are in
# the zone that has no others. A cgroup of 8 MiB that is the first to read of a pack with the largest index gets
# right bytes, and does not pay for what all others use too. That index can be had back by the kernel.

import collections
import hashlib
import json
import os
import random
import re
import struct
import subprocess

from case import check, drop_caches, equal
from meminfo import settled

SCRATCH = "/tmp/memory"
LAYOUT, TARGET, CGROUP = f"{SCRATCH}/oci", "/mnt/memory", "/sys/fs/cgroup/first"
FILES, BYTES = 2048, 4096  # of data and of extended attributes, each
ENTRY, TRAILER = struct.Struct("<32sII"), struct.Struct("<I4s")  # FORMAT.md, 1.1
MAX_PACK_CHUNKS, PAID = 1 << 18, 64 << 10
RNG = random.Random(48)


def build(tag, tree):
    subprocess.run(["puzzlefs", "build", tree, f"{LAYOUT}:{tag}"], check=True, stdout=subprocess.DEVNULL)
    with open(f"{LAYOUT}/index.json") as f:
        found = [m["digest"] for m in json.load(f)["manifests"]
                 if m["annotations"]["org.opencontainers.image.ref.name"] == tag]
    return found[0].removeprefix("sha256:")


def mount(digest):
    options = f"oci_root_dir={LAYOUT},image_manifest={digest}"
    subprocess.run(["mount", "-t", "puzzlefs", "-o", options, "none", TARGET], check=True)


def cached():
    """Pages in the page cache by whether they are in the movable zone; not those of tmpfs, where the layout is."""
    with open("/proc/sys/vm/stat_refresh", "w") as f:
        f.write("1")
    pages, zone = collections.Counter(), None
    with open("/proc/zoneinfo") as f:
        for line in f:
            if found := re.match(r"Node \d+, zone +(\w+)", line):
                zone = found[1]
            elif found := re.match(r" +nr_zone_(?:in)?active_file (\d+)", line):
                pages[zone == "Movable"] += int(found[1])
    return pages


def lie_in_movable_zone(what, function, *arguments):
    drop_caches()
    before = cached()
    function(*arguments)
    new = cached()
    new.subtract(before)
    print(f"{what}: {new[True]} pages in the movable zone, {new[False]} elsewhere", flush=True)
    least = FILES * BYTES // os.sysconf("SC_PAGE_SIZE")
    check(new[True] >= least * 3 // 4 and new[False] < least // 4, f"pages of {what} are not in the movable zone")


def read_attributes():
    for index, value in enumerate(VALUES):
        equal(os.getxattr(f"{TARGET}/{index}", "trusted.value"), value, f"the attribute of {index}")


def read_files():
    for index, value in enumerate(VALUES):
        with open(f"{TARGET}/{index}", "rb") as f:
            equal(f.read(), value[::-1], f"the content of {index}")


def movable():
    tree = f"{SCRATCH}/small"
    os.makedirs(tree)
    for index, value in enumerate(VALUES):
        with open(f"{tree}/{index}", "wb") as f:
            f.write(value[::-1])
        os.setxattr(f"{tree}/{index}", "trusted.value", value)
    mount(build("small", tree))
    lie_in_movable_zone("metadata", read_attributes)
    lie_in_movable_zone("shared chunks", read_files)
    subprocess.run(["umount", TARGET], check=True)


def blob(digest):
    return f"{LAYOUT}/blobs/sha256/{digest}"


def store(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(blob(digest), "wb") as f:
        f.write(data)
    return digest


def with_large_index(digest):
    """The pack, with as many chunks in its index as may be; those that it has can be found."""
    with open(blob(digest), "rb") as f:
        data = f.read()
    count, magic = TRAILER.unpack(data[-TRAILER.size:])
    index = len(data) - TRAILER.size - count * ENTRY.size
    entries = [data[at:at + ENTRY.size] for at in range(index, len(data) - TRAILER.size, ENTRY.size)]
    entries += [ENTRY.pack(RNG.randbytes(32), 0, 1) for _ in range(MAX_PACK_CHUNKS - count)]
    return data[:index] + b"".join(sorted(entries)) + TRAILER.pack(MAX_PACK_CHUNKS, magic)


def large_indexes(digest):
    """The image, with packs that have the largest index."""
    with open(blob(digest)) as f:
        manifest = json.load(f)
    for layer in manifest["layers"]:
        if ".pack." in layer["mediaType"]:
            data = with_large_index(layer["digest"].removeprefix("sha256:"))
            layer.update(digest=f"sha256:{store(data)}", size=len(data))
    return store(json.dumps(manifest).encode())


def fields(name):
    with open(f"{CGROUP}/memory.{name}") as f:
        return {key: int(value) for key, value in (line.split() for line in f)}


def vmalloced():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmallocUsed:"))


def indexes_go(content):
    """What an index of the largest size takes can be had back, and the pack is read as before."""
    for _ in range(2):
        with open(f"{TARGET}/file", "rb") as f:
            equal(f.read() == content, True, "whether the content is right")
        held = vmalloced()
        settled(2)
        freed = held - vmalloced()
        print(f"{freed} of {held} KiB of vmalloc were given back")
        check(freed >= MAX_PACK_CHUNKS * ENTRY.size >> 10, "the index is still there")


def first_reader():
    # Enough that it has a chunk of its own, which is compressed.
    tree, content = f"{SCRATCH}/one", RNG.randbytes(100_000).hex().encode()
    os.makedirs(tree)
    with open(f"{tree}/file", "wb") as f:
        f.write(content)
    mount(large_indexes(build("one", tree)))
    with open("/sys/fs/cgroup/cgroup.subtree_control", "w") as f:
        f.write("+memory")
    os.makedirs(CGROUP)
    for name, value in ("memory.max", 8 << 20), ("memory.swap.max", 0):
        with open(f"{CGROUP}/{name}", "w") as f:
            f.write(str(value))
    drop_caches()
    child = os.fork()
    if child == 0:
        try:
            with open(f"{CGROUP}/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
            with open(f"{TARGET}/file", "rb", buffering=0) as f:
                os._exit(f.read() != content)
        except OSError as error:
            os._exit(error.errno)
    status = os.waitpid(child, 0)[1]
    # Of what it has used itself not much is left, but what was made for all is still there.
    kernel, events = fields("stat")["kernel"], fields("events")
    print(f"the first reader: status {status}, {kernel} bytes of the kernel's, {events}")
    indexes_go(content)
    subprocess.run(["umount", TARGET], check=True)
    os.rmdir(CGROUP)
    equal((status, events["oom_kill"]), (0, 0), "the status of the first reader")
    check(kernel < PAID, f"the first reader pays {kernel} bytes of the kernel's memory")


VALUES = [RNG.randbytes(BYTES) for _ in range(FILES)]
os.makedirs(TARGET)
movable()
first_reader()
print("what can be moved is, and who reads first pays for no others")
