# SPDX-License-Identifier: GPL-2.0
"""The independent reader's chunks: what FORMAT.md, 1.1 and 4, says comes out of them. Blocks of zstd are
libzstd's to decompress; all around them is looked at here.

The answer is (verdict, content): IS, that are the bytes; MAY, those or an error; NOT, an error; ANY, not
said."""

import ctypes
import hashlib
import struct

IS, MAY, NOT, ANY = "is", "may", "not", "any"
LIMIT = 16 << 20
_z = ctypes.CDLL("libzstd.so.1")
_z.ZSTD_decompress.restype = ctypes.c_size_t
_z.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


class Refuse(Exception):
    """A chunk that must be refused."""


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
        return seekable(stored)
    except (Refuse, struct.error, IndexError):
        return NOT, None


def seekable(stored):
    frames, descriptor, magic = struct.unpack("<IBI", stored[-9:])
    if magic != 0x8F92EAB1 or descriptor & 0x7C or frames > 4097:
        raise Refuse
    width = 12 if descriptor & 0x80 else 8
    size = 8 + frames * width + 9
    if size > len(stored) or struct.unpack("<II", stored[-size:][:8]) != (0x184D2A5E, size - 8):
        raise Refuse
    at, out, verdict, parts = 0, 0, IS, []
    for number in range(frames):
        entry = stored[len(stored) - size + 8 + number * width:]
        length, content = struct.unpack("<II", entry[:8])
        if not length:
            raise Refuse
        out += content
        if out > LIMIT or at + length > len(stored) - size:
            raise Refuse
        parts.append((stored[at:at + length], content))
        at += length
    if at != len(stored) - size:
        raise Refuse
    data = []
    for bytes_, content in parts:
        said, piece = frame(bytes_, content)
        data.append(piece)
        verdict = verdict if said == IS else said
    return verdict, b"".join(data)


def frame(data, size):
    """A frame that must be all of `data`, and of which `size` bytes must come out."""
    magic, = struct.unpack_from("<I", data)
    if magic & 0xFFFFFFF0 == 0x184D2A50:
        # "zstd frames (RFC 8878)": skippable ones are called so there, too.
        if struct.unpack_from("<I", data, 4)[0] + 8 != len(data) or size:
            raise Refuse
        return MAY, b""
    if magic != 0xFD2FB528:
        raise Refuse
    head = data[4]
    single, flag = head >> 5 & 1, head >> 6
    if head & 8 or head & 3:  # reserved; a dictionary, even one called 0
        if head & 8 or any(data[5 + (not single):][:(0, 1, 2, 4)[head & 3]]):
            raise Refuse
    dictionary = (0, 1, 2, 4)[head & 3]
    width = (1 if single else 0, 2, 4, 8)[flag]
    at, window = 5, None
    if not single:
        base = 1 << (10 + (data[at] >> 3))
        window, at = base + base // 8 * (data[at] & 7), at + 1
    at += dictionary
    said = int.from_bytes(data[at:at + width], "little") + (256 if width == 2 else 0) if width else None
    if len(data) < at + width:
        raise Refuse
    if said is not None and said != size:
        raise Refuse
    window = said if single else window
    at += width
    if blocks(data, at, head & 4) != len(data):
        raise Refuse
    out = ctypes.create_string_buffer(size + 1)
    got = _z.ZSTD_decompress(out, size, data, len(data))
    if got != size:
        raise Refuse
    verdict = IS
    if dictionary or window > 8 << 20:
        verdict = MAY  # a reader need not have memory for every window
    elif window < size and refers_back(data):
        verdict = MAY
    return verdict, out.raw[:size]


def blocks(data, at, checksum):
    """Where the frame ends whose blocks begin at `at`."""
    last = False
    while not last:
        if at + 3 > len(data):
            raise Refuse
        header = int.from_bytes(data[at:at + 3], "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        if kind == 3:
            raise Refuse
        at += 3 + (1 if kind == 1 else length)
    return at + (4 if checksum else 0)


def refers_back(data):
    """Whether it has compressed blocks: these may refer further back than the window, which libzstd does not
    see. A reader may refuse that, and all readers that do not must have the same bytes."""
    single, at = data[4] >> 5 & 1, 5
    at += (not single) + (0, 1, 2, 4)[data[4] & 3] + (1 if single and not data[4] >> 6 else (0, 2, 4, 8)[data[4] >> 6])
    last = False
    while not last:
        header = int.from_bytes(data[at:at + 3], "little")
        last, kind = header & 1, header >> 1 & 3
        if kind == 2:
            return True
        at += 3 + (1 if kind == 1 else header >> 3)
    return False


def lz4(stored):
    flags, largest, size, _, length = struct.unpack_from("<BBQBI", stored, 4)
    most = {0x40: 64 << 10, 0x50: 256 << 10, 0x60: 1 << 20, 0x70: 4 << 20}.get(largest, 0)
    if flags not in (0x48, 0x68) or not 0 < size <= most or not 0 < length < 1 << 31:
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
        if offset == 0:
            return ANY, None  # invalid, and taken by decoders
        if offset > len(out) or len(out) + match > size:
            raise Refuse
        whole, rest = divmod(match, offset)
        piece = bytes(out[len(out) - offset:])
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
