# SPDX-License-Identifier: GPL-2.0
"""The independent reader's zstd: FORMAT.md, 4.1. Compressed blocks are libzstd's to decompress; all around them is
looked at here."""

import ctypes
import struct

from .schema import CHUNK as LIMIT
from .schema import FRAMES

BLOCK_MAX = 128 << 10
RLE, COMPRESSED, RESERVED = 1, 2, 3
EMPTY_SUM = 0x51D8E999
_z = ctypes.CDLL("libzstd.so.1")
_z.ZSTD_decompress.restype = ctypes.c_size_t
_z.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


class Refuse(Exception):
    """A chunk that must be refused."""


def seekable(stored):
    """What comes out of a chunk, and whether that is all: what is behind a damaged block must not be used."""
    frames, descriptor, magic = struct.unpack("<IBI", stored[-9:])
    if magic != 0x8F92EAB1 or descriptor & 0x7C or frames > FRAMES:
        raise Refuse
    width = 12 if descriptor & 0x80 else 8
    size = 8 + frames * width + 9
    if size > len(stored) or struct.unpack("<II", stored[-size:][:8]) != (0x184D2A5E, size - 8):
        raise Refuse
    at, out, found = 0, 0, []
    for number in range(frames):
        entry = stored[len(stored) - size + 8 + number * width:]
        length, content = struct.unpack("<II", entry[:8])
        out += content
        if not length or out > LIMIT or at + length > len(stored) - size:
            raise Refuse
        found.append(Frame(stored[at:at + length], content))
        at += length
    if at != len(stored) - size:
        raise Refuse
    data = b""
    for frame in found:
        content, whole = frame.decode()
        data += content
        if not whole:
            return data, False
    return data, True


class Frame:
    """A frame that must be all of `data`, and of which `size` bytes must come out. Raises Refuse for all that is
    wrong around its compressed blocks."""

    def __init__(self, data, size):
        self.size = size
        if data[:4] != b"\x28\xb5\x2f\xfd":
            raise Refuse
        head = data[4]
        if head & 8 or head & 3:
            raise Refuse
        single, width, at = head >> 5 & 1, (0, 2, 4, 8)[head >> 6], 5
        if not single:
            base = 1 << (10 + (data[at] >> 3))
            self.window, at = base + base // 8 * (data[at] & 7), at + 1
        elif not width:
            width = 1
        if len(data) < at + width:
            raise Refuse
        if width:
            said = int.from_bytes(data[at:at + width], "little") + (256 if width == 2 else 0)
            if said != size:
                raise Refuse
        if single:
            self.window = size
        if self.window >= 1 << 32:
            raise Refuse
        self.checksum = bool(head & 4)
        self.blocks = list(self._blocks(data, at + width))
        self._adds_up()

    def _blocks(self, data, at):
        """(kind, size, bytes)."""
        last = False
        while not last:
            header = int.from_bytes(data[at:at + 3], "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            stored = 1 if kind == RLE else size
            if at + 3 + stored > len(data) or kind == RESERVED or size > min(self.window, BLOCK_MAX):
                raise Refuse
            if kind == COMPRESSED and size < 2:
                raise Refuse
            yield kind, size, data[at + 3:at + 3 + stored]
            at += 3 + stored
        self.sum = data[at:]
        if len(self.sum) != (4 if self.checksum else 0):
            raise Refuse

    def _adds_up(self):
        compressed = sum(kind == COMPRESSED for kind, _, _ in self.blocks)
        known = sum(size for kind, size, _ in self.blocks if kind != COMPRESSED)
        if not known <= self.size <= known + compressed * min(self.window, BLOCK_MAX):
            raise Refuse
        if not self.size and (compressed or self.checksum and int.from_bytes(self.sum, "little") != EMPTY_SUM):
            raise Refuse

    def decode(self):
        """What comes out, and whether that is all."""
        data = self._first(len(self.blocks), self.checksum)
        if data is not None and len(data) == self.size:
            return data, True
        if self.checksum:
            return b"", False
        # The most blocks of which something comes out.
        good, bad = 0, len(self.blocks) + 1
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (good, middle) if self._first(middle, False) is None else (middle, bad)
        return (self._first(good, False) if good else b""), False

    def _first(self, count, checksum):
        """What comes out of so many blocks; None if one is damaged, or if that is more than there may be. The window is
        as large as the content: a match may reach back to its begin."""
        least = max(self.size, min(self.window, BLOCK_MAX), 1 << 10)
        head = bytes([4 if checksum else 0, ((least - 1).bit_length() - 10) << 3])
        parts = [b"\x28\xb5\x2f\xfd", head]
        for number, (kind, size, data) in enumerate(self.blocks[:count]):
            parts += [(int(number == count - 1) | kind << 1 | size << 3).to_bytes(3, "little"), data]
        made = b"".join(parts) + (self.sum if checksum else b"")
        out = ctypes.create_string_buffer(self.size + 1)
        got = _z.ZSTD_decompress(out, self.size, made, len(made))
        return out.raw[:got] if got <= self.size else None
