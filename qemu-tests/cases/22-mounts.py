#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-stacking; memory 2G
# shows: what mount namespaces are made of: idmapped mounts, bind, move, remount, lazy umount
# under open files; and that a user namespace may not mount an image.

import contextlib
import os
import struct
import subprocess

from case import Image, check, drop_caches
from mountapi import AT_FDCWD, MOVE_MOUNT, MOVE_MOUNT_F_EMPTY_PATH, syscall
from peers import outcome, peers

OPEN_TREE, MOUNT_SETATTR = 428, 442
OPEN_TREE_CLONE, AT_EMPTY_PATH = 1, 0x1000
MOUNT_ATTR_IDMAP = 0x00100000
SHIFT = 100_000


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextlib.contextmanager
def user_namespace(shift):
    """The path of a user namespace that maps ids from 0 on to those from `shift` on."""
    child = subprocess.Popen(["unshare", "--user", "sleep", "infinity"])
    try:
        while os.readlink(f"/proc/{child.pid}/ns/user") == os.readlink("/proc/self/ns/user"):
            pass
        for name in "uid_map", "gid_map":
            with open(f"/proc/{child.pid}/{name}", "w") as f:
                f.write(f"0 {shift} 65536")
        yield f"/proc/{child.pid}/ns/user"
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def idmapped(root):
    """`root` once more at /mnt/shifted, its owners shifted."""
    os.makedirs("/mnt/shifted", exist_ok=True)
    tree = syscall(OPEN_TREE, AT_FDCWD, root.encode(), OPEN_TREE_CLONE)
    try:
        with user_namespace(SHIFT) as path:
            namespace = os.open(path, os.O_RDONLY)
            attributes = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, namespace)
            try:
                syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes))
            finally:
                os.close(namespace)
        syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, b"/mnt/shifted", MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)
    try:
        yield "/mnt/shifted"
    finally:
        run("umount", "-l", "/mnt/shifted")


def as_user(uid, path):
    """Whether that user may read a file."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            with open(path, "rb") as f:
                os._exit(0 if f.read() else 2)
        except PermissionError:
            os._exit(13)
    return {0: "reads", 13: "EACCES"}[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def shifted(root):
    """The file "owned" is of user 7 and for no other: of SHIFT + 7 on the idmapped mount."""
    with idmapped(root) as mount:
        st = os.stat(f"{mount}/owned")
        return (st.st_uid, st.st_gid, [as_user(uid, f"{mount}/owned") for uid in (7, SHIFT + 7, SHIFT + 8)],
                as_user(7, f"{root}/owned"))


def bind(root):
    """A subtree elsewhere, noexec there alone; moved; gone again."""
    for name in "/mnt/bound", "/mnt/moved":
        os.makedirs(name, exist_ok=True)
    steps = [run("mount", "--bind", f"{root}/upper", "/mnt/bound"),
             run("mount", "-o", "remount,bind,noexec", "/mnt/bound"),
             run("mount", "--make-private", "/mnt"),
             run("mount", "--move", "/mnt/bound", "/mnt/moved")]
    flags = [bool(os.statvfs(path).f_flag & os.ST_NOEXEC) for path in ("/mnt/moved", root)]
    names = sorted(os.listdir("/mnt/moved/dir"))
    steps.append(run("umount", "/mnt/moved"))
    return [step.returncode for step in steps], flags, names


def lazy(root):
    """A file stays readable when its mount is gone, cold too; so does a directory."""
    os.makedirs("/mnt/bound", exist_ok=True)
    run("mount", "--bind", root, "/mnt/bound")
    directory = os.open("/mnt/bound/upper/dir", os.O_RDONLY)
    with open("/mnt/bound/lower/big", "rb", buffering=0) as f:
        run("umount", "-l", "/mnt/bound")
        drop_caches()
        right = f.read() == BIG
    names = sorted(os.listdir(directory))
    os.close(directory)
    return "right bytes" if right else "wrong bytes", names, os.listdir("/mnt/bound")


def remount(root):
    codes = [run("mount", "-i", "-o", options, root).returncode
             for options in ("remount,ro", "remount,noatime", "remount,bind,nodev")]
    return codes, outcome(os.mkdir, f"{root}/new")


def in_user_namespace():
    """mount(2) by the root of a user namespace of its own."""
    image = Image("peers-stacking")
    done = run("unshare", "--user", "--map-root-user", "--mount",
               "mount", "-i", "-t", "puzzlefs", "-o", image.options(), "none", "/mnt")
    check(done.returncode != 0 and "permission denied" in done.stdout.lower(), f"a user's mount says {done.stdout}")
    print(f"in a user namespace: {done.stdout.strip()}")


with peers("stacking") as found:
    with open(found.source("lower/big"), "rb") as f:
        BIG = f.read()
    found.row("idmapped mount, shifted by 100,000", shifted)
    found.row("bind, remount of the bind, move, umount", bind)
    found.row("lazy umount with open files", lazy)
    found.row("remount", remount)
    in_user_namespace()
print("mounts are what they are of EROFS")
