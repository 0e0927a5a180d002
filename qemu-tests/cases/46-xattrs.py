#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 2G
# shows: listxattr(2) names what getxattr(2) answers and nothing else, whatever names and ACLs an image
# has and on whatever they are; copy-up through overlayfs takes them along; owners that are none are logged.

import hashlib
import json
import os
import socket
import stat
import struct
import subprocess

import mountapi
from case import Logged, check, equal, mount
from peers import outcome
from users import User, as_user

LAYOUT, TREE, TARGET = "/scratch/xattrs/oci", "/scratch/xattrs/tree", "/mnt/target"
USER = User("a user", 1000, 1000)
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
UNDEFINED = 0xFFFF_FFFF
# Version 2, then tag, permissions and id of each entry: user, user 1000, group, mask, other.
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (
    (0x01, 7, UNDEFINED), (0x02, 7, 1000), (0x04, 5, UNDEFINED), (0x10, 7, UNDEFINED), (0x20, 5, UNDEFINED)))
ALL = {name: name.encode() for name in (
    "user.text", "user.", "user", "User.text", "trusted.text", "trusted.", "security.text", "security.", "btrfs.compression",
    "system.text", "os2.text", "no-namespace")} | {ACCESS: ACL, DEFAULT: ACL}
# As the VFS says it (xattr_resolve_name and xattr_permission in fs/xattr.c).
EVERYWHERE = {"trusted.text", "security.text"}
HERE = {"file": {"user.text", ACCESS}, "directory": {"user.text", ACCESS, DEFAULT}, "socket": {ACCESS},
        "fifo": {ACCESS}, "device": {ACCESS}, "link": set()}
BAD_ACLS = {"no-entries": ACL[:4], "cut": ACL[:-1], "empty": b"", "old-version": b"\1" + ACL[1:],
            "strange-tag": ACL[:4] + b"\x80" + ACL[5:]}
OWNER = 0x1234_5678


def make(kind, path):
    if kind == "directory":
        os.mkdir(path)
    elif kind == "link":
        os.symlink("file", path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(path)
    else:
        with open(path, "w") as f:
            f.write("text")
    if kind != "link":
        os.chmod(path, 0o775)


class Names:
    """Gives files attributes that no filesystem here would take: first under names that all of them
    take, which are put right in the image's metadata."""

    def __init__(self):
        self.renames = []

    def set(self, path, name, value):
        stand_in = f"trusted.{len(self.renames):03}".ljust(len(name), "-")
        os.setxattr(path, stand_in, value, follow_symlinks=False)
        self.renames.append((stand_in.encode(), name.encode()))

    def put_right(self, data):
        """The names are lists of bytes: a pointer with distance and length, and padded to words
        (capnproto.org/encoding.html)."""
        data = bytearray(data)
        for old, new in self.renames:
            found = 0
            for at in range(8, len(data), 8):
                low, high = struct.unpack_from("<iI", data, at)
                place = at + 8 + (low >> 2) * 8
                if low & 3 == 1 and high == len(old) << 3 | 2 and data[place:place + len(old)] == old:
                    struct.pack_into("<I", data, at + 4, len(new) << 3 | 2)
                    data[place:place + len(old)] = new.ljust(len(old), b"\0")
                    found += 1
            equal(found, 1, f"how often {old} is in the metadata")
        return bytes(data)


def blob(digest):
    return f"{LAYOUT}/blobs/sha256/{digest}"


def store(data):
    """Adds a blob under its true name."""
    digest = hashlib.sha256(data).hexdigest()
    with open(blob(digest), "wb") as f:
        f.write(data)
    return digest


def build():
    """The metadata of an image of one file of each kind with each of the attributes."""
    names = Names()
    os.mkdir(TREE)
    for kind in HERE:
        make(kind, f"{TREE}/{kind}")
        for name, value in ALL.items():
            names.set(f"{TREE}/{kind}", name, value)
    for name, value in BAD_ACLS.items():
        make("file", f"{TREE}/{name}")
        names.set(f"{TREE}/{name}", ACCESS, value)
        names.set(f"{TREE}/{name}", "user.text", b"user.text")
    make("file", f"{TREE}/twice")
    for number in range(2):
        names.set(f"{TREE}/twice", "user.text", b"value %d" % number)
        names.set(f"{TREE}/twice", ACCESS, ACL)
    make("file", f"{TREE}/owned")
    os.chown(f"{TREE}/owned", OWNER, 0)
    subprocess.run(["puzzlefs", "build", "--layout", "loose", TREE, f"{LAYOUT}:test"], check=True)
    said = subprocess.run(["puzzlefs", "inspect", "--format", "json", f"{LAYOUT}:test"], check=True, stdout=subprocess.PIPE)
    with open(blob(json.loads(said.stdout)["rootfs"]), "rb") as f:
        return names.put_right(f.read())


def get(path, name):
    return outcome(lambda: os.getxattr(path, name, follow_symlinks=False))


def listed(path):
    return os.listxattr(path, follow_symlinks=False)


def answers(kind):
    """What is listed of a file, by whom; it is what can be asked for."""
    path = f"{TARGET}/{kind}"

    def everything():
        return {name: get(path, name) for name in ALL}, listed(path)

    for user, want in (None, HERE[kind] | EVERYWHERE), (USER, (HERE[kind] | EVERYWHERE) - {"trusted.text"}):
        got, names = as_user(user, everything) if user else everything()
        equal(sorted(names), sorted(want), f"the names that {user or 'root'} is shown of {kind}")
        for name, value in ALL.items():
            if name in want:
                equal(got[name], value, f"{name} of {kind}")
            else:
                check(got[name] in ("ENOTSUP", "ENODATA", "EINVAL"), f"{name} of {kind}: {got[name]}")
        equal(got["btrfs.compression"], "ENOTSUP", f"a name of no namespace, of {kind}")
        print(f"{kind}, {user.name if user else 'root'}: {sorted(names)}")


def acls():
    """What is no ACL is not listed, and what is wrong with it is said when it is asked for."""
    got = {name: (get(f"{TARGET}/{name}", ACCESS), listed(f"{TARGET}/{name}")) for name in BAD_ACLS}
    equal(got, {name: ("ENODATA" if name == "no-entries" else "ENOTSUP" if name == "old-version" else "EINVAL",
                       ["user.text"]) for name in BAD_ACLS}, "ACLs that are none")


def twice():
    """Of two attributes with one name the first counts; an ACL is listed once."""
    equal(get(f"{TARGET}/twice", "user.text"), b"value 0", "the first of two values")
    equal(listed(f"{TARGET}/twice"), ["user.text", "user.text", ACCESS], "the names of a file with two of each")


def sizes():
    """The size that is asked for first is that of what comes."""
    path = f"{TARGET}/directory".encode()
    size = mountapi.libc.listxattr(path, None, 0)
    equal(size, sum(len(name) + 1 for name in listed(path.decode())), "the size of the list")
    buffer = bytes(size)
    equal(mountapi.libc.listxattr(path, buffer, size), size, "what comes in a buffer of that size")
    equal(mountapi.libc.listxattr(path, buffer, size - 1), -1, "what comes in a smaller one")
    done = subprocess.run(["getfattr", "--no-dereference", "--dump", "--match=-", "--recursive", "."], cwd=TARGET,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    equal((done.returncode, done.stderr), (0, ""), "what getfattr complains about")


def copy_up():
    """What is changed above takes along what is listed, whatever else there is."""
    for name in "upper", "work":
        os.makedirs(f"/scratch/xattrs/{name}")
    subprocess.run(["modprobe", "overlay"], check=True)
    subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={TARGET},upperdir=/scratch/xattrs/upper,"
                    "workdir=/scratch/xattrs/work", "none", "/mnt/merged"], check=True)
    try:
        for name in *HERE, *BAD_ACLS, "twice":
            path = f"/mnt/merged/{name}"
            subprocess.run(["touch", "--no-dereference", path], check=True)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "a") as f:
                    f.write(" more")
            upper = f"/scratch/xattrs/upper/{name}"
            above = {attribute for attribute in listed(upper) if not attribute.startswith("trusted.overlay.")}
            equal(above, set(listed(f"{TARGET}/{name}")),
                  f"the names of {name} when it was copied up")
            check(all(get(upper, a) == get(f"{TARGET}/{name}", a) for a in above), f"{name} has other values above")
    finally:
        subprocess.run(["umount", "/mnt/merged"], check=True)


def owners(metadata):
    """An owner that is none is refused, and the log says whose."""
    before, _, behind = metadata.rpartition(struct.pack("<I", OWNER))
    bad = store(before + struct.pack("<I", UNDEFINED) + behind)
    mount(f"oci_root_dir={LAYOUT},image_manifest={bad}", "/mnt/bad")
    try:
        with Logged() as log:
            said = outcome(os.lstat, "/mnt/bad/owned")
        equal(said, "EUCLEAN", "an owner that is none")
        # It is found out when the name is looked up, in the directory.
        lines = [line for line in log.lines if "inode 1: an owner or a group is 4294967295" in line]
        check(lines, f"the log does not say what is wrong: {log.lines}")
        print(f"{said}: {lines[0]}")
    finally:
        subprocess.run(["umount", "/mnt/bad"], check=True)


for name in LAYOUT, TARGET, "/mnt/merged", "/mnt/bad":
    os.makedirs(name, exist_ok=True)
metadata = build()
mount(f"oci_root_dir={LAYOUT},image_manifest={store(metadata)}", TARGET)
try:
    for kind in HERE:
        answers(kind)
    acls()
    twice()
    sizes()
    copy_up()
    owners(metadata)
finally:
    subprocess.run(["umount", TARGET], check=True)
print("what is listed is there")
