#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; memory 2G
# shows: fifos, sockets and devices of an image work as such, devices unless it is mounted with nodev or devices=no; holes read as zeros and are
# found by lseek; copies by sendfile, readahead and advice, private and
# shared maps.

import errno
import hashlib
import mmap
import os
import socket
import stat
import subprocess

from case import Image, check, drop_caches, equal, mounted

HOLE = 64 << 10  # what the builder keeps as a hole; shorter ones are stored as zeros


def holes(fd, size):
    """The runs that lseek(2) says are holes, of HOLE bytes or more."""
    found, at = [], 0
    while at < size:
        start = os.lseek(fd, at, os.SEEK_HOLE)
        try:
            end = os.lseek(fd, start, os.SEEK_DATA) if start < size else size
        except OSError as error:
            equal(error.errno, errno.ENXIO, "lseek(SEEK_DATA) in the last hole")
            end = size
        if end - start >= HOLE:
            found.append((start, end))
        at = max(end, start + 1)
    return found


def fails(want, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        equal(errno.errorcode[error.errno], errno.errorcode[want], f"the errno of {function.__name__}")
    else:
        check(False, f"{function.__name__}{arguments} succeeded")


image = Image("debian")
with mounted(image) as root:
    corners = os.path.join(root, "srv/corners")
    os.chdir(corners)

    # A fifo joins a writer and a reader; the mount is read-only, the pipe is not on it.
    pid = os.fork()
    if pid == 0:
        with open("fifo", "wb") as f:
            f.write(b"through a fifo")
        os._exit(0)
    with open("fifo", "rb") as f:
        equal(f.read(), b"through a fifo", "the fifo")
    os.waitpid(pid, 0)

    with open("null", "r+b", buffering=0) as f:
        equal((f.write(b"x"), f.read(1)), (1, b""), "the null device")
    check(stat.S_ISSOCK(os.stat("socket").st_mode), "the socket is none")
    with socket.socket(socket.AF_UNIX) as s:
        fails(errno.ECONNREFUSED, s.connect, "socket")
    with mounted(image, extra=",nodev") as nodev:
        fails(errno.EACCES, open, os.path.join(nodev, "srv/corners/null"), "rb")
    # By the superblock: it is another one, whatever flags its mounts have; the mount beside it keeps its devices.
    with mounted(image, extra=",devices=no") as without, mounted(image, extra=",devices=yes") as same:
        fails(errno.EACCES, open, os.path.join(without, "srv/corners/null"), "rb")
        fails(errno.EACCES, open, os.path.join(without, "srv/corners/null"), "wb")
        for where in ".", os.path.join(same, "srv/corners"):
            with open(f"{where}/null", "rb") as f:
                equal(f.read(1), b"", "the null device beside it")
        equal(os.stat(same).st_dev, os.stat(root).st_dev, "the superblock of the default")
        check(os.stat(without).st_dev != os.stat(root).st_dev, "one superblock for both")
        with open("/proc/mounts") as f:
            shown = {line.split()[1]: line.split()[3].split(",") for line in f}
        check("devices=no" in shown[without] and "devices=yes" not in shown[same], f"shown are {shown[without]}, {shown[same]}")
        for options in "remount,devices=yes", "remount,dev":
            subprocess.run(["mount", "-o", options, without], stderr=subprocess.DEVNULL)
            fails(errno.EACCES, open, os.path.join(without, "srv/corners/null"), "rb")
    done = subprocess.run(["mount", "-t", "puzzlefs", "-o", f"{image.options()},devices=some", "none", root],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode != 0 and "devices: yes or no" in done.stdout, f"devices=some: {done.stdout}")
    with mounted(image, extra=",noexec") as noexec:
        fails(errno.EACCES, os.execv, os.path.join(noexec, "usr/bin/true"), ["true"])

    for name in "sparse", "all-hole", "zeros", "size-4097":
        with open(name, "rb") as f, open(os.path.join(image.source, "srv/corners", name), "rb") as s:
            size = os.fstat(f.fileno()).st_size
            equal(f.read(), s.read(), name)
            # lseek may call a hole data, never data a hole.
            for start, end in holes(f.fileno(), size):
                check(not any(os.pread(s.fileno(), end - start, start)), f"{name}: {start}-{end} is data")
    with open("sparse", "rb") as f:
        found = holes(f.fileno(), os.fstat(f.fileno()).st_size)
        check(len(found) == 2 and sum(end - start for start, end in found) > 4_000_000,
              f"the holes of sparse are found as {found}")
        fails(errno.ENXIO, os.lseek, f.fileno(), 1 << 40, os.SEEK_DATA)

    big = os.path.join(root, "usr/bin/perl")
    with open(big, "rb") as f:
        want = hashlib.sha256(f.read()).digest()
        size = os.fstat(f.fileno()).st_size
    drop_caches()
    with open(big, "rb") as f, open("/scratch/copy", "w+b") as out:
        done = 0
        while done < size:
            done += os.sendfile(out.fileno(), f.fileno(), done, size - done)
        equal(hashlib.sha256(os.pread(out.fileno(), size, 0)).digest(), want, "a copy by sendfile")

    drop_caches()
    with open(big, "rb") as f:
        for advice in os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_WILLNEED, os.POSIX_FADV_RANDOM, \
                os.POSIX_FADV_DONTNEED:
            os.posix_fadvise(f.fileno(), 0, 0, advice)
            equal(hashlib.sha256(os.pread(f.fileno(), size, 0)).digest(), want, f"advice {advice}")
        with mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
            m[0:4] = b"mine"
            equal(os.pread(f.fileno(), 4, 0), b"\x7fELF", "the file under a private map")
        with mmap.mmap(f.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) as m:
            m.madvise(mmap.MADV_WILLNEED)
            equal(hashlib.sha256(m).digest(), want, "a shared map")
        fails(errno.EACCES, mmap.mmap, f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_WRITE)
    os.chdir("/")
print("fifos, devices, sockets, holes, copies and maps are as they should be")
