# SPDX-License-Identifier: GPL-2.0
"""Writes images whose Rootfs is in blocks, word by word: few chunks may be blocks of it many times."""

import hashlib
import json
import struct

BLOCK, WORDS = 65536, 8192
LAYOUT = "/tmp/oci"


def store(data):
    """Adds a blob; its digest."""
    name = hashlib.sha256(data).digest()
    with open(f"{LAYOUT}/blobs/sha256/{name.hex()}", "wb") as f:
        f.write(data)
    return name


class Words(bytearray):
    """A segment that is written by words; positions are in words."""

    def put(self, at, data):
        self.extend(bytes(max(0, (at + (len(data) + 7) // 8) * 8 - len(self))))
        self[at * 8:at * 8 + len(data)] = data

    def structure(self, at, target, data, pointers):
        self.put(at, struct.pack("<iHH", target - at - 1 << 2, data, pointers))

    def list(self, at, tag, count, data, pointers):
        """A composite list whose tag is at `tag`."""
        words = count * (data + pointers)
        self.put(at, struct.pack("<iI", (tag - at - 1) << 2 | 1, words << 3 | 7))
        self.put(tag, struct.pack("<IHH", count << 2, data, pointers))

    def data(self, at, target, length):
        self.put(at, struct.pack("<iI", (target - at - 1) << 2 | 1, length << 3 | 2))


def image(kinds, order):
    """The digest of a manifest: of a Rootfs whose message is in `kinds`, chunks that are stored raw in a pack, one
    after another by `order`."""
    w = Words()
    w.structure(0, 1, 1, 3)
    w.put(1, struct.pack("<Q", 6))
    tag = 5
    w.list(4, tag, len(order), 1, 1)
    refs = tag + 1 + 2 * len(order)
    pack, entries = b"", {}
    for index, kind in enumerate(kinds):
        at, digest = refs + 7 * index, hashlib.sha256(kind).digest()
        w.put(at, struct.pack("<QQ", 0, 0))
        w.data(at + 2, at + 3, 32)
        w.put(at + 3, digest)
        if digest not in entries:
            entries[digest] = struct.pack("<II", len(pack), len(kind))
            pack += kind
    for index, kind in enumerate(order):
        at = tag + 1 + 2 * index
        w.put(at, struct.pack("<Q", BLOCK))
        w.structure(at + 1, refs + 7 * kind, 2, 1)
    rootfs = struct.pack("<II", 0, len(w) // 8) + bytes(w)
    pack += b"".join(digest + place for digest, place in sorted(entries.items()))
    pack += struct.pack("<I", len(entries)) + b"PzPk"
    print(f"{len(rootfs) + len(pack)} bytes of image stand for {len(order) * BLOCK >> 20} MiB of metadata")
    kinds = ("rootfs", rootfs), ("pack", pack)
    layers = [{"mediaType": f"application/vnd.puzzlefs.image.{kind}.v1", "digest": f"sha256:{store(data).hex()}",
               "size": len(data)} for kind, data in kinds]
    return store(json.dumps({"schemaVersion": 2, "layers": layers}).encode()).hex()
