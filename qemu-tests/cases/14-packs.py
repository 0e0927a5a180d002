#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G
# shows: one that is missing or has another size is refused when it is mounted;
# what is no pack, an index that lies and chunks that are damaged give errors to those who read
# them, and wrong bytes to nobody; a chunk that no pack has is found loose; packs that are open
# may be deleted; a mount looks into none of them, and mounts share what they know of them.

import errno
import hashlib
import json
import os
import shutil
import struct
import subprocess

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


def all_fail(data, pack):
    """Mounts with `data` in place of the pack: there are none of its files. Returns what the log
    says of the pack; that may be nothing, since the log takes ten messages in some seconds."""
    pack.write(data)
    subprocess.run(["dmesg", "--clear"], check=True)
    failed = mounted_files()
    check(len(failed) > len(FILES) // 2, f"{len(failed)} of {len(FILES)} files failed")
    log = subprocess.run(["dmesg"], check=True, stdout=subprocess.PIPE, text=True).stdout
    heard = [line for line in log.splitlines() if f"pack sha256:{pack.digest}" in line]
    check(len(heard) < 2, f"the log has {heard}")
    print(f"{len(failed)} of {len(FILES)} files gave EIO: {heard}")
    return "".join(heard)


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
    for data in b"", b"PzPk", pack.bytes[:-1], pack.bytes[:len(pack.bytes) // 2], pack.bytes + b"\0":
        pack.write(data)
        refused(errno.EUCLEAN, pack.digest, f"{len(data)} bytes, not {len(pack.bytes)}")
    os.rename(blob(pack.digest), blob("kept"))
    refused(errno.ENODATA, pack.digest, "no such blob")
    os.rename(blob("kept"), blob(pack.digest))
    pack.write()


def not_packs(pack):
    """Of the right size, they are mounted: who looks for a chunk finds out."""
    body = pack.bytes[:-TRAILER.size]
    said = all_fail(body + TRAILER.pack(len(pack.entries), b"PzPl"), pack)
    check("is not a pack" in said, f"the log says {said!r}")
    for count in 2**20, 2**32 - 1:
        all_fail(body + TRAILER.pack(count, b"PzPk"), pack)
    for place in (pack.index, 1), (0, 0), (2**32 - 1, 2), (0, 2**25):
        all_fail(pack.with_entries([(digest, *place) for digest, _, _ in pack.entries]), pack)
    # Not in order: some are found, and those are right.
    for entries in pack.entries[::-1], pack.entries[:1] * len(pack.entries):
        pack.write(pack.with_entries(entries))
        check(mounted_files(), "a chunk was found where the index is not in order")
    pack.write()
    equal(mounted_files(), [], "files that failed when the pack was right again")


def no_metadata(pack):
    """Without the blocks of the metadata there is a root directory, and nothing in it."""
    pack.write(bytes(len(pack.bytes)))
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", IMAGE.digest)], TARGET)
    try:
        check(os.stat(TARGET).st_size > 0, "the root directory has no size")
        for function in os.listdir, os.statvfs, lambda root: os.stat(f"{root}/etc"):
            try:
                function(TARGET)
                check(False, "metadata were read that are not there")
            except OSError as error:
                equal(errno.errorcode[error.errno], "EIO", "the errno of metadata that are not there")
    finally:
        os.system(f"umount {TARGET}")
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
    # In its place another one, which nobody asks for: the size stays the same.
    entries = [entry for entry in pack.entries if entry[0] != digest] + [(b"\xff" * 32, offset, size)]
    pack.write(pack.with_entries(entries))
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
no_metadata(packs[0])
for test in not_packs, lies, damaged, loose, someone_elses:
    test(packs[1])
equal(mounted_files(), [], "files that failed at last")
print(f"{len(packs)} packs, {sum(len(p.entries) for p in packs)} chunks, {len(FILES)} files")
