# SPDX-License-Identifier: GPL-2.0
"""Holds back who reads a file, by fanotify(7)'s permission events, which Python's library
lacks. The file must be watched before it is opened by who is to be held back."""

import ctypes
import os
import select
import struct
import threading

libc = ctypes.CDLL(None, use_errno=True)
FAN_NONBLOCK, FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_MARK_FILESYSTEM, AT_FDCWD = 2, 4, 1, 0x100, -100
FAN_OPEN_PERM, FAN_ACCESS_PERM = 0x10000, 0x20000
FAN_ALLOW, FAN_DENY = 1, 2
EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
RESPONSE = struct.Struct("=iI")


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Watch:
    """Every read of a file, by whatever task, that waits for `allow` or `deny`."""

    def __init__(self, path, **what):
        self.fd = checked(libc.fanotify_init(FAN_CLASS_CONTENT | FAN_NONBLOCK, os.O_RDONLY))
        self.add(path, **what)

    def add(self, path, mask=FAN_ACCESS_PERM, mark=0):
        """Watches a file, or with FAN_MARK_FILESYSTEM all files of its filesystem."""
        checked(libc.fanotify_mark(self.fd, FAN_MARK_ADD | mark, ctypes.c_uint64(mask), AT_FDCWD, os.fsencode(path)))

    def events(self, seconds, at_once=1 << 11):
        """The reads that have come since the last call, or come within `seconds`."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return []
        try:
            data = os.read(self.fd, at_once * EVENT.size)
        except BlockingIOError:  # another thread was faster
            return []
        return [Event(self, mask, fd, pid) for *_, mask, fd, pid in EVENT.iter_unpack(data)]

    def close(self):
        """Lets all go on, and watches no more."""
        os.close(self.fd)


class Event:
    def __init__(self, watch, mask, fd, pid):
        self.watch, self.mask, self.fd, self.pid = watch, mask, fd, pid

    def answer(self, response):
        os.write(self.watch.fd, RESPONSE.pack(self.fd, response))
        os.close(self.fd)

    def allow(self):
        self.answer(FAN_ALLOW)

    def deny(self):
        """The read fails with EPERM."""
        self.answer(FAN_DENY)


class Scanner:
    """Answers permission events of /scratch, and of a mount, by `count` threads; what is read of the mount it reads first.
    `seen`: whether each was of the mount, and what."""

    EVENTS = {"mask": FAN_OPEN_PERM | FAN_ACCESS_PERM, "mark": FAN_MARK_FILESYSTEM}

    def __init__(self, count, root=None):
        self.watch, self.seen, self.ended, self.device = Watch("/scratch", **self.EVENTS), [], False, None
        if root:
            self.mounted(root)
        self.threads = [threading.Thread(target=self.answer) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def mounted(self, root):
        self.device = os.stat(root).st_dev
        self.watch.add(root, **self.EVENTS)

    def answer(self):
        while not self.ended:
            for event in self.watch.events(0.1, at_once=1):
                above = os.fstat(event.fd).st_dev == self.device
                self.seen.append((above, event.mask))
                if above:
                    os.pread(event.fd, 1 << 20, 0)
                event.allow()

    def close(self):
        self.ended = True
        for thread in self.threads:
            thread.join()
        self.watch.close()
