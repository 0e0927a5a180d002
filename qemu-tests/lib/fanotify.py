# SPDX-License-Identifier: GPL-2.0
"""Holds back who reads a file, by fanotify(7)'s permission events, which Python's library
lacks. The file must be watched before it is opened by who is to be held back."""

import ctypes
import os
import select
import struct

libc = ctypes.CDLL(None, use_errno=True)
FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD = 4, 1, 0x20000, -100
FAN_ALLOW, FAN_DENY = 1, 2
EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
RESPONSE = struct.Struct("=iI")


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Watch:
    """Every read of a file, by whatever task, that waits for `allow` or `deny`."""

    def __init__(self, path):
        self.fd = checked(libc.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY))
        checked(libc.fanotify_mark(self.fd, FAN_MARK_ADD, ctypes.c_uint64(FAN_ACCESS_PERM), AT_FDCWD,
                                   os.fsencode(path)))

    def events(self, seconds):
        """The reads that have come since the last call, or come within `seconds`."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return []
        return [Event(self, fd, pid) for *_, fd, pid in EVENT.iter_unpack(os.read(self.fd, 1 << 16))]

    def close(self):
        """Lets all go on, and watches no more."""
        os.close(self.fd)


class Event:
    def __init__(self, watch, fd, pid):
        self.watch, self.fd, self.pid = watch, fd, pid

    def answer(self, response):
        os.write(self.watch.fd, RESPONSE.pack(self.fd, response))
        os.close(self.fd)

    def allow(self):
        self.answer(FAN_ALLOW)

    def deny(self):
        """The read fails with EPERM."""
        self.answer(FAN_DENY)
