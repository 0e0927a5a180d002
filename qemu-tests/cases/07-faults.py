#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small-loose; memory 2G
# shows: every fault has its own errno and a message that a person can act on;
# nothing stays mounted, and the runner sees that the module can be unloaded.

import errno
import hashlib
import json
import os
import shutil
import struct
import subprocess
import time

import mountapi
from case import Image, Logged, check, drop_caches, equal

IMAGE = Image("small-loose")
LAYOUT = "/scratch/oci"
TARGET = "/mnt/target"


def blob(digest):
    return os.path.join(LAYOUT, "blobs/sha256", digest)


def store(data):
    """Adds a blob under its true name."""
    digest = hashlib.sha256(data).hexdigest()
    with open(blob(digest), "wb") as f:
        f.write(data)
    return digest


def load(digest):
    with open(blob(digest), "rb") as f:
        return f.read()


def refused(want, *words, layout=LAYOUT, digest=IMAGE.digest, more=()):
    """A mount that must fail with `want` and a message in which all `words` are."""
    try:
        mountapi.mount([("oci_root_dir", layout), ("image_manifest", digest), *more], TARGET)
    except mountapi.MountError as error:
        equal(errno.errorcode[error.errno], errno.errorcode[want], f"the errno of {words}")
        said = "\n".join(error.messages)
        check(all(word in said for word in words), f"{words} are not all in {said!r}")
        print(f"{errno.errorcode[want]}: {said}")
    else:
        check(False, f"mounted, but {words} was to be refused")


def fails(want, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        equal(errno.errorcode[error.errno], errno.errorcode[want], f"the errno of {function.__name__}")
    else:
        check(False, f"{function.__name__}{arguments} succeeded")


def options():
    refused(errno.EINVAL, "no_such_option", more=[("no_such_option", "1")])
    refused(errno.EINVAL, "image_manifest", digest="sha256:beef")
    refused(errno.EINVAL, "image_manifest", digest=IMAGE.digest.upper())
    refused(errno.EINVAL, "image_manifest", digest="sha512:" + IMAGE.digest)
    refused(errno.ENOENT, "/no/such/directory", layout="/no/such/directory")
    refused(errno.ENOTDIR, "/etc/passwd", layout="/etc/passwd")
    refused(errno.ENOENT, "/etc", layout="/etc")


def metadata():
    refused(errno.ENODATA, "0" * 64, digest="0" * 64)
    manifest = load(IMAGE.digest)
    rootfs = json.loads(manifest)["layers"][0]["digest"].removeprefix("sha256:")
    good = load(rootfs)

    # A manifest or a Rootfs whose bytes are not those of its name.
    for digest in IMAGE.digest, rootfs:
        kept = load(digest)
        with open(blob(digest), "wb") as f:
            f.write(kept[:-1] + b"?")
        refused(errno.EBADMSG, digest)
        with open(blob(digest), "wb") as f:
            f.write(kept[:len(kept) // 2])
        refused(errno.EBADMSG, digest)
        os.rename(blob(digest), blob("kept"))
        refused(errno.ENODATA, digest)
        os.rename(blob("kept"), blob(digest))
        with open(blob(digest), "wb") as f:
            f.write(kept)

    # Bytes that are those of the name, and not sound.
    for data in good[:len(good) // 2], good[:8], b"", b"{", b"[]", b"{}", manifest[:-1], b"\xff" * 64:
        digest = store(data)
        refused(errno.EUCLEAN, digest, digest=digest)
    # A manifestVersion of the future: the first data word of the root struct.
    segments = struct.unpack_from("<I", good)[0] + 1
    body = (4 + 4 * segments + 7) // 8 * 8
    root = struct.unpack_from("<Q", good, body)[0]
    version = body + 8 + 8 * ((root & 0xFFFFFFFF) >> 2)
    check(struct.unpack_from("<Q", good, version)[0] in (3, 4, 5, 6), "manifestVersion is not there")
    digest = store(good[:version] + struct.pack("<Q", 99) + good[version + 8:])
    refused(errno.EOPNOTSUPP, digest, "99", digest=digest)


def unsound():
    """Metadata that are those of their digest, and not sound: who meets that gets EUCLEAN, and the
    log says where and what, within its limit."""
    tree, size = "/scratch/unsound", 54321
    os.makedirs(f"{tree}/directory/an-entry")
    os.symlink("where-it-leads", f"{tree}/link")
    with open(f"{tree}/file", "wb") as f:
        f.truncate(size)
    os.setxattr(f"{tree}/file", "user.its-name", b"value")
    subprocess.run(["puzzlefs", "build", tree, f"{LAYOUT}:unsound"], check=True)
    said = subprocess.run(["puzzlefs", "inspect", "--format", "json", f"{LAYOUT}:unsound"], check=True, stdout=subprocess.PIPE)
    digest = json.loads(said.stdout)["rootfs"]
    good = load(digest)
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", digest)], TARGET)
    inodes = {name: os.lstat(f"{TARGET}/{name}").st_ino for name in os.listdir(TARGET)}
    equal(os.system(f"umount {TARGET}"), 0, "umount")

    for name, operation, old, new, what in (
            ("directory", os.listdir, b"an-entry", b"an/entry", "a directory entry has a bad name or inode number"),
            ("link", os.lstat, b"where-it-leads", b"where\0it-leads", "a symbolic link has a bad target"),
            ("file", os.listxattr, b"user.its-name", b"user\0its-name", "an extended attribute has a bad name"),
            # The last one is the length of its extent; before come its size, and the sum of all sizes.
            ("file", lambda path: os.open(path, os.O_RDONLY), struct.pack("<Q", size), struct.pack("<Q", size + 1),
             "a file's recorded size is not that of its chunks")):
        before, _, behind = good.rpartition(old)
        mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", store(before + new + behind))], TARGET)
        device = os.stat(TARGET).st_dev
        want = f"puzzlefs ({os.major(device)}:{os.minor(device)}): inode {inodes[name]}: {what}"
        start = time.monotonic()
        with Logged() as log:
            for _ in range(50):
                fails(errno.EUCLEAN, operation, f"{TARGET}/{name}")
        most = 10 * (1 + (time.monotonic() - start) // 5)
        count = log.lines.count(want)
        check(1 <= count <= most, f"{want!r} is {count} times in the log, not 1 to {most} times: {log.lines}")
        equal(os.system(f"umount {TARGET}"), 0, "umount")
        print(f"EUCLEAN: {want}")


def chunks():
    victim = os.path.join(TARGET, "srv/corners/incompressible")
    chunk = chunk_of(victim)
    forget()
    kept = load(chunk)

    # Open while it was there, changed on disk before it is read.
    with open(victim, "rb", buffering=0) as f:
        with open(blob(chunk), "r+b") as c:
            c.seek(len(kept) // 2)
            c.write(bytes([kept[len(kept) // 2] ^ 1]))
        fails(errno.EIO, f.read)
        with open(blob(chunk), "r+b") as c:
            c.write(kept)
        # What was wrong is not cached.
        f.seek(0)
        equal(hashlib.sha256(f.read()).hexdigest(), SHA256, "the digest after repair")
        forget()
        os.truncate(blob(chunk), len(kept) // 2)
        f.seek(0)
        fails(errno.EIO, f.read)
        with open(blob(chunk), "wb") as c:
            c.write(kept)

    os.rename(blob(chunk), blob("kept"))
    fails(errno.EIO, open, victim, "rb")
    os.rename(blob("kept"), blob(chunk))
    with open(victim, "rb") as f:
        equal(hashlib.sha256(f.read()).hexdigest(), SHA256, "the digest at last")


def forget():
    """Drops all files from the page cache, and the victim's chunks from the module's own
    buffers, by reading others."""
    for path, _ in IMAGE.files(at_least=4096)[:200]:
        if not path.endswith(b"incompressible"):
            with open(os.path.join(TARGET.encode(), path), "rb") as f:
                f.read()
    drop_caches()


def chunk_of(victim):
    """The blob that a file needs, and which no other file has opened: found by taking
    blobs away until opening fails."""
    os.close(os.open(victim, os.O_RDONLY))  # The blocks of its metadata are in memory now.
    names = os.listdir(os.path.join(LAYOUT, "blobs/sha256"))
    while len(names) > 1:
        half = names[:len(names) // 2]
        for name in half:
            os.rename(blob(name), blob(name) + ".away")
        try:
            os.close(os.open(victim, os.O_RDONLY))
            needed = names[len(half):]
        except OSError:
            needed = half
        for name in half:
            os.rename(blob(name) + ".away", blob(name))
        names = needed
    return names[0]


def writes():
    path = os.path.join(TARGET, "etc/passwd")
    fails(errno.EROFS, open, path, "r+b")
    fails(errno.EROFS, os.truncate, path, 0)
    fails(errno.EROFS, os.unlink, path)
    fails(errno.EROFS, os.rename, path, path + "2")
    fails(errno.EROFS, os.mkdir, os.path.join(TARGET, "new"))
    fails(errno.EROFS, os.mknod, os.path.join(TARGET, "new"))
    fails(errno.EROFS, os.symlink, "a", os.path.join(TARGET, "new"))
    fails(errno.EROFS, os.link, path, path + "2")
    fails(errno.EROFS, os.chmod, path, 0o600)
    fails(errno.EROFS, os.chown, path, 1, 1)
    fails(errno.EROFS, os.utime, path)
    fails(errno.EROFS, os.setxattr, path, "user.x", b"1")


shutil.copytree(IMAGE.layout, LAYOUT)
os.mkdir(TARGET)
options()
metadata()
unsound()

SHA256 = next(sha for path, sha in IMAGE.digests() if path == b"./srv/corners/incompressible")
for flags in (), ("rw",):
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", IMAGE.digest)], TARGET, flags)
    writes()
    os.system(f"mount -i -o remount,rw {TARGET} 2>/dev/null")
    writes()
    if not flags:
        chunks()
    equal(os.system(f"umount {TARGET}"), 0, "umount")
print("every fault was refused as it should be")
