# SPDX-License-Identifier: GPL-2.0
"""The independent reader's chunks: what FORMAT.md, 1.1 and 4, says comes out of them.

The answer is (verdict, content): IS, that are the bytes; MAY, those or an error; NOT, an error, but for the content
that is given, which may be used; ANY, not said."""

import hashlib
import struct

from .readzstd import LIMIT, Refuse, seekable

IS, MAY, NOT, ANY = "is", "may", "not", "any"


def decode(stored, compressed, version):
    """What comes out of a chunk as stored."""
    if len(stored) > LIMIT:
        return NOT, None
    if not compressed:
        return IS, stored
    try:
        if stored[:4] == b"\x04\x22\x4d\x18":
            if version < 5:
                return NOT, None
            return lz4(stored)
        content, whole = seekable(stored)
        return IS if whole else NOT, content
    except (Refuse, struct.error, IndexError):
        return NOT, None


def lz4(stored):
    flags, largest, size, _, length = struct.unpack_from("<BBQBI", stored, 4)
    most = {0x40: 64 << 10, 0x50: 256 << 10, 0x60: 1 << 20, 0x70: 4 << 20}.get(largest, 0)
    if flags not in (0x48, 0x68) or not 0 < size <= min(most, LIMIT) or not 0 < length < 1 << 31:
        raise Refuse
    if len(stored) != 19 + length + 4 or stored[-4:] != bytes(4):
        raise Refuse
    return lz4_block(stored[19:-4], size)


def lz4_block(block, size):
    """doc/lz4_Block_format.md. Where a block breaks a rule that decoders need not see, the verdict is MAY."""
    out, at, verdict, match_end = bytearray(), 0, IS, 0
    while True:
        token, at = block[at], at + 1
        literals, at = extended(block, at, token >> 4)
        if at + literals > len(block) or len(out) + literals > size:
            raise Refuse
        out += block[at:at + literals]
        at += literals
        if at == len(block):
            break
        offset, at = int.from_bytes(block[at:at + 2], "little"), at + 2
        if at > len(block):
            raise Refuse
        match, at = extended(block, at, token & 15)
        match += 4
        if offset > len(out) or len(out) + match > size:
            raise Refuse
        piece = bytes(out[len(out) - offset:]) if offset else b"\0"
        whole, rest = divmod(match, len(piece))
        out += piece * whole + piece[:rest]
        match_end = len(out)
        if at >= len(block):
            raise Refuse
    if len(out) != size:
        raise Refuse
    # The last five bytes are literals, and the last match begins twelve bytes before the end.
    if match_end and len(out) - match_end < 12:
        verdict = MAY
    return verdict, bytes(out)


def extended(block, at, value):
    if value == 15:
        byte = 255
        while byte == 255:
            byte, at = block[at], at + 1
            value += byte
    return value, at


class Places:
    """Where the chunks of an image are: in the packs of its manifest, and loose."""

    def __init__(self, blobs, packs):
        self.blobs, self.packs = blobs, [self._index(blobs.get(digest)) for digest in packs]
        self.known = {}

    @staticmethod
    def _index(pack):
        """(entries, whether they are in order) of a pack; None if it is none."""
        if pack is None or len(pack) < 8 or pack[-4:] != b"PzPk":
            return None
        count, = struct.unpack("<I", pack[-8:-4])
        begin = len(pack) - 8 - 40 * count
        if count > 1 << 18 or begin < 0:
            return None
        entries = [struct.unpack_from("<32sII", pack, begin + 40 * n) for n in range(count)]
        keys = [digest for digest, _, _ in entries]
        found = {}
        for digest, at, size in entries:
            sound = size and size <= LIMIT and at + size <= begin
            found.setdefault(digest, []).append(pack[at:at + size] if sound else None)
        return found, all(a < b for a, b in zip(keys, keys[1:]))

    def stored(self, digest):
        """The bytes of a chunk: IS, MAY (an index that is not in order has them) or NOT."""
        if digest not in self.known:
            self.known[digest] = self._stored(digest)
        return self.known[digest]

    def _stored(self, digest):
        loose = self.blobs.get(digest)
        if loose is not None and hashlib.sha256(loose).digest() == digest:
            return IS, loose
        best = NOT, None
        for index in self.packs:
            for bytes_ in index[0].get(digest, ()) if index else ():
                if bytes_ is not None and hashlib.sha256(bytes_).digest() == digest:
                    if index[1]:
                        return IS, bytes_
                    best = MAY, bytes_
        return best

    def content(self, digest, compressed, version):
        key = digest, compressed
        if key not in self.known:
            verdict, stored = self.stored(digest)
            said, data = (NOT, None) if verdict == NOT else decode(stored, compressed, version)
            self.known[key] = (MAY if said == IS and verdict == MAY else said), data
        return self.known[key]
