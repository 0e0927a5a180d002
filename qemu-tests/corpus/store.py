# SPDX-License-Identifier: GPL-2.0
"""Blobs, packs and manifests: what makes an image of a message and its chunks."""

import hashlib
import json
import struct

ROOTFS = "application/vnd.puzzlefs.image.rootfs.v1"
CHUNK = "application/vnd.puzzlefs.image.filedata.v1"
PACK = "application/vnd.puzzlefs.image.pack.v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"
ENTRY, TRAILER, MAGIC = struct.Struct("<32sII"), struct.Struct("<I4s"), b"PzPk"


def sha256(data):
    return hashlib.sha256(data).digest()


class Image:
    """An image of the corpus: its name, and the digest that it is mounted by."""

    def __init__(self, name, digest):
        self.name, self.digest = name, digest


class Corpus:
    """All blobs, which lie in one layout, and all images."""

    def __init__(self):
        self.blobs, self.images, self.names = {}, [], set()
        # Images of the same bytes are one. Only the manifest counts: it says all the rest.
        self.digests = set()
        self.add(EMPTY)

    def add(self, data):
        """A blob under its true name; returns its digest."""
        digest = sha256(data)
        self.blobs[digest] = data
        return digest

    def lie(self, data, salt=b""):
        """A blob whose name is not that of its bytes."""
        digest = sha256(b"not these bytes" + salt + data)
        self.blobs[digest] = data
        return digest

    def image(self, name, digest):
        """An image that is named by `digest`, which is that of a manifest, unless there is one like it."""
        if digest in self.digests:
            return
        if name in self.names:
            raise ValueError(f"two images are called {name}")
        self.digests.add(digest)
        self.names.add(name)
        self.images.append(Image(name, digest))

    def of_message(self, name, message, layers=()):
        """An image of a Rootfs blob; `layers` are (digest, media type) of what else its manifest lists."""
        rootfs = self.add(message)
        self.image(name, self.add(manifest(self, rootfs, layers)))


def descriptor(media_type, digest, size, **more):
    return {"mediaType": media_type, "digest": f"sha256:{digest.hex()}", "size": size, **more}


def document(corpus, rootfs, layers=()):
    """A manifest as Python has it."""
    def size(digest):
        return len(corpus.blobs.get(digest, b""))
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.puzzlefs.image.v1",
        "config": descriptor("application/vnd.oci.empty.v1+json", sha256(EMPTY), len(EMPTY)),
        "layers": [descriptor(ROOTFS, rootfs, size(rootfs))]
                  + [descriptor(media_type, digest, size(digest)) for digest, media_type in layers],
    }


def manifest(corpus, rootfs, layers=()):
    return json.dumps(document(corpus, rootfs, layers), separators=(",", ":")).encode()


class Pack:
    """A pack in parts: chunks, the entries of its index, its trailer."""

    def __init__(self, chunks):
        self.body, self.entries = b"", []
        for data in chunks:
            self.entries.append([sha256(data), len(self.body), len(data)])
            self.body += data
        self.entries.sort()
        self.count, self.magic = len(self.entries), MAGIC
        self.behind = b""

    def bytes(self):
        index = b"".join(ENTRY.pack(digest, at & 0xFFFFFFFF, size & 0xFFFFFFFF) for digest, at, size in self.entries)
        return self.body + index + TRAILER.pack(self.count & 0xFFFFFFFF, self.magic) + self.behind
