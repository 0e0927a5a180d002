# SPDX-License-Identifier: GPL-2.0
"""Well-formed images of few bytes, each at a limit of the format, that ask for much: time, memory, or both. A Rootfs
in blocks may name one chunk many times, so that 16 bytes of image stand for 64 KiB of message."""

import struct

from . import frames
from .message import Message, Struct
from .model import Blocks, Chunk, directory, extent, file, inode, noise, plain, rootfs, zstd
from .schema import BLOCK, CHUNK, DIR, FILE, LAYERS, SORTED, SPARSE, XATTRS

WORD = 8


def word_list(words, count, step, pointers, body):
    """The words of a composite list: its tag, and `body`."""
    return struct.pack("<II", count << 2, step | pointers << 16) + body


class Tail:
    """A message whose end is one block, again and again: what lies there is a list of `count` elements, all as those
    of that block. `element` is one of them, whose pointers lead to themselves' begin or are null."""

    def __init__(self, head, element, count, words, pointers, fix):
        message = Message(head)
        data = bytearray(message.bytes)
        data += bytes(-len(data) % BLOCK)
        # The list's tag is the last word of a block, so that elements begin with one.
        tag = len(data) + BLOCK - WORD
        per_block = BLOCK // len(element)
        assert BLOCK % len(element) == 0
        data += bytes(BLOCK - WORD) + struct.pack("<II", count << 2, words | pointers << 16)
        fix(message, data, tag, count * len(element) // WORD)
        self.end(data, element * per_block, -(-count // per_block))

    def end(self, data, block, count):
        """Puts `block` behind the data so many times."""
        struct.pack_into("<I", data, 4, (len(data) + count * BLOCK - 8) // WORD)
        self.parts = [zstd(bytes(data[at:at + BLOCK])) for at in range(0, len(data), BLOCK)]
        repeated = zstd(block)
        self.blocks = self.parts + [repeated] * count
        self.chunks = self.parts + [repeated]


class Layers(Tail):
    """A message whose layers, but for the first, begin each at another of the repeated blocks: of each their inodes
    fill a block, and none of them is one that is asked for. Names of the first are in these blocks, too: all in each, and
    each is taken from another."""

    def __init__(self, head, count):
        message = Message(head)
        data = bytearray(message.bytes)
        data += bytes(-len(data) % BLOCK)
        begin, words = len(data), BLOCK // WORD
        # The pointer to a name has the path of the name, and comes before.
        fields = {field.path: field for field in reversed(message.fields)}
        layers = len(head.get("metadatas").items)
        for layer in range(1, layers):
            # The tag is the first word of a block, and an element begins behind that.
            list_pointer(fields, data, f"root.metadatas[{layer}].inodes", begin + layer * BLOCK, count * words)
        block = bytearray(BLOCK)
        block[0:8] = struct.pack("<II", count << 2, words)
        block[8:24] = struct.pack("<QHHI", 1 << 40, FILE, 0o644, 0)
        for name in range(count):
            at, word = fields[f"root.metadatas[0].inodes[1].member.entries[{name}].name"].at, 10 + name
            there = begin + name * BLOCK + word * WORD
            struct.pack_into("<II", data, at, ((there - at) // WORD - 1 << 2 | 1) & 0xFFFFFFFF, 2 | 4 << 3)
            block[word * WORD:word * WORD + 4] = b"%04d" % name
        self.end(data, bytes(block), layers + count)


def list_pointer(fields, data, path, tag, words):
    at = fields[path].at
    offset = (tag - at) // WORD - 1
    struct.pack_into("<II", data, at, (offset << 2 | 1) & 0xFFFFFFFF, 7 | words << 3)


def store(corpus, name, tail, root, extra=()):
    base = Blocks("heavy", rootfs([[directory(1, [])]], 6), [])
    copy = Struct("Inode", **{field: root.get(field) for field in root.names})
    head = Message(base.head(tail.blocks, root=copy, manifestVersion=6)).bytes
    layers = [(corpus.add(chunk.stored), "application/vnd.puzzlefs.image.filedata.v1+zstd") for chunk in tail.chunks]
    layers += [(corpus.add(chunk.stored), "application/vnd.puzzlefs.image.filedata.v1") for chunk in extra]
    corpus.of_message(f"heavy:{name}", head, layers)


def directory_of(corpus, name, count, flags):
    """A directory of many entries without names that are there: each is of an inode that is gone, and of a name that
    lies in the element itself."""
    root = directory(1, [(b"d", 2)])
    d = inode(2, DIR, Struct("Dir", flags=flags), size=min(count, 1 << 24))

    def fix(message, data, tag, words):
        list_pointer({field.path: field for field in message.fields}, data, "root.metadatas[0].inodes[1].member.entries", tag, words)
    # An entry of 8 words: ino, no type, the name, and behind four words of nothing the pointer to it, back by five words.
    entry = struct.pack("<QQ", 99, 0) + b"a-name\0\0" + bytes(32) + struct.pack("<II", ((-6 & 0x3FFFFFFF) << 2 | 1), 2 | 6 << 3)
    store(corpus, name, Tail(rootfs([[root, d]], 6), entry, count, 7, 1, fix), root)


def layers_of(corpus, name, count, layers):
    """A directory of many names of inodes that are in none of many layers."""
    root = directory(1, [(b"d", 2)])
    d = directory(2, [(b"%04d" % number, 1000 + number) for number in range(count)])
    store(corpus, name, Layers(rootfs([[root, d], *([] for _ in range(layers - 1))], 6), count), root)


def extents_of(corpus, name, count, size, holes):
    """A file of many extents: holes, or one byte each of one chunk."""
    chunk = plain(noise(1, 4096))
    root = directory(1, [(b"f", 2)])
    f = inode(2, FILE, None, permissions=0o644 | (SPARSE if holes else 0), size=size)
    if holes:
        element = struct.pack("<QQ", 4096, 0)
        words, pointers = 1, 1
    else:
        # len; blob: a struct 1 word on, in what is data of the element: offset, compressed, digest pointer, digest.
        element = (struct.pack("<Q", 1) + struct.pack("<QQ", 0, 0) + struct.pack("<II", 0 << 2 | 1, 2 | 32 << 3) + chunk.digest
                   + bytes(56) + struct.pack("<II", ((-15 & 0x3FFFFFFF) << 2), 2 | 1 << 16))
        words, pointers = 15, 1

    def fix(message, data, tag, words_):
        list_pointer({field.path: field for field in message.fields}, data, "root.metadatas[0].inodes[1].member", tag, words_)
    store(corpus, name, Tail(rootfs([[root, f]], 6), element, count, words, pointers, fix), root, [chunk])


def xattrs_of(corpus, name):
    """As many names as there may be, each in a block of its own."""
    root = directory(1, [(b"f", 2)])
    f = file(2, [extent(None, 4096)], permissions=0o644 | SPARSE, xattrs=[(b"user.a", b"")])
    element = bytes(WORD) + b"user.ab\0" + bytes(BLOCK - 4 * WORD) + struct.pack(
        "<IIII", ((-(BLOCK // WORD - 1) & 0x3FFFFFFF) << 2 | 1), 2 | 7 << 3, 0, 0)

    def fix(message, data, tag, words):
        list_pointer({field.path: field for field in message.fields}, data, "root.metadatas[0].inodes[1].additional.xattrs", tag, words)
    store(corpus, name, Tail(rootfs([[root, f]], 6), element, XATTRS, BLOCK // WORD - 2, 2, fix), root)


# `make test` takes these only: of those that are alike one.
SAMPLE = ("dir-of-16m,flags=0", "dir-by-256-layers", f"holes={1 << 24},size", f"bytes={1 << 20}", "xattrs", "4k-of-two-largest")


def add(corpus):
    layers_of(corpus, "dir-by-256-layers", 2048, LAYERS)
    for flags in 0, SORTED:
        directory_of(corpus, f"dir-of-16m,flags={flags}", 1 << 24, flags)
        directory_of(corpus, f"dir-of-1m,flags={flags}", 1 << 20, flags)
    for count in 1 << 20, 1 << 24:
        extents_of(corpus, f"holes={count}", count, 0, True)
        extents_of(corpus, f"holes={count},size", count, 4096 * count, True)
    extents_of(corpus, f"bytes={1 << 20}", 1 << 20, 1 << 20, False)
    # The most that fits into a message of 2 GiB.
    extents_of(corpus, f"bytes={1 << 23}", 1 << 23, 1 << 23, False)
    extents_of(corpus, f"bytes={1 << 20},size=0", 1 << 20, 0, False)
    xattrs_of(corpus, "xattrs")
    big = [Chunk(frames.chunk([(frames.rle(65 + n, CHUNK), CHUNK)]), True, CHUNK) for n in range(2)]
    two = file(2, [extent(big[0], 2048, CHUNK - 2048), extent(big[1], 2048, CHUNK - 2048)])
    corpus.of_message("heavy:4k-of-two-largest", Message(rootfs([[directory(1, [(b"f", 2)]), two]])).bytes,
                      [(corpus.add(chunk.stored), "application/vnd.puzzlefs.image.filedata.v1+zstd") for chunk in big])
