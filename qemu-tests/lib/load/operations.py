# SPDX-License-Identifier: GPL-2.0
"""What readers do. Each operation has the name of its function, takes a place (mounts.py) and a
random.Random, and compares what it gets with the truth: it ends well, by OSError, or by Wrong."""

import contextlib
import ctypes
import errno
import fcntl
import glob
import mmap
import os
import struct

import handles
import pagecache
import tree
from mountapi import AT_FDCWD, libc, syscall

FS_IOC_FIEMAP, EXTENTS = 0xC020660B, 64
STATX, STATX_ALL = 332, 0xFFF
# Takes what is spliced, sent and copied out of maps; each process has its own.
scratch = None


class Wrong(Exception):
    """Data that are not those of the source."""


def begin():
    """In each process that reads."""
    global scratch
    scratch = os.memfd_create("load")


def same(got, want, what):
    if got != want:
        shown = [repr(value if not isinstance(value, bytes) else f"{len(value)} bytes") for value in (got, want)]
        at = next((i for i, pair in enumerate(zip(got, want)) if pair[0] != pair[1]), "the end") \
            if isinstance(got, bytes) else ""
        raise Wrong(f"{what}: {shown[0]}, want {shown[1]} {f'from byte {at} on' if at != '' else ''}")


def full(place, path):
    return os.path.join(os.fsencode(place.root), path)


@contextlib.contextmanager
def opened(place, rng, flags=0):
    """A file that has bytes, and its descriptor."""
    file = place.tree.file(rng)
    fd = os.open(full(place, file.path), os.O_RDONLY | flags)
    try:
        yield file, fd
    finally:
        os.close(fd)


def span(file, rng):
    """A place in a file, and a length that may lead beyond its end."""
    return rng.randrange(file.size), rng.choice((1, 511, 4096, 65536, 300_000))


def taken(file, at, length, what):
    """Compares what came to `scratch`."""
    same(os.pread(scratch, length, 0), file.bytes(at, length), f"{what} of {file.path} at {at}")


def _read(fd, length, at):
    """A read that meets an error behind what it has got says so the next time."""
    data = bytearray()
    while more := os.pread(fd, length - len(data), at + len(data)):
        data += more
    return bytes(data)


def pread(place, rng):
    with opened(place, rng) as (file, fd):
        for _ in range(6):
            at, length = span(file, rng)
            same(_read(fd, length, at), file.bytes(at, length), f"pread of {place.root} {file.path} at {at}")


def sequential(place, rng):
    with opened(place, rng) as (file, fd):
        at, step, most = 0, rng.choice((4096, 10_000, 1 << 17)), rng.choice((1 << 18, 1 << 20, 1 << 62))
        while data := os.read(fd, step):
            same(data, file.bytes(at, len(data)), f"read of {place.root} {file.path} at {at}")
            at += len(data)
            if at >= most:
                return
        same(at, file.size, f"the length of {file.path}")


def _copied(area, at, length):
    """Out of a map, by a system call, which says EFAULT where a load of the program's own would be SIGBUS."""
    os.ftruncate(scratch, 0)
    os.lseek(scratch, 0, os.SEEK_SET)
    done = 0
    while done < length:
        count = libc.write(scratch, ctypes.c_void_p(area.address + at + done), ctypes.c_size_t(length - done))
        if count <= 0:
            raise OSError(ctypes.get_errno(), "write from a map")
        done += count
    return os.pread(scratch, length, 0)


def _mapped(place, rng, advice, touch):
    with opened(place, rng) as (file, fd), pagecache.Map(fd) as area:
        if advice is not None:
            area.advise(advice)
        for _ in range(6):
            at, length = span(file, rng)
            length = min(length, file.size - at)
            same(touch(area, at, length), file.bytes(at, length), f"a map of {place.root} {file.path} at {at}")


def mapped(place, rng):
    _mapped(place, rng, None, _copied)


def mapped_random(place, rng):
    _mapped(place, rng, mmap.MADV_RANDOM, _copied)


def touched(place, rng):
    """Loads of the program's own: only where nothing fails."""
    _mapped(place, rng, rng.choice((None, mmap.MADV_RANDOM, mmap.MADV_WILLNEED)),
            lambda area, at, length: ctypes.string_at(area.address + at, length))


def splice(place, rng):
    with opened(place, rng) as (file, fd):
        at, length = span(file, rng)
        reader, writer = os.pipe()
        try:
            count = os.splice(fd, writer, min(length, 1 << 16), offset_src=at)
            same(os.read(reader, count) if count else b"", file.bytes(at, count), f"splice of {file.path} at {at}")
        finally:
            os.close(reader)
            os.close(writer)


def sendfile(place, rng):
    with opened(place, rng) as (file, fd):
        at, length = span(file, rng)
        os.ftruncate(scratch, 0)
        os.lseek(scratch, 0, os.SEEK_SET)
        count = os.sendfile(scratch, fd, at, length)
        taken(file, at, count, "sendfile")


def readahead(place, rng):
    with opened(place, rng) as (file, fd):
        at, length = span(file, rng)
        if libc.readahead(fd, ctypes.c_long(at), ctypes.c_size_t(length)):
            raise OSError(ctypes.get_errno(), "readahead")
        os.posix_fadvise(fd, at, length, rng.choice((os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED)))
        pagecache.cached(fd)
        same(_read(fd, length, at), file.bytes(at, length), f"pread of {file.path} at {at} after readahead")


def direct(place, rng):
    """A compressed file has none."""
    try:
        with opened(place, rng, os.O_DIRECT) as (file, _):
            raise Wrong(f"O_DIRECT of {place.root} {file.path} was opened")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def getdents(place, rng):
    path = rng.choice(place.tree.names)
    with os.scandir(full(place, path)) as found:
        kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in found}
    want = {name: os.path.join(path, name) in place.tree.directories for name in place.tree.directories[path]}
    same(sorted(kinds.items()), sorted(want.items()), f"the directory {place.root} {path}")


def xattrs(place, rng):
    path = rng.choice(place.tree.paths)
    want, where = place.tree.entries[path].get("xattrs", {}), full(place, path)
    names = os.listxattr(where, follow_symlinks=False)
    found = {name: tree.text(os.getxattr(where, name, follow_symlinks=False)) for name in names}
    same(sorted(found.items()), sorted(want.items()), f"the xattrs of {place.root} {path}")


def statx(place, rng):
    for _ in range(4):
        path = rng.choice(place.tree.paths)
        want, buffer = place.tree.entries[path], ctypes.create_string_buffer(256)
        syscall(STATX, AT_FDCWD, full(place, path), 0x100, STATX_ALL, buffer)  # AT_SYMLINK_NOFOLLOW
        _, _, _, _, uid, gid, mode, _, size = struct.unpack_from("IIQIIIHQQ", buffer.raw)
        found = {"type": tree.TYPES[mode & 0o170000], "mode": oct(mode & 0o7777), "uid": uid, "gid": gid}
        if "size" in want:
            found["size"] = size
        same(found, {name: want[name] for name in found}, f"statx of {place.root} {path}")


def readlink(place, rng):
    if not place.tree.links:
        return
    path = rng.choice(place.tree.links)
    same(tree.text(os.readlink(full(place, path))), place.tree.entries[path]["target"], f"the link {path}")


def _is_zero(file, start, end, what):
    if file.bytes(start, end - start).strip(b"\0"):
        raise Wrong(f"{what} of {file.path}: data between {start} and {end} are in a hole")


def fiemap(place, rng):
    with opened(place, rng) as (file, fd):
        buffer = bytearray(struct.pack("QQIIII", 0, 1 << 62, 0, 0, EXTENTS, 0) + bytes(56 * EXTENTS))
        fcntl.ioctl(fd, FS_IOC_FIEMAP, buffer)
        count, at = struct.unpack_from("I", buffer, 20)[0], 0
        for number in range(count):
            start, _, length = struct.unpack_from("QQQ", buffer, 32 + 56 * number)
            if start < at or not length:
                raise Wrong(f"FIEMAP of {file.path}: an extent at {start} after {at}")
            _is_zero(file, at, start, "FIEMAP")
            at = start + length
        if count < EXTENTS:
            _is_zero(file, at, file.size, "FIEMAP")


def seek(place, rng):
    with opened(place, rng) as (file, fd):
        at = 0
        while at < file.size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = file.size
            _is_zero(file, at, data, "SEEK_DATA")
            if data == file.size:
                break
            at = os.lseek(fd, data, os.SEEK_HOLE)
            if at <= data:
                raise Wrong(f"SEEK_HOLE of {file.path} from {data} is {at}")


def handle(place, rng):
    file = place.tree.file(rng)
    if not place.has_handles:
        return
    with handles.opened(place.root, handles.of(full(place, file.path))) as f:
        same(f.read(4096), file.bytes(0, 4096), f"{file.path} by its handle")


def statfs(place, _):
    """And the counters in sysfs, which go when another process unmounts."""
    os.statvfs(place.root)
    for path in glob.glob("/sys/fs/puzzlefs/*/*"):
        try:
            with open(path) as f:
                f.read()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise


ALWAYS = (pread, sequential, mapped, mapped_random, splice, sendfile, readahead, direct, getdents, xattrs, statx,
          readlink, fiemap, seek, handle, statfs)
# Those that fault in the program's own code.
CALM = (touched,)
