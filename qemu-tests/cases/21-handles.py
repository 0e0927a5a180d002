#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-stacking small; memory 2G
# shows: file handles survive dropped caches and a remount, and are of one image only; the kernel's
# NFS server exports a mount, and its client reads it, across dropped caches on both sides.

import os
import subprocess

import handles
from case import SANITIZERS, Image, check, drop_caches, equal, mounted
from peers import outcome, peers

FILES = "lower/big", "lower/link-b", "upper/dir/both"
EXPORT, CLIENT = "/mnt/puzzlefs", "/mnt/client"


def read(path):
    with open(path, "rb") as f:
        return f.read()


def by_handle(root, handle):
    with handles.opened(root, handle) as f:
        return f.read()


def files(root):
    made = [handles.of(f"{root}/{name}") for name in FILES]
    drop_caches()
    return ["right bytes" if by_handle(root, handle) == read(found.source(name)) else "wrong bytes"
            for handle, name in zip(made, FILES)]


def directories(root):
    """A directory is found again with its way up to the root, "..", which is checked."""
    made = handles.of(f"{root}/upper/dir")
    drop_caches()
    fd = handles.open_fd(root, made, os.O_RDONLY | os.O_DIRECTORY)
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")
        return sorted(os.listdir(fd)), path.removeprefix(root), sorted(os.listdir(f"/proc/self/fd/{fd}/.."))
    finally:
        os.close(fd)


def made_up(root):
    """Handles that nobody made: no such inode, another generation, too short, too long."""
    kind, data = handles.of(f"{root}/lower/big")
    changed = [(kind, b"\xee" * len(data)), (kind, data[:-1] + bytes([data[-1] ^ 1])), (kind, data[:4]),
               (77, data)]
    return [outcome(handles.open_fd, root, handle) for handle in changed]


def remount():
    """Handles outlive a mount; those of an image mean nothing to another."""
    image = Image("small")
    with mounted(image) as root:
        made = handles.of(f"{root}/etc/passwd")
    drop_caches()
    with mounted(image) as root:
        equal(by_handle(root, made), read(f"{image.source}/etc/passwd"), "a file by the handle of the last mount")
        equal(outcome(handles.open_fd, EXPORT, made), "ESTALE", "a handle of another image")


def run(*command):
    subprocess.run(command, check=True)


def nfs():
    """Exports the mount by the kernel's server, as the client on this machine sees it."""
    run("modprobe", "-a", "nfsd", "nfs", "nfsv4")
    run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/nfs")
    for name in "v4recovery", "rpc_pipefs":
        os.mkdir(f"/var/lib/nfs/{name}")
    with open("/var/lib/nfs/etab", "w"):
        pass
    run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    server = subprocess.Popen(["rpc.mountd", "--foreground", "--no-udp", "--no-nfs-version=3"])
    run("exportfs", "-o", "ro,no_root_squash,insecure,no_subtree_check,fsid=0", f"127.0.0.1:{EXPORT}")
    # A new server first waits for clients of the one before: not for long, there was none.
    run("rpc.nfsd", "--no-udp", "--no-nfs-version=3", "--host=127.0.0.1", "--grace-time=10", "--lease-time=10", "2")
    os.makedirs(CLIENT, exist_ok=True)
    run("mount", "-t", "nfs4", "-o", "addr=127.0.0.1,clientaddr=127.0.0.1,proto=tcp,soft,timeo=100",
        "127.0.0.1:/", CLIENT)
    try:
        with open(f"{CLIENT}/lower/big", "rb") as f:
            for _ in range(2):
                drop_caches()  # of the server and the client: they are one machine
                f.seek(0)
                check(f.read() == read(found.source("lower/big")), "wrong bytes through NFS")
        equal(sorted(os.listdir(f"{CLIENT}/upper/dir")), sorted(os.listdir(f"{EXPORT}/upper/dir")), "a directory")
        equal(outcome(os.mkdir, f"{CLIENT}/new"), "EROFS", "mkdir through NFS")
        print("NFS: right bytes")
    finally:
        run("umount", "-l", CLIENT)
        run("rpc.nfsd", "0")
        run("exportfs", "-ua")
        server.kill()
        server.wait()
        run("umount", "/proc/fs/nfsd", "/var/lib/nfs")


with peers("stacking") as found:
    found.row("handles of files, after dropping caches", files)
    found.row("handles of directories", directories)
    found.row("handles that nobody made", made_up, same=lambda ours, erofs: set(ours) == {"ESTALE"})
    remount()
    if SANITIZERS:
        print("no NFS: this kernel has none")
    else:
        nfs()
print("handles stay" if SANITIZERS else "handles stay, and NFS exports a mount")
