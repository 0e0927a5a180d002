#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images corpus; memory 2G; scratch 1G
# shows: images of a megabyte or less that ask for all that the format allows (qemu-tests/corpus/heavy.py): whoever
# asks can be killed, and is gone within a second; it costs no memory that cannot be reclaimed; another one who asks
# for the same name can be killed, too.

import ctypes
import json
import os
import re
import signal
import struct
import time

from case import check, drop_caches

from corpus_guest import mount

SOURCE = os.path.join(os.environ["PUZZLEFS_IMAGES"], "corpus")
LAYOUT = "/scratch/heavy"
PATIENCE = 0.3  # seconds of running before the signal
# KiB that an operation may leave behind: 4 MiB, and what the machine does meanwhile.
MEMORY = (4 << 10) + 6144
FIEMAP = 0xC020660B
libc = ctypes.CDLL(None, use_errno=True)


def reference():
    """Seconds of a fixed loop, which takes 20 ms on a machine of 2020 that is not emulated."""
    begin = time.monotonic()
    sum(range(1_000_000))
    return time.monotonic() - begin


# Under emulation everything takes longer, by this factor, and so may a second.
SECOND = max(1.0, reference() / 0.02)


def opened(name, function):
    def operation():
        fd = os.open(name, os.O_RDONLY)
        return function(fd)
    return operation


def fiemap(fd):
    import fcntl
    fcntl.ioctl(fd, FIEMAP, bytearray(struct.pack("QQIIII", 0, (1 << 64) - 1, 0, 0, 0, 0)), True)


def fault(fd):
    import mmap
    with mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ) as page:
        return page[0]


OPERATIONS = {
    "ls": lambda name: (lambda: os.system("ls -la . >/dev/null") if name == "." else os.listdir(name)),
    "stat": lambda name: (lambda: os.lstat(name)),
    "lookup": lambda name: (lambda: os.path.exists(name + "/no-such-name")),
    "listxattr": lambda name: (lambda: os.listxattr(name)),
    "getxattr": lambda name: (lambda: os.getxattr(name, "user.none")),
    "statfs": lambda name: (lambda: os.statvfs(name)),
    "open": lambda name: opened(name, os.fstat),
    "read": lambda name: opened(name, lambda fd: os.pread(fd, 4096, 0)),
    "read-end": lambda name: opened(name, lambda fd: os.pread(fd, 4096, max(os.fstat(fd).st_size - 4096, 0))),
    "fault": lambda name: opened(name, fault),
    "seek-hole": lambda name: opened(name, lambda fd: os.lseek(fd, 0, os.SEEK_HOLE)),
    "seek-data": lambda name: opened(name, lambda fd: os.lseek(fd, 0, os.SEEK_DATA)),
    "fiemap": lambda name: opened(name, fiemap),
}


def child(operation):
    pid = os.fork()
    if pid:
        return pid
    try:
        operation()
    except BaseException:
        os._exit(1)
    os._exit(0)


peak = 0


def gone(pid, seconds):
    """How long until the child is; None if it takes longer. Meanwhile looks at the memory."""
    global peak
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        peak = max(peak, unreclaimable())
        if os.waitpid(pid, os.WNOHANG)[0]:
            return time.monotonic() - begin
        time.sleep(0.01)
    return None


def memory():
    drop_caches()
    with open("/proc/meminfo") as f:
        fields = {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+)", f.read(), re.M)}
    return {"lost": -fields["MemAvailable"], "slab": fields["SUnreclaim"], "vmalloc": fields["VmallocUsed"], "percpu": fields["Percpu"]}


def unreclaimable():
    """KiB, without dropping anything, while the operation runs."""
    with open("/proc/meminfo") as f:
        fields = {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+)", f.read(), re.M)}
    return fields["MemTotal"] - fields["MemFree"] - fields["Cached"] - fields["Buffers"] - fields["SReclaimable"] - fields["AnonPages"]


os.makedirs(f"{LAYOUT}/blobs/sha256")
with open(f"{SOURCE}/heavy.bin", "rb") as f:
    while head := f.read(40):
        with open(f"{LAYOUT}/blobs/sha256/{head[:32].hex()}", "wb") as blob:
            blob.write(f.read(int.from_bytes(head[32:], "little")))
with open(f"{SOURCE}/heavy.json") as f:
    images = json.load(f)
print(f"a second is {SECOND:.1f} s here")
faults = []
for image in images:
    for operation, make in OPERATIONS.items():
        if image["kind"] == "d" and operation in ("open", "read", "read-end", "fault", "seek-hole", "seek-data", "fiemap"):
            continue
        what = f"{image['name']}: {operation}"
        begin = time.monotonic()
        try:
            fd = mount(LAYOUT, image["digest"])
        except OSError as error:
            faults.append(f"{what}: mount: {error}")
            break
        if time.monotonic() - begin > SECOND:
            faults.append(f"{what}: mount took {time.monotonic() - begin:.1f} s")
        os.fchdir(fd)
        before, idle = memory(), unreclaimable()
        peak = idle
        pid = child(make(image["kind"]))
        took = gone(pid, PATIENCE * SECOND)
        if took is None:
            second = child(lambda: os.lstat(image["kind"]))
            time.sleep(0.1)
            for victim in second, pid:
                os.kill(victim, signal.SIGKILL)
            for victim, who in (second, "who asks for the same name"), (pid, "who asks"):
                left = gone(victim, SECOND)
                if left is None:
                    left = gone(victim, 300)
                    faults.append(f"{what}: {who} is killed and stays for {'over 300' if left is None else f'{left + SECOND:.1f}'} s")
        most, after = peak - idle, memory()
        grown = {name: after[name] - before[name] for name in after}
        begin = time.monotonic()
        os.chdir("/")
        os.close(fd)
        if time.monotonic() - begin > SECOND:
            faults.append(f"{what}: umount took {time.monotonic() - begin:.1f} s")
        if most > MEMORY:
            faults.append(f"{what}: {most} KiB more are not reclaimable while it runs")
        if max(grown.values()) > MEMORY:
            faults.append(f"{what}: keeps {grown} KiB")
        print(f"{what}: {'killed' if took is None else f'{took:.2f} s'}, {most} KiB, then {grown}", flush=True)
for fault_ in faults:
    print(fault_)
check(not faults, f"{len(faults)} operations ask for too much")
