# SPDX-License-Identifier: GPL-2.0
"""Compressed chunks by hand: zstd frames (RFC 8878) with a seek table, and LZ4 frames, in parts that
have names. libzstd makes those whose blocks are really compressed."""

import ctypes
import struct

ZSTD_MAGIC, SKIPPABLE, SEEKABLE, LZ4_MAGIC = 0xFD2FB528, 0x184D2A5E, 0x8F92EAB1, 0x184D2204
RAW, RLE, COMPRESSED, RESERVED = range(4)
BLOCK_MAX = 128 << 10
_zstd = ctypes.CDLL("libzstd.so.1")
_zstd.ZSTD_createCCtx.restype = ctypes.c_void_p
_zstd.ZSTD_compress2.restype = _zstd.ZSTD_compressBound.restype = ctypes.c_size_t
_zstd.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
_zstd.ZSTD_freeCCtx.argtypes = [ctypes.c_void_p]
_zstd.ZSTD_CCtx_setParameter.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
_zstd.ZSTD_compress2.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
LEVEL, WINDOW_LOG, CONTENT_SIZE, CHECKSUM = 100, 101, 200, 201


class Parts:
    """Bytes in parts that have names."""

    def __init__(self, parts):
        self.parts = [(name, bytes(data)) for name, data in parts]

    def bytes(self):
        return b"".join(data for _, data in self.parts)

    def __len__(self):
        return len(self.bytes())

    def get(self, name):
        return dict(self.parts)[name]

    def put(self, name, data):
        """The same with other bytes there."""
        return Parts([(n, data if n == name else d) for n, d in self.parts])

    def prefixed(self, prefix):
        return [(f"{prefix}.{name}", data) for name, data in self.parts]


def block(number, kind, size, content, last):
    header = (int(last) | kind << 1 | size << 3).to_bytes(4, "little")[:3]
    return [(f"block[{number}].header", header), (f"block[{number}].content", content)]


def window_byte(size):
    """The smallest window of `size` bytes or more, a power of two from 1 KiB on."""
    log = max((size - 1).bit_length(), 10)
    return bytes([(log - 10) << 3])


def frame(blocks, size, window=None, content_size=True):
    """A frame of `blocks`, each (kind, size in its header, content). Without a window it is of a single
    segment. `size` is what its header says to come out."""
    head = 0
    fcs = b""
    if window is None:
        head |= 1 << 5
    if content_size:
        head, fcs = head | 2 << 6, struct.pack("<I", size)
        if size >= 1 << 32:
            head, fcs = head | 3 << 6, struct.pack("<Q", size)
    parts = [("magic", struct.pack("<I", ZSTD_MAGIC)), ("head", bytes([head])),
             ("window", b"" if window is None else window_byte(window)), ("content", fcs)]
    for number, (kind, length, content) in enumerate(blocks):
        parts += block(number, kind, length, content, number == len(blocks) - 1)
    return Parts(parts)


def raw(data, size=BLOCK_MAX, **more):
    """A frame of blocks that are stored as they are."""
    pieces = [data[at:at + size] for at in range(0, len(data), size)] or [b""]
    return frame([(RAW, len(piece), piece) for piece in pieces], len(data), **more)


def rle(byte, count, size=BLOCK_MAX, **more):
    """`count` times one byte."""
    lengths = [min(size, count - at) for at in range(0, count, size)] or [0]
    return frame([(RLE, length, bytes([byte])) for length in lengths], count, **more)


def real(data, level=3, checksum=False, content_size=True, window_log=0):
    """A frame as libzstd makes it, in the parts of its header, its blocks and its checksum."""
    context = _zstd.ZSTD_createCCtx()
    for name, value in (LEVEL, level), (CHECKSUM, checksum), (CONTENT_SIZE, content_size), (WINDOW_LOG, window_log):
        _zstd.ZSTD_CCtx_setParameter(context, name, int(value))
    out = ctypes.create_string_buffer(_zstd.ZSTD_compressBound(len(data)))
    size = _zstd.ZSTD_compress2(context, out, len(out), data, len(data))
    _zstd.ZSTD_freeCCtx(context)
    return split(out.raw[:size])


def split(data):
    """A frame in its parts."""
    head = data[4]
    single, fcs = head >> 5 & 1, (0, 2, 4, 8)[head >> 6]
    fcs = 1 if single and not fcs else fcs
    at = 5 if single else 6
    parts = [("magic", data[:4]), ("head", data[4:5]), ("window", data[5:at]), ("content", data[at:at + fcs])]
    at, number, last = at + fcs, 0, False
    while not last:
        header = int.from_bytes(data[at:at + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        length = 1 if kind == RLE else size
        parts += [(f"block[{number}].header", data[at:at + 3]), (f"block[{number}].content", data[at + 3:at + 3 + length])]
        at, number = at + 3 + length, number + 1
    return Parts(parts + ([("checksum", data[at:])] if head & 4 else []))


def sequence(literals, offset, match):
    """A compressed block (RFC 8878, 3.1.1.3): literals as they are, then a match `offset` back of 259
    to 514 bytes. The tables are of one symbol each, so all bits are extra ones."""
    assert len(literals) < 16 and 259 <= match < 515
    code = (offset + 3).bit_length() - 1
    bits = f"1{offset + 3 - (1 << code):0{code}b}{match - 259:08b}" if code else f"1{match - 259:08b}"
    stream = int(bits, 2).to_bytes((len(bits) + 7) // 8, "little")
    section = bytes([len(literals) << 3]) + literals
    section += bytes([1, 1 << 6 | 1 << 4 | 1 << 2, len(literals), code, 44]) + stream
    return COMPRESSED, len(section), section


def table(entries, checksums=None, descriptor=None):
    """A seek table: (stored, content) of each frame."""
    width = 12 if checksums else 8
    parts = [("table.magic", struct.pack("<I", SKIPPABLE)),
             ("table.size", struct.pack("<I", len(entries) * width + 9))]
    for number, (stored, size) in enumerate(entries):
        parts += [(f"table.entry[{number}].stored", struct.pack("<I", stored)),
                  (f"table.entry[{number}].size", struct.pack("<I", size))]
        if checksums:
            parts.append((f"table.entry[{number}].checksum", struct.pack("<I", checksums[number])))
    if descriptor is None:
        descriptor = 0x80 if checksums else 0
    return parts + [("table.frames", struct.pack("<I", len(entries))), ("table.descriptor", bytes([descriptor])),
                    ("table.end", struct.pack("<I", SEEKABLE))]


def chunk(frames, **more):
    """A chunk of these (frame, size of its content)."""
    parts = []
    for number, (one, _) in enumerate(frames):
        parts += one.prefixed(f"frame[{number}]")
    return Parts(parts + table([(len(one), size) for one, size in frames], **more))


def zstd(data, pieces=1, **more):
    """A chunk of some real frames of about equal content."""
    step = -(-len(data) // pieces) or 1
    parts = [data[at:at + step] for at in range(0, len(data), step)] or [b""]
    return chunk([(real(part, **more), len(part)) for part in parts])


def length(nibble, value):
    """The bytes behind an LZ4 token, a nibble of which is 15."""
    return b"" if nibble < 15 else b"\xff" * ((value - 15) // 255) + bytes([(value - 15) % 255])


def lz4_sequence(literals, offset, match):
    token = min(len(literals), 15), min(match - 4, 15)
    return (bytes([token[0] << 4 | token[1]]) + length(token[0], len(literals)) + literals
            + struct.pack("<H", offset) + length(token[1], match - 4))


def lz4_last(literals):
    token = min(len(literals), 15)
    return bytes([token << 4]) + length(token, len(literals)) + literals


def lz4_frame(block_, size, flags=0x48, largest=None):
    """The one form of an LZ4 frame that chunks have (FORMAT.md, 4.2)."""
    if largest is None:
        largest = next(code for code, most in ((0x40, 64), (0x50, 256), (0x60, 1024), (0x70, 4096))
                       if size <= most << 10 or code == 0x70)
    return Parts([("magic", struct.pack("<I", LZ4_MAGIC)), ("flags", bytes([flags])), ("largest", bytes([largest])),
                  ("content", struct.pack("<Q", size)), ("checksum", b"\0"),
                  ("block.size", struct.pack("<I", len(block_))), ("block", block_), ("end", bytes(4))])


def lz4(data, unit=97):
    """A chunk of LZ4 of `data`, of which what comes again after `unit` bytes is a match."""
    out, at, literals = b"", 0, b""
    while at < len(data) - 12:
        match = 0
        while at >= unit and at + match < len(data) - 12 and data[at + match] == data[at + match - unit]:
            match += 1
        if match >= 4:
            out, at, literals = out + lz4_sequence(literals, unit, match), at + match, b""
        else:
            literals, at = literals + data[at:at + 1], at + 1
    return lz4_frame(out + lz4_last(literals + data[at:]), len(data))
