#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G
# shows: issue 3, packs: what is not a pack is refused when it is mounted; an index that lies
# and chunks that are damaged give errors to those who read them, and wrong bytes to nobody;
# a chunk that no pack has is found loose; packs that are open may be deleted.

import errno
import hashlib
import json
import os
import shutil
import struct

import mountapi
from case import Image, check, drop_caches, equal

IMAGE = Image("small")
LAYOUT = "/scratch/packs"
TARGET = "/mnt/packs"
PACK = "application/vnd.puzzlefs.image.pack.v1"
ENTRY = struct.Struct("<32sII")  # FORMAT.md, 1.1
TRAILER = struct.Struct("<I4s")
FILES = dict(IMAGE.digests())


def blob(digest):
    return os.path.join(LAYOUT, "blobs/sha256", digest)


def load(digest):
    with open(blob(digest), "rb") as f:
        return f.read()


class Pack:
    """A pack of the layout, to be changed behind the back of its name."""

    def __init__(self, digest):
        self.digest = digest
        self.bytes = load(digest)
        count, magic = TRAILER.unpack(self.bytes[-TRAILER.size:])
        equal(magic, b"PzPk", "the magic number of a pack")
        self.index = len(self.bytes) - TRAILER.size - count * ENTRY.size
        self.entries = list(ENTRY.iter_unpack(self.bytes[self.index:-TRAILER.size]))
        check(self.entries == sorted(self.entries), "the index is not in order")

    def write(self, data=None):
        # In place: who has it open sees it.
        with open(blob(self.digest), "r+b") as f:
            f.truncate(0)
            f.write(self.bytes if data is None else data)

    def with_entries(self, entries):
        index = b"".join(ENTRY.pack(*entry) for entry in entries)
        return self.bytes[:self.index] + index + TRAILER.pack(len(entries), b"PzPk")


def refused(want, *words):
    try:
        mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", IMAGE.digest)], TARGET)
    except mountapi.MountError as error:
        said = "\n".join(error.messages)
        equal(errno.errorcode[error.errno], errno.errorcode[want], f"the errno of {said!r}")
        check(all(word in said for word in words), f"{words} are not all in {said!r}")
        print(f"{errno.errorcode[want]}: {said}")
    else:
        check(False, f"mounted, but {errno.errorcode[want]} was expected")


def mounted_files():
    """Mounts; reads every file; returns those that gave EIO. All others must be right."""
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", IMAGE.digest)], TARGET)
    try:
        return read_files()
    finally:
        os.system(f"umount {TARGET}")


def read_files():
    failed = []
    for path, sha256 in FILES.items():
        try:
            with open(os.path.join(TARGET.encode(), path), "rb", buffering=0) as f:
                got = hashlib.sha256(b"".join(iter(lambda: f.read(1 << 20), b""))).hexdigest()
            equal(got, sha256, f"the digest of {path}")
        except OSError as error:
            equal(errno.errorcode[error.errno], "EIO", f"the errno of {path}")
            failed.append(path)
    return failed


def no_packs(pack):
    for data in (b"", b"PzPk", pack.bytes[:-1], pack.bytes[:len(pack.bytes) // 2], pack.bytes[:-4] + b"PzPl"):
        pack.write(data)
        refused(errno.EUCLEAN, pack.digest, "not a pack")
    digest, offset, size = pack.entries[0]
    for bad in (digest, pack.index, size), (digest, offset, 0), (digest, 2**32 - 1, 2), (digest, 0, 2**25):
        pack.write(pack.with_entries([bad] + pack.entries[1:]))
        refused(errno.EUCLEAN, pack.digest)
    for entries in pack.entries[::-1], pack.entries[:1] * 2:
        pack.write(pack.with_entries(entries))
        refused(errno.EUCLEAN, pack.digest, "not a pack")
    for count in len(pack.entries) + 2**20, 2**32 - 1:
        pack.write(pack.bytes[:-TRAILER.size] + TRAILER.pack(count, b"PzPk"))
        refused(errno.EUCLEAN, pack.digest)
    os.rename(blob(pack.digest), blob("kept"))
    refused(errno.ENODATA, pack.digest, "no such blob")
    os.rename(blob("kept"), blob(pack.digest))
    pack.write()


def lies(pack):
    """Every second pair of chunks swaps its places: the bytes of each are someone else's."""
    places = [entry[1:] for entry in pack.entries]
    swapped = places[:]
    for i in range(0, len(places) - 1, 4):
        swapped[i], swapped[i + 1] = places[i + 1], places[i]
    pack.write(pack.with_entries([(e[0], *place) for e, place in zip(pack.entries, swapped)]))
    failed = mounted_files()
    check(0 < len(failed) < len(FILES), f"{len(failed)} of {len(FILES)} files failed")
    print(f"swapped places in the index: {len(failed)} of {len(FILES)} files give EIO, the others their bytes")
    pack.write()


def damaged(pack):
    """A bit flips in the largest chunk, or in one of many files, and flips back."""
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", IMAGE.digest)], TARGET)
    sharers = 0
    largest = sorted(pack.entries, key=lambda entry: entry[2])
    for _, offset, size in largest[-1:] + largest[len(largest) // 2::20]:
        at = offset + size // 2
        data = bytearray(pack.bytes)
        data[at] ^= 1
        pack.write(data)
        drop_caches()
        failed = read_files()
        check(failed, f"no file failed when byte {at} was wrong")
        sharers = max(sharers, len(failed))
        pack.write()
        # Nothing that was wrong is cached.
        equal(read_files(), [], "files that failed when the pack was right again")
    check(sharers > 1, "no chunk of several files was among those")
    # Deleted, it is still there for those who have it open.
    os.rename(blob(pack.digest), blob("kept"))
    drop_caches()
    equal(read_files(), [], "files that failed without the pack's name")
    os.rename(blob("kept"), blob(pack.digest))
    os.system(f"umount {TARGET}")
    print(f"damaged chunks: up to {sharers} files gave EIO at once, all others their bytes")


def loose(pack):
    """The index does not have a chunk any more; then it is there as a blob of its own."""
    digest, offset, size = max(pack.entries, key=lambda entry: entry[2])
    pack.write(pack.with_entries([entry for entry in pack.entries if entry[0] != digest]))
    failed = mounted_files()
    check(failed, "no file misses a chunk that is nowhere")
    with open(blob(digest.hex()), "wb") as f:
        f.write(pack.bytes[offset:offset + size])
    equal(mounted_files(), [], "files that failed with that chunk loose")
    os.unlink(blob(digest.hex()))
    pack.write()


def someone_elses(pack):
    """A mount has read a chunk; another one, whose pack has other bytes for it, must not get
    what the first one read."""
    other, there = "/scratch/lying", "/mnt/lying"
    shutil.copytree(LAYOUT, other)
    os.makedirs(there, exist_ok=True)
    with open(os.path.join(other, "blobs/sha256", pack.digest), "r+b") as f:
        f.write(bytes(pack.index))
    mountapi.mount([("oci_root_dir", other), ("image_manifest", IMAGE.digest)], there)
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", IMAGE.digest)], TARGET)
    tried = 0
    for path in [path for path, size in IMAGE.files(1 << 16)][:20]:
        with open(os.path.join(TARGET.encode(), path), "rb") as f:
            f.read()
        try:
            with open(os.path.join(there.encode(), path), "rb") as f:
                f.read()
            check(False, f"{path} was read from a pack that does not have it")
        except OSError as error:
            equal(errno.errorcode[error.errno], "EIO", f"the errno of {path}")
            tried += 1
    check(tried, "no file was tried")
    os.system(f"umount {TARGET} {there}")
    print(f"{tried} files that another mount had just read gave EIO where the pack has other bytes")


shutil.copytree(IMAGE.layout, LAYOUT)
os.makedirs(TARGET, exist_ok=True)
layers = json.loads(load(IMAGE.digest))["layers"]
packs = [Pack(layer["digest"].removeprefix("sha256:")) for layer in layers if layer["mediaType"] == PACK]
check(len(packs) > 1, "the image has no pack of metadata and one of files")
equal(mounted_files(), [], "files that failed at first")
# The blocks of the metadata are in a pack of their own, which is listed first.
for pack in packs[:2]:
    no_packs(pack)
for test in lies, damaged, loose, someone_elses:
    test(packs[1])
equal(mounted_files(), [], "files that failed at last")
print(f"{len(packs)} packs, {sum(len(p.entries) for p in packs)} chunks, {len(FILES)} files")
