#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; memory 2G
# shows: readdir: whole directories of every size, offsets that stay valid over a dropped
# cache and another open, rewinding, names that are not there, d_type as stat says; a directory
# that is not sorted, nor says so, has all its names, however long it is.

import ctypes
import errno
import hashlib
import json
import os
import stat
import struct
import subprocess

from case import Image, check, drop_caches, equal, mount, mounted

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.opendir.argtypes = [ctypes.c_char_p]
libc.readdir.argtypes = libc.closedir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16),
                ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]


def entries(directory):
    """(name, offset after it) of the rest of an open directory."""
    while entry := libc.readdir(directory):
        yield Dirent.from_address(entry).name, libc.telldir(directory)


def offsets(path):
    """Every offset leads to the same rest, in another open of the directory too."""
    first = libc.opendir(path)
    whole = list(entries(first))
    drop_caches()
    second = libc.opendir(path)
    for i in range(0, len(whole), max(1, len(whole) // 40)):
        for directory in first, second:
            libc.seekdir(directory, whole[i][1])
            equal([name for name, _ in entries(directory)], [name for name, _ in whole[i + 1:]],
                  f"{path} from entry {i + 1}")
    libc.seekdir(first, 0)
    equal(len(list(entries(first))), len(whole), f"{path} from its beginning")
    libc.closedir(first)
    libc.closedir(second)
    return [name for name, _ in whole]


# More than are looked at in one go (BATCH in kmod/inode/dir.rs), twice.
UNSORTED = 5000


def unsorted():
    """Mounts a directory whose first and last name have changed places, and its metadata's flag
    `sorted` (schema/metadata.capnp) is not set."""
    tree, layout, target = "/scratch/unsorted", "/scratch/unsorted-layout", "/mnt/unsorted"
    names = [f"{i:05}" for i in range(UNSORTED)]
    for path in tree, target:
        os.mkdir(path)
    for name in names:
        open(f"{tree}/{name}", "w").close()
    subprocess.run(["puzzlefs", "build", "--compat", tree, f"{layout}:x"], check=True, stdout=subprocess.DEVNULL)
    image = json.loads(subprocess.check_output(["puzzlefs", "inspect", "--format", "json", f"{layout}:x"]))
    with open(f"{layout}/blobs/sha256/{image['rootfs']}", "rb") as f:
        message = bytearray(f.read())
    # The list's tag: so many structs of two words and one pointer. Before it are flags and pointer.
    tag = message.index(struct.pack("<IHH", UNSORTED << 2, 2, 1))
    equal(message[tag - 16:tag - 8], struct.pack("<Q", 2), "the flags of the directory")
    message[tag - 16] = 0
    first, last = (message.index(f"{name}\0\0\0".encode()) for name in (names[0], names[-1]))
    message[first:first + 5], message[last:last + 5] = message[last:last + 5], message[first:first + 5]
    digest = hashlib.sha256(message).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as f:
        f.write(message)
    mount(f"oci_root_dir={layout},image_manifest={digest}", target)
    inode = {name: i + 2 for i, name in enumerate(names)}
    inode[names[0]], inode[names[-1]] = inode[names[-1]], inode[names[0]]
    for name in names[:3] + names[2046:2050] + names[4094:4098] + names[-3:]:
        equal(os.lstat(f"{target}/{name}").st_ino, inode[name], f"the inode of {name}, unsorted")
    check(not os.path.lexists(f"{target}/no-such-name"), "a name that is not there, unsorted")
    equal(len(os.listdir(target)), UNSORTED, "names, unsorted")
    subprocess.run(["umount", target], check=True)


unsorted()
with mounted(Image("debian")) as root:
    many = offsets(os.path.join(root, "srv/corners/many").encode())
    equal(sorted(many), sorted([b".", b".."] + [f"{i:04}".encode() for i in range(1009)]), "many")
    equal(sorted(offsets(os.path.join(root, "srv/corners/empty-directory").encode())),
          [b".", b".."], "an empty directory")
    count = 0
    for path, _, _ in os.walk(os.path.join(root, "usr/share")):
        names = set()
        with os.scandir(path) as scan:
            for e in scan:
                check(e.name not in names, f"{e.path} twice")
                names.add(e.name)
                st = os.lstat(e.path)
                equal(e.inode(), st.st_ino, f"inode number of {e.path}")
                equal((e.is_dir(follow_symlinks=False), e.is_symlink()),
                      (stat.S_ISDIR(st.st_mode), stat.S_ISLNK(st.st_mode)), f"d_type of {e.path}")
                count += 1
    for name, want in (("nothing", errno.ENOENT), ("n" * 255, errno.ENOENT),
                       ("n" * 256, errno.ENAMETOOLONG), ("etc/passwd/x", errno.ENOTDIR)):
        for _ in range(2):  # the second time from the dentry cache
            try:
                os.lstat(os.path.join(root, name))
                check(False, f"{name[:20]} is there")
            except OSError as error:
                equal(error.errno, want, f"the errno of {name[:20]}")
print(f"{len(many)} entries by offset, {count} by type")
