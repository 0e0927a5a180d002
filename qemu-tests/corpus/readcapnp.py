# SPDX-License-Identifier: GPL-2.0
"""The independent reader's Cap'n Proto: https://capnproto.org/encoding.html and FORMAT.md, 3.1, and nothing
that the writer knows."""


class Bad(Exception):
    """The bytes are not what FORMAT.md asks for."""


class Wire:
    """A message: its segments, in words."""

    def __init__(self, data):
        if len(data) < 4:
            raise Bad("no header")
        count = int.from_bytes(data[:4], "little") + 1
        if count > 512:
            raise Bad("over 512 segments")
        head = -(-(4 + 4 * count) // 8) * 8
        if len(data) < head:
            raise Bad("the header is cut off")
        self.segments, at = [], head
        for number in range(count):
            size = 8 * int.from_bytes(data[4 + 4 * number:8 + 4 * number], "little")
            self.segments.append((at, size))
            at += size
        if at != len(data):
            raise Bad("the segments are not what there is")
        self.data = data

    def word(self, segment, index):
        start, size = self._segment(segment)
        if not 0 <= index < size // 8:
            raise Bad("a word outside of its segment")
        at = start + 8 * index
        return int.from_bytes(self.data[at:at + 8], "little")

    def _segment(self, number):
        if number >= len(self.segments):
            raise Bad("no such segment")
        return self.segments[number]

    def span(self, segment, index, words):
        """That so many words from there on are inside."""
        if index < 0 or index + words > self._segment(segment)[1] // 8:
            raise Bad("an object outside of its segment")

    def bytes(self, segment, index, length):
        self.span(segment, index, -(-length // 8))
        at = self.segments[segment][0] + 8 * index
        return self.data[at:at + length]

    def root(self):
        made = self.follow(0, 0)
        if made is None:
            raise Bad("no root")
        return View.of(self, made)

    def follow(self, segment, index):
        """Where the pointer at this word leads: (word that says what is there, segment, word). None if it is
        null."""
        word = self.word(segment, index)
        if word == 0:
            return None
        if word & 3 != 2:
            return word, segment, index + 1 + signed30(word)
        pad, target = word >> 3 & 0x1FFFFFFF, word >> 32
        inner = self.word(target, pad)
        if not word & 4:
            return inner, target, pad + 1 + signed30(inner)
        if inner & 7 != 2:
            raise Bad("a double-far pointer without a far one")
        tag = self.word(target, pad + 1)
        self._segment(inner >> 32)
        return tag, inner >> 32, inner >> 3 & 0x1FFFFFFF


def signed30(word):
    offset = word >> 2 & 0x3FFFFFFF
    return offset - (1 << 30) if offset >> 29 else offset


class View:
    """A struct. What it does not have is 0 and null."""

    def __init__(self, wire, segment, index, words, pointers):
        self.wire, self.segment, self.index = wire, segment, index
        self.words, self.pointers = words, pointers
        wire.span(segment, index, words + pointers)

    @classmethod
    def of(cls, wire, made):
        word, segment, index = made
        if word & 3:
            raise Bad("not a struct")
        return cls(wire, segment, index, word >> 32 & 0xFFFF, word >> 48)

    def number(self, bit, bits):
        """The number of `bits` bits from bit `bit` of the data on."""
        if bit + bits > 64 * self.words:
            return 0
        return self.wire.word(self.segment, self.index + bit // 64) >> bit % 64 & ((1 << bits) - 1)

    def pointer(self, number):
        if number >= self.pointers:
            return None
        return self.wire.follow(self.segment, self.index + self.words + number)

    def is_null(self, number):
        """Whether a pointer is null, wherever it would lead."""
        return number >= self.pointers or self.wire.word(self.segment, self.index + self.words + number) == 0

    def struct(self, number):
        made = self.pointer(number)
        return None if made is None else View.of(self.wire, made)

    def data(self, number, most):
        """Bytes; none if the pointer is null."""
        made = self.pointer(number)
        if made is None:
            return b""
        word, segment, index = made
        if word & 3 != 1 or word >> 32 & 7 != 2:
            raise Bad("not bytes")
        length = word >> 35
        self.wire.span(segment, index, -(-length // 8))
        if length > most:
            raise Bad(f"over {most} bytes")
        return self.wire.bytes(segment, index, length)

    def list(self, number):
        made = self.pointer(number)
        if made is None:
            return Views(self.wire, 0, 0, 0, 0, 0)
        word, segment, index = made
        if word & 3 != 1 or word >> 32 & 7 != 7:
            raise Bad("not a list of structs")
        tag, announced = self.wire.word(segment, index), word >> 35
        if tag & 3:
            raise Bad("a tag that is none")
        self.wire.span(segment, index, announced + 1)
        count, words, pointers = tag >> 2 & 0x3FFFFFFF, tag >> 32 & 0xFFFF, tag >> 48
        if count * (words + pointers) > announced or count and not words + pointers:
            raise Bad("a list of more than its words")
        return Views(self.wire, segment, index + 1, count, words, pointers)


class Views:
    """A list of structs."""

    def __init__(self, wire, segment, index, count, words, pointers):
        self.wire, self.segment, self.index = wire, segment, index
        self.count, self.words, self.pointers = count, words, pointers

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        if not 0 <= number < self.count:
            raise IndexError
        step = self.words + self.pointers
        return View(self.wire, self.segment, self.index + number * step, self.words, self.pointers)
