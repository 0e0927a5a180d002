# SPDX-License-Identifier: GPL-2.0
"""The system calls of fsopen(2) and its kin, which Python's library lacks, with the
messages that the kernel leaves for the caller."""

import contextlib
import ctypes
import os
import subprocess

from case import drop_caches

libc = ctypes.CDLL(None, use_errno=True)
# Numbers that all architectures share (include/uapi/asm-generic/unistd.h).
MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 429, 430, 431, 432
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE = 0, 1, 6, 7
FSCONFIG_SET_PATH, FSCONFIG_SET_PATH_EMPTY, FSCONFIG_SET_FD = 3, 4, 5
FSCONFIG_CMD_CREATE_EXCL = 8
MOVE_MOUNT_F_EMPTY_PATH = 4
AT_FDCWD = -100


class MountError(OSError):
    """What a step of mounting failed with, and the kernel's messages."""

    def __init__(self, error, messages):
        super().__init__(error, os.strerror(error))
        self.messages = messages


def syscall(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def messages(fs):
    """Takes the messages of a filesystem context: one by read(), "e why" and the like."""
    found = []
    while True:
        try:
            found.append(os.read(fs, 4096).decode().rstrip())
        except OSError:  # ENODATA: no more
            return found


def set_option(fs, key, value):
    """Sets an option to a string, to an open file or to a path from a directory on."""
    if isinstance(value, str):
        syscall(FSCONFIG, fs, FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
    elif isinstance(value, int):
        syscall(FSCONFIG, fs, FSCONFIG_SET_FD, key.encode(), None, value)
    else:
        directory, path = value
        command = FSCONFIG_SET_PATH if path else FSCONFIG_SET_PATH_EMPTY
        syscall(FSCONFIG, fs, command, key.encode(), path.encode(), directory)


def mount(options, target, flags=(), kind="puzzlefs"):
    """Mounts a PuzzleFS; returns nothing, or raises MountError. Options as of `set_option`."""
    fs = syscall(FSOPEN, kind.encode(), 0)
    try:
        for key, value in options:
            set_option(fs, key, value)
        for flag in flags:
            syscall(FSCONFIG, fs, FSCONFIG_SET_FLAG, flag.encode(), None, 0)
        syscall(FSCONFIG, fs, FSCONFIG_CMD_CREATE, None, None, 0)
        mnt = syscall(FSMOUNT, fs, 0, 0)
        try:
            syscall(MOVE_MOUNT, mnt, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
        finally:
            os.close(mnt)
    except OSError as error:
        raise MountError(error.errno, messages(fs)) from None
    finally:
        os.close(fs)


@contextlib.contextmanager
def mounts(folder, *wanted):
    """Mounts with each of these options, nothing of them cached, at the paths below `folder` that it yields."""
    drop_caches()
    paths = [f"{folder}/{number}" for number in range(len(wanted))]
    try:
        for path, options in zip(paths, wanted):
            os.makedirs(path, exist_ok=True)
            mount(options, path)
        yield paths
    finally:
        for path in paths:
            if os.path.ismount(path):
                subprocess.run(["umount", "-l", path], check=True)
