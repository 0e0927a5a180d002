# SPDX-License-Identifier: GPL-2.0
"""What is done to chunks: each part of zstd frames, their seek table and LZ4 frames, bombs, frames that
refer further back than they may, and sizes that are not those of the content."""

import struct

from . import frames
from .frames import COMPRESSED, RAW, RESERVED, RLE, Parts, chunk, frame, real, rle, sequence
from .message import Data
from .model import Base, Chunk, directory, extent, file, noise, rootfs, text
from .schema import CHUNK, FRAMES

KIB, MIB = 1 << 10, 1 << 20
TEXT = text(21, 24000)


def image(corpus, name, stored, size, compressed=True, version=3, packs=0, parts=((7, 100),)):
    """An image with a file of the whole chunk, one of all but its begin, and others of parts of it."""
    one = Chunk(stored, compressed, size)
    inodes = [directory(1, [(b"rest", 3), (b"whole", 2), *((b"%03d" % n, 4 + n) for n in range(len(parts)))], flags=0),
              file(2, [extent(one, size)]), file(3, [extent(one, size - 1, 1)] if size > 1 else [])]
    inodes += [file(4 + n, [extent(one, length, at)]) for n, (at, length) in enumerate(parts)]
    Base("chunk", rootfs([inodes], version), [one], packs=packs).image(corpus, name)


def changed(parts):
    """Each part in other ways: (label, chunk)."""
    for name, data in parts.parts:
        number, width = int.from_bytes(data, "little"), len(data)
        if name.endswith("content") and "block" in name or name == "block":
            for at in sorted({0, width // 3, width - 1}) if width else ():
                yield f"{name}[{at}]", parts.put(name, data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:])
            yield f"{name}-short", parts.put(name, data[:-1])
            yield f"{name}-long", parts.put(name, data + b"\0")
            continue
        top = 1 << 8 * width
        values = {0, 1, number - 1, number + 1, number ^ 1, number ^ 2, number ^ 4, top - 1, top // 2}
        if width == 1:
            values |= {number ^ 1 << bit for bit in range(8)}
        for value in sorted(values):
            if 0 <= value < top and value != number:
                yield f"{name}={value:#x}", parts.put(name, value.to_bytes(width, "little"))
        if width:
            yield f"{name}-gone", parts.put(name, b"")


def samples():
    """Sound chunks, their content and the version that they need."""
    one = TEXT[:9000]
    yield "real", frames.zstd(one), len(one), 3
    yield "frames", frames.zstd(one, 4), len(one), 3
    yield "checksum", frames.zstd(one, 2, checksum=True), len(one), 3
    yield "no-size", frames.zstd(one, 2, content_size=False), len(one), 3
    yield "raw", chunk([(frames.raw(one, 4000), len(one))]), len(one), 3
    yield "window", chunk([(frames.raw(one, 4000, window=16 * KIB), len(one))]), len(one), 3
    yield "rle", chunk([(rle(0x41, 9000, 5000), 9000)]), 9000, 3
    yield "sums", chunk([(real(one), len(one))], checksums=[0x12345678]), len(one), 3
    yield "lz4", frames.lz4(noise(22, 97) * 90), 97 * 90, 5
    yield "lz4-independent", frames.lz4_frame(frames.lz4_last(one), len(one), flags=0x68), len(one), 5


def sizes():
    """Chunks the content of which is not as long as something says: (name, chunk, size for the file)."""
    one = TEXT[:9000]
    half = one[:4500]
    for more in -9000, -1, 1, 4096:
        yield f"file{more:+}", frames.zstd(one), 9000 + more
        yield f"table{more:+}", chunk([(real(one), 9000 + more)]), 9000 + max(more, 0)
    yield "table-of-two", chunk([(real(half), 9000), (real(half), 0)]), 9000
    yield "header-short", chunk([(frame([(RAW, 4500, half), (RAW, 4500, half)], 4500), 9000)]), 9000
    yield "header-long", chunk([(frame([(RAW, 4500, half)], 9000), 4500)]), 4500
    yield "header-long-both", chunk([(frame([(RAW, 4500, half)], 9000), 9000)]), 9000
    yield "two-frames-in-one", chunk([(Parts(real(half).prefixed("a") + real(half).prefixed("b")), 9000)]), 9000
    yield "junk-behind", chunk([(Parts([("f", real(one).bytes()), ("junk", b"\0junk")]), 9000)]), 9000
    yield "empty-frame-last", chunk([(real(one), 9000), (real(b""), 0)]), 9000
    yield "empty-frame-first", chunk([(real(b""), 0), (real(one), 9000)]), 9000
    yield "skippable", chunk([(Parts([("s", struct.pack("<II", 0x184D2A50, 5) + b"skip!")]), 0), (real(one), 9000)]), 9000
    yield "no-frames", chunk([]), 0
    yield "not-last-block", chunk([(Parts(real(one).parts[:4] + [("b", b"\x40\0\0" + b"8bytes!!")]), 8)]), 8
    lost = real(one, checksum=True)
    for bytes_ in 1, 4:
        yield f"checksum-cut-{bytes_}", chunk([(Parts([("f", lost.bytes()[:-bytes_])]), 9000)]), 9000
    yield "checksum-wrong", chunk([(lost.put("checksum", b"sum!"), 9000)]), 9000
    blocks = [(RAW, 1000, one[:1000])] * 9
    yield "trailing-block", chunk([(frame(blocks + [(RAW, 1000, b"x" * 1000)], 9000), 9000)]), 9000
    yield "missing-block", chunk([(frame(blocks[:8], 9000), 9000)]), 9000
    yield "reserved-block", chunk([(frame(blocks[:8] + [(RESERVED, 1000, one[:1000])], 9000), 9000)]), 9000
    yield "block-over-window", chunk([(frame([(RAW, 9000, one)], 9000, window=KIB), 9000)]), 9000
    yield "compressed-empty", chunk([(frame(blocks[:8] + [(COMPRESSED, 0, b"")], 8000), 8000)]), 8000
    yield "block-over-128k", chunk([(frame([(RAW, 150000, noise(23, 150000))], 150000), 150000)]), 150000


def back():
    """Frames with matches: within the window, at its edge, behind it, before the begin; and whether the
    header says how long the content is."""
    for window in KIB, 4 * KIB, 64 * KIB:
        data = text(24, 3 * window if window < 64 * KIB else 8 * KIB)
        step = min(window, 4 * KIB)
        literals = [(RAW, len(data[at:at + step]), data[at:at + step]) for at in range(0, len(data), step)]
        for offset in sorted({1, window - 500, window, window + 1, len(data) - 500, len(data) + 3, len(data) + 4, 1 << 20}):
            if offset < 1:
                continue
            size = len(data) + 3 + 396
            for content_size in True, False:
                made = frame(literals + [sequence(b"abc", offset, 396)], size, window=window, content_size=content_size)
                yield f"window={window},back={offset},size={content_size}", chunk([(made, size)]), size


def bombs():
    """A lot of content of few bytes, up to the limit and over it."""
    for size in MIB, CHUNK, CHUNK + 1, 2 * CHUNK:
        yield f"rle-{size}", chunk([(rle(0, size), size)]), size, 3
        yield f"rle-window-{size}", chunk([(rle(0, size, window=128 * KIB), size)]), size, 3
    yield "rle-says-little", chunk([(rle(0, CHUNK), 4096)]), 4096, 3
    yield "rle-frames", chunk([(rle(65 + n % 26, 4096), 4096) for n in range(FRAMES - 1)]), CHUNK, 3
    yield "frames-limit", chunk([(rle(65 + n % 26, 64), 64) for n in range(FRAMES)]), 64 * FRAMES, 3
    yield "frames-over", chunk([(rle(65 + n % 26, 64), 64) for n in range(FRAMES + 1)]), 64 * (FRAMES + 1), 3
    yield "frames-empty", chunk([(real(b""), 0)] * (FRAMES - 1) + [(real(TEXT), len(TEXT))]), len(TEXT), 3
    tiny = [(RLE, 1, b"A")] * 20000
    yield "tiny-blocks", chunk([(frame(tiny, 20000), 20000)]), 20000, 3
    yield "empty-blocks", chunk([(frame([(RAW, 0, b"")] * 30000 + [(RAW, 5, b"bytes")], 5), 5)]), 5, 3
    for size in MIB, CHUNK, CHUNK + 1, 4 * MIB, 4 * MIB + 1:
        body = frames.lz4_sequence(b"A", 1, size - 1 - 12) + frames.lz4_last(b"123456789012")
        yield f"lz4-{size}", frames.lz4_frame(body, size), size, 5


def lz4s():
    """LZ4 blocks: matches at each kind of distance, ends that are none, content of another size."""
    tail = frames.lz4_last(b"the last literals")

    def made(offset, match=300, literals=b"0123456789" * 7, behind=tail, more=0):
        body = frames.lz4_sequence(literals, offset, match) + behind
        size = len(literals) + match + (17 if behind == tail else 0) + more
        return frames.lz4_frame(body, size), size
    for offset in 0, 1, 69, 70, 71, 65535:
        yield f"back={offset}", *made(offset)
    for more in -1, 1, 5000:
        yield f"size{more:+}", *made(70, more=more)
    yield "no-literals", *made(70, behind=b"")
    yield "ends-in-token", *made(70, behind=b"\xf0")
    yield "ends-in-length", *made(70, behind=b"\xf0" + b"\xff" * 50)
    yield "long-length", *made(70, behind=b"\xf0" + b"\xff" * 60000 + b"\1")
    yield "ends-in-match", *made(70, behind=b"\x10A\1")
    for size in 65536, 65537:
        yield f"of-64k={size}", frames.lz4_frame(frames.lz4_last(b"x" * size), size, largest=0x40), size
    good, size = made(70)
    yield "uncompressed", good.put("block.size", struct.pack("<I", len(good.get("block")) | 1 << 31)), size
    yield "two-blocks", good.put("end", struct.pack("<I", 5) + b"\x40more" + bytes(4)), size
    yield "behind", good.put("end", bytes(5)), size
    yield "no-end", good.put("end", b""), size


def add(corpus, wanted):
    """All of them; `wanted` says how many damages of one part are enough."""
    for name, parts, size, version in samples():
        image(corpus, f"{name}=sound", parts, size, version=version)
        for label, made in wanted(changed(parts)):
            image(corpus, f"{name}.{label}", made, size, version=version)
    for name, parts, size in [*sizes(), *back()]:
        for packs in 0, 1:
            image(corpus, f"{name}{',packed' * packs}", parts, max(size, 0), packs=packs)
    for name, parts, size, version in bombs():
        image(corpus, name, parts, size, version=version, parts=((size // 2, 100), (max(size - 5, 0), 5)))
    for name, parts, size in lz4s():
        image(corpus, f"lz4-{name}", parts, size, version=5)
        image(corpus, f"lz4-{name},packed", parts, size, version=5, packs=1)
    one = frames.zstd(TEXT)
    image(corpus, "raw-as-zstd", TEXT, len(TEXT))
    image(corpus, "zstd-as-raw", one, len(one), compressed=False)
    image(corpus, "lz4-in-version-3", frames.lz4(noise(22, 97) * 90), 97 * 90, version=3)
    image(corpus, "lz4-in-version-4", frames.lz4(noise(22, 97) * 90), 97 * 90, version=4)
    image(corpus, "stored=limit", noise(25, 64 * KIB) * (CHUNK // (64 * KIB)), CHUNK, compressed=False)
    image(corpus, "stored=limit+1", noise(25, 64 * KIB) * (CHUNK // (64 * KIB)) + b"!", CHUNK, compressed=False)
    image(corpus, "none", b"", 0, compressed=False)
    digests(corpus)


def digests(corpus):
    """Digests of other lengths than theirs, of chunks that are not there or are others."""
    data = TEXT[:5000]
    for length in 0, 1, 31, 33, 64:
        one = Chunk(data, False, len(data))
        one.data = Data((one.digest * 2)[:length], "digest")
        inodes = [directory(1, [(b"file", 2)]), file(2, [extent(one)])]
        Base("chunk", rootfs([inodes]), [one]).image(corpus, f"digest-of-{length}")
    for packs in 0, 1:
        for name in "lies", "is-gone":
            one = Chunk(data + b"%d" % packs, False, len(data) + 1)
            if name == "lies":
                one.digest = corpus.lie(one.stored, b"%d" % packs)
            else:
                one.digest = bytes(reversed(one.digest))
            one.data = Data(one.digest, "digest")
            inodes = [directory(1, [(b"file", 2)]), file(2, [extent(one)])]
            # The one in the pack is found there by its true digest only.
            Base("chunk", rootfs([inodes]), [one] if packs else [], packs=packs).image(corpus, f"{name},packs={packs}")
