#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images corpus; memory 512M
# shows: images of a megabyte or less that ask for all that the format allows (qemu-tests/corpus/heavy.py), more memory
# than the machine has: whoever asks can be killed, and is gone within a second; it costs no memory that cannot be had
# back; another one who asks for the same name can be killed, too. Some of them; `make corpus` takes them all.

import fcntl
import json
import mmap
import os
import struct
import time

from bounds import SECOND, Watch, child, kept
from case import check

from corpus_guest import mount, unpack

SOURCE = os.path.join(os.environ["PUZZLEFS_IMAGES"], "corpus")
LAYOUT = "/scratch/heavy"
PATIENCE = 0.3  # seconds of running before the signal
# KiB that an operation may cost while it runs, and leave behind: 4 MiB, and what the machine does meanwhile.
MEMORY = (4 << 10) + 6144
# A chunk of the largest size that is read takes 6 MiB: as stored, decompressed, and the window of zstd, each of which
# the allocator makes 2 MiB. The one that was read before it is kept until memory is short.
CHUNKS = 2 * (6 << 10)
FIEMAP = 0xC020660B


def opened(name, function):
    def operation():
        return function(os.open(name, os.O_RDONLY))
    return operation


def fiemap(fd):
    fcntl.ioctl(fd, FIEMAP, bytearray(struct.pack("QQIIII", 0, (1 << 64) - 1, 0, 0, 0, 0)), True)


def fault(fd):
    with mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ) as page:
        return page[0]


def read(at):
    """Whether what is read is right: of a hole zeros."""
    def operation(fd):
        data = os.pread(fd, 4096, at(os.fstat(fd).st_size))
        return len(data) > 0 and not (image["name"].startswith("heavy:holes") and data.strip(b"\0"))
    return operation


def ls(name):
    return lambda: os.system("ls -la . >/dev/null") if name == "." else os.listdir(name)


OPERATIONS = {
    "ls": ls,
    "stat": lambda name: (lambda: os.lstat(name)),
    "lookup": lambda name: (lambda: not os.path.exists(name + "/no-such-name")),
    "listxattr": lambda name: (lambda: os.listxattr(name)),
    "getxattr": lambda name: (lambda: os.getxattr(name, "user.none")),
    "statfs": lambda name: (lambda: os.statvfs(name)),
    "open": lambda name: opened(name, os.fstat),
    "read": lambda name: opened(name, read(lambda size: 0)),
    "read-middle": lambda name: opened(name, read(lambda size: size // 2 - 7)),
    "read-end": lambda name: opened(name, read(lambda size: max(size - 4096, 0))),
    "fault": lambda name: opened(name, fault),
    "seek-hole": lambda name: opened(name, lambda fd: os.lseek(fd, 0, os.SEEK_HOLE)),
    "seek-data": lambda name: opened(name, lambda fd: os.lseek(fd, 0, os.SEEK_DATA)),
    "fiemap": lambda name: opened(name, fiemap),
}
OF_FILES = tuple(OPERATIONS)[6:]
READS = (": read", ": read-middle", ": read-end", ": fault")
faults = []


def found(what):
    """Something asks for too much."""
    print(what, flush=True)
    faults.append(what)


def measured(what, operation, other):
    """Runs it; if that takes long kills it, and whoever does `other` meanwhile."""
    before, watch = kept(), Watch()
    pid = child(operation)
    took = watch.gone(pid, PATIENCE * SECOND)
    if took is None:
        second = child(other)
        time.sleep(0.1)
        for who, seconds in watch.kill([("who asks for the same name", second), ("who asks", pid)]):
            found(f"{what}: {who} is killed and stays for {seconds} s")
    elif os.waitstatus_to_exitcode(watch.status) == 2:
        found(f"{what}: not the bytes of the image")
    grown = {name: now - before[name] for name, now in kept().items()}
    most = watch.peak - watch.idle
    if most > MEMORY + (CHUNKS if what.endswith(READS) else 0):
        found(f"{what}: {most} KiB more are not reclaimable while it runs")
    if max(grown.values()) > MEMORY:
        found(f"{what}: keeps {grown} KiB")
    print(f"{what}: {'killed' if took is None else f'{took:.2f} s'}, {most} KiB, then {grown}", flush=True)


def asked(image, operation):
    """Mounts the image for one operation."""
    what = f"{image['name']}: {operation}"
    begin = time.monotonic()
    try:
        fd = mount(LAYOUT, image["digest"])
    except OSError as error:
        found(f"{what}: mount: {error}")
        return
    if time.monotonic() - begin > SECOND:
        found(f"{what}: mount took {time.monotonic() - begin:.1f} s")
    os.fchdir(fd)
    measured(what, OPERATIONS[operation](image["kind"]), lambda: os.lstat(image["kind"]))
    begin = time.monotonic()
    os.chdir("/")
    os.close(fd)
    if time.monotonic() - begin > SECOND:
        found(f"{what}: umount took {time.monotonic() - begin:.1f} s")


def mounts():
    """Blobs of 2 GiB, of no bytes on the disk, that begin as a manifest and as a Rootfs: whoever mounts them can be
    killed, and another one who mounts the same."""
    for what, begin in ("manifest", b'{"schemaVersion":2,'), ("Rootfs", struct.pack("<II", 0, (2 << 30) // 8 - 1)):
        digest = begin.hex().ljust(64, "0")
        with open(f"{LAYOUT}/blobs/sha256/{digest}", "wb") as f:
            f.write(begin)
            f.truncate(2 << 30)
        measured(f"heavy:{what}-of-2g: mount", lambda: mount(LAYOUT, digest), lambda: mount(LAYOUT, digest))
        os.unlink(f"{LAYOUT}/blobs/sha256/{digest}")


unpack(f"{SOURCE}/heavy.bin", LAYOUT)
with open(f"{SOURCE}/heavy.json") as f:
    images = json.load(f)
everything = os.environ.get("PUZZLEFS_CORPUS") == "all"
start = time.monotonic()
print(f"a second is {SECOND:.1f} s here")
for image in images:
    if everything or image["sample"]:
        for operation in OPERATIONS:
            if image["kind"] == "f" or operation not in OF_FILES:
                asked(image, operation)
mounts()
check(not faults, f"{len(faults)} operations ask for too much")
print(f"all within bounds, in {time.monotonic() - start:.0f} s, a second being {SECOND:.1f} s")
