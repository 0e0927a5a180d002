# SPDX-License-Identifier: GPL-2.0
"""Sound images, each of a kind, which are then damaged."""

import random
import struct

from . import frames
from .message import Data, List, Message, Struct, near, spread
from .schema import BLK, BLOCK, CHR, DIR, FIFO, FILE, LNK, SOCK, SORTED, SPARSE, WHT
from .store import CHUNK, PACK, Pack, sha256

TIME = 1_700_000_000


def text(seed, size):
    """Bytes that compress, some."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randrange(2, 12)) for _ in range(60)]
    out = b""
    while len(out) < size:
        out += rng.choice(words)
    return out[:size]


def noise(seed, size):
    return random.Random(seed).randbytes(size)


class Chunk:
    """A chunk: what is stored, and whether that is compressed."""

    def __init__(self, stored, compressed, size):
        self.stored = stored if isinstance(stored, bytes) else stored.bytes()
        self.compressed, self.size = compressed, size
        self.digest = sha256(self.stored)
        # One object, to which all pointers lead.
        self.data = Data(self.digest, "digest")


def plain(data):
    return Chunk(data, False, len(data))


def zstd(data, pieces=1, **more):
    return Chunk(frames.zstd(data, pieces, **more), True, len(data))


def lz4(data):
    return Chunk(frames.lz4(data), True, len(data))


def extent(chunk, size=None, offset=0, digest=None):
    """A part of a chunk, or without one a hole."""
    if chunk is None:
        return Struct("FileChunk", len=size)
    blob = Struct("BlobRef", digest=digest or chunk.data, offset=offset, compressed=int(chunk.compressed))
    return Struct("FileChunk", len=chunk.size - offset if size is None else size, blob=blob)


def additional(xattrs=(), target=None):
    """Extended attributes, each a name and a value, and a symlink's target."""
    if not xattrs and target is None:
        return None
    made = [Struct("Xattr", key=Data(key, "xattr"), val=Data(value, "value")) for key, value in xattrs]
    return Struct("InodeAdditional", xattrs=List("Xattr", made) if made else None,
                  symlinkTarget=None if target is None else Data(target, "target"))


def inode(ino, mode, member=None, permissions=0o644, xattrs=(), target=None, **more):
    more = {"uid": 1000, "gid": 100, "mtime": TIME + ino % 1000, "mtimeNsec": ino % 1000, "nlink": 1} | more
    return Struct("Inode", ino=ino, mode=mode, member=member, permissions=permissions,
                  additional=additional(xattrs, target), **more)


def file(ino, extents, **more):
    size = sum(e.get("len") for e in extents)
    more = {"size": size} | more
    return inode(ino, FILE, List("FileChunk", extents) if extents else None, **more)


def directory(ino, entries, parent=1, flags=SORTED, entry="DirEntry", **more):
    """Entries are (name, ino), or (name, ino, type) where that is not to be what the inode is."""
    made = [Struct(entry, ino=number, name=Data(name, "name"), **dict(zip(["type"], typed))) for name, number, *typed in entries]
    more = {"permissions": 0o755, "nlink": 2, "size": len(made)} | more
    if entry == "DirEntry":
        for item, (_, _, *typed) in zip(made, entries):
            item.is_typed = bool(typed)
    return inode(ino, DIR, Struct("Dir", flags=flags, entries=List(entry, made)), parent=parent, **more)


def typed(layers):
    """Has the entries of all directories say what their inodes are, but for those that say something already."""
    types = {}
    for one in (one for layer in layers for one in layer):
        types.setdefault(one.get("ino"), one.get("mode"))
    for one in (one for layer in layers for one in layer):
        member = one.get("member")
        entries = member and member.kind == "Dir" and member.get("entries")
        for entry in entries.items if entries and entries.kind == "DirEntry" else ():
            if not entry.is_typed and types.get(entry.get("ino"), WHT) in range(FIFO, WHT):
                entry.set("type", types[entry.get("ino")])


def device(major, minor):
    return Struct("Device", major=major, minor=minor)


def rootfs(layers, version=3, verity=(), types=None, **more):
    """`layers` are lists of inodes. Entries say what is in `types` of them, or in all."""
    typed(layers if types is None else types)
    made = [Struct("InodeVector", inodes=List("Inode", inodes)) for inodes in layers]
    data = [Struct("VerityData", digest=chunk.data, verity=Data(digest, "verity")) for chunk, digest in verity]
    return Struct("Rootfs", manifestVersion=version, metadatas=List("InodeVector", made),
                  fsVerityData=List("VerityData", data) if data else None, **more)


class Base:
    """A sound image: its message, laid out, and the chunks that it needs. `form` is how these are stored:
    loose, or in packs of so many."""

    def __init__(self, name, root, chunks, place=near, packs=0):
        self.name, self.message = name, Message(root, place)
        self.chunks, self.packs = chunks, packs

    def layers(self, corpus):
        """Stores the chunks; what the manifest lists for them."""
        if not self.packs:
            for chunk in self.chunks:
                corpus.add(chunk.stored)
            return [(chunk.digest, CHUNK + ("+zstd" if chunk.compressed else "")) for chunk in self.chunks]
        return [(corpus.add(Pack([c.stored for c in self.chunks[at::self.packs]]).bytes()), PACK)
                for at in range(self.packs)]

    def wrap(self, message):
        """Of these bytes of a message the Rootfs blob, and what chunks it needs."""
        return message, []

    def image(self, corpus, name, message=None):
        """An image with `message` in place of its own."""
        layers = self.layers(corpus)
        blob, more = self.wrap(self.message.bytes if message is None else message)
        for chunk in more:
            layers.append((corpus.add(chunk.stored), CHUNK))
        corpus.of_message(f"{self.name}:{name}", blob, layers)


class Blocks(Base):
    """The same, the message in blocks (FORMAT.md, 3.5)."""

    def __init__(self, name, root, chunks, copy=None, **more):
        super().__init__(name, root, chunks, **more)
        self.copy = copy

    def wrap(self, message):
        made = [plain(message[at:at + BLOCK]) for at in range(0, len(message), BLOCK)]
        return Message(self.head(made)).bytes, made

    def head(self, blocks, **more):
        version = int.from_bytes(self.message.bytes[self.version_at():][:8], "little")
        more = {"root": self.copy, "manifestVersion": version} | more
        return Struct("Rootfs", blocks=List("FileChunk", [extent(block) for block in blocks]), **more)

    def version_at(self):
        return self.message.field("root.manifestVersion").at


RAW_1, RAW_2 = noise(1, 5000), noise(2, 3000)
TEXT_1, TEXT_2 = text(3, 20000), text(4, 9000)
REPEATED = noise(5, 97) * 60


def everything(version=3):
    """An inode of each type, hard links, shared chunks, extended attributes; its chunks."""
    a, b, z, m = plain(RAW_1), plain(RAW_2), zstd(TEXT_1), zstd(TEXT_2, pieces=3)
    inodes = [
        directory(1, [(b"blk", 10), (b"chr", 9), (b"empty", 8), (b"fifo", 6), (b"file", 2), (b"frames", 5),
                      (b"link", 3), (b"link2", 2), (b"sock", 7), (b"sub", 4), (b"two", 11)],
                  xattrs=[(b"user.root", b"yes")], nlink=3),
        file(2, [extent(z)], xattrs=[(b"user.a", b"1"), (b"security.capability", struct.pack("<IIIII", 0x2000001, 1 << 10, 0, 0, 0)),
                                     (b"trusted.t", b"")], nlink=2),
        inode(3, LNK, target=b"sub/deep", permissions=0o777),
        directory(4, [(b"deep", 13), (b"small", 12)], nlink=2),
        file(5, [extent(m)], permissions=0o4755),
        inode(6, FIFO), inode(7, SOCK), file(8, []),
        inode(9, CHR, device(5, 1)), inode(10, BLK, device(0xFFF, 0xFFFFF), uid=0, gid=0),
        file(11, [extent(a), extent(b), extent(z, 100, 7)], mtime=(1 << 64) - 1000),
        file(12, [extent(z, 500, 12000)]),
        file(13, [extent(b, 1000, 1000)], nlink=0),
    ]
    size = len(TEXT_1) + len(TEXT_2) + len(RAW_1) + len(RAW_2) + 100 + 500 + 1000
    return inodes, [a, b, z, m], {"inodeCount": 13, "dataSize": size, "version": version}


def bases():
    """Sound images, by name."""
    inodes, chunks, more = everything()
    yield Base("all", rootfs([inodes], **more), chunks)
    yield Base("packs", rootfs([inodes], **more), chunks, packs=2)
    yield Base("segments", rootfs([inodes], **more), chunks, place=spread(5))
    yield Base("double", rootfs([inodes], **more), chunks, place=spread(4, double=True))
    yield layered()
    yield sparse()
    yield blocks()


def layered():
    """Three layers, as upstream's delta builds leave them: names that are gone before the others, whiteouts,
    several inodes of one number; and each layer has other inodes than the one below."""
    a, b, c = plain(RAW_1), plain(RAW_2), zstd(TEXT_1)
    oldest = [directory(1, [(b"changed", 2), (b"gone", 3), (b"kept", 4), (b"moved", 5)], flags=0, size=0, entry="OldDirEntry"),
              file(2, [extent(a)]), file(3, [extent(b)]), file(4, [extent(c)], size=0), file(5, [extent(b, 10)])]
    middle = [directory(1, [(b"gone", 3), (b"changed", 2), (b"kept", 4), (b"moved", 5), (b"new", 6)], flags=0, size=0, entry="OldDirEntry"),
              file(2, [extent(c, 50)]), inode(3, WHT), file(6, [extent(a, 60, 20)])]
    newest = [directory(1, [(b"moved", 5), (b"gone", 3), (b"again", 5), (b"changed", 2), (b"kept", 4), (b"new", 6)],
                        flags=0, size=0, entry="OldDirEntry"),
              inode(5, WHT), file(5, [extent(b, 10)]), inode(6, FIFO)]
    return Base("layers", rootfs([newest, middle, oldest]), [a, b, c])


def sparse():
    """Version 5: holes and LZ4."""
    a, l = plain(RAW_1), lz4(REPEATED)
    inodes = [directory(1, [(b"hole", 2), (b"lz4", 3), (b"mixed", 4)]),
              file(2, [extent(None, 9000)]), file(3, [extent(l)]),
              file(4, [extent(None, 100), extent(a), extent(None, 70000), extent(l, 300, 30)])]
    return Base("sparse", rootfs([inodes], 5), [a, l])


def blocks():
    """Version 6: two blocks, and a file with a hole that says so."""
    a = plain(RAW_1)
    root = directory(1, [(b"big", 3), (b"file", 2), (b"sub", 4)], nlink=3)
    inodes = [root, file(2, [extent(a), extent(None, 5000)], permissions=0o644 | SPARSE),
              file(3, [extent(a, 77)], xattrs=[(b"user.big", noise(9, 65536))]), directory(4, [])]
    copy = Struct("Inode", **{name: root.get(name) for name in root.names})
    return Blocks("blocks", rootfs([inodes], 6), [a], copy=copy)
