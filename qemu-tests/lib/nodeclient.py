#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""In the guest: somebody who asks a node for a mount, and means no good. `nodeclient.py IMAGE WHAT` prints what came of it:
WHAT is what is passed for a user namespace, or what is done with the mount."""

import contextlib
import os
import socket
import struct
import sys

from mountapi import AT_FDCWD, MOVE_MOUNT, MOVE_MOUNT_F_EMPTY_PATH, syscall

SOCKET = "/run/puzzlefs-node/socket"
MOUNT_SETATTR, AT_EMPTY_PATH = 442, 0x1000
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
TARGET = "/tmp"


def asked(line):
    """A connection, once the node has said `r`; what it says otherwise is the end."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(100)
    stream.connect(SOCKET)
    stream.sendall(line)
    said = stream.recv(1)
    if said != b"r":
        end(stream, said)
    return stream


def end(stream, said=b""):
    # It is reset if not all was heard that this has said.
    with contextlib.suppress(ConnectionResetError):
        while part := stream.recv(4096):
            said += part
    print(said.decode() or "closed")
    sys.exit(0)


def namespace(map_it=True):
    """A user namespace and a mount namespace of this process, and the first one as a file."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        theirs.recv(1)
        for name in ("uid_map", "gid_map") if map_it else ():
            with open(f"/proc/self/{name}") as f:
                text = "".join(f"{line.split()[0]} {line.split()[0]} {line.split()[2]}\n" for line in f)
            with open(f"/proc/{parent}/{name}", "w") as f:
                f.write(text)
        os._exit(0)
    syscall(272, 0x10000000 | 0x00020000)  # unshare(CLONE_NEWUSER | CLONE_NEWNS)
    ours.send(b"x")
    os.waitpid(child, 0)
    return os.open("/proc/self/ns/user", os.O_RDONLY)


def mounted(stream, file):
    """The mount that comes for a namespace."""
    socket.send_fds(stream, [b"u"], [file])
    said, files, _, _ = socket.recv_fds(stream, 1, 1)
    if said != b"m" or not files:
        end(stream, said)
    return files[0]


def hostile(mount):
    """Takes all flags away from the mount, and uses its device nodes and its setuid programs."""
    attributes = struct.pack("QQQQ", 0, RDONLY | NOSUID | NODEV | NOEXEC, 0, 0)
    syscall(MOUNT_SETATTR, mount, b"", AT_EMPTY_PATH, attributes, len(attributes))
    syscall(MOVE_MOUNT, mount, b"", AT_FDCWD, TARGET.encode(), MOVE_MOUNT_F_EMPTY_PATH)
    with open("/proc/self/mountinfo") as f:
        line = [line for line in f if f" {TARGET} " in line][-1].split()
    print("flags", line[5], line[line.index("-") + 1])
    for what in (lambda: os.open(f"{TARGET}/dev/zero", os.O_RDONLY), lambda: os.open(f"{TARGET}/new", os.O_CREAT | os.O_WRONLY),
                 lambda: os.chmod(f"{TARGET}/bin", 0o777)):
        try:
            what()
            print("done")
        except OSError as error:
            print(error.strerror)
    attributes = struct.pack("QQQQ", 0, 0x00100000, 0, 0)
    try:
        syscall(MOUNT_SETATTR, AT_FDCWD, TARGET.encode(), 0, attributes, len(attributes))
        print("not idmapped any more")
    except OSError as error:
        print(error.strerror)


def main(image, what):
    line = f"puzzlefs 1 {image}\n".encode()
    if what == "garbage":
        asked(b"\xff" * 5000 + b"\n")
    if what == "silence":
        asked(b"puzzlefs 1 ")
    stream = asked(line)
    if what == "gone":
        stream.close()
        print("gone")
    elif what == "nothing":
        stream.send(b"u")
        end(stream)
    elif what in ("hostile", "unmapped", "mine"):
        mount = mounted(stream, namespace(what != "unmapped"))
        if what == "hostile":
            hostile(mount)
        else:
            print("MOUNTED")
    else:
        mounted(stream, os.open(what, os.O_RDONLY))
        print("MOUNTED")


main(*sys.argv[1:])
