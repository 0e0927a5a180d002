# SPDX-License-Identifier: GPL-2.0
"""Cap'n Proto messages by hand (https://capnproto.org/encoding.html): objects, where they go, which
pointers lead to them, and at which byte of the message each field ended up."""

import struct

from .schema import STRUCTS

WORD = 8
STRUCT, LIST, FAR = 0, 1, 2
BYTES, COMPOSITE = 2, 7


class Struct:
    """A struct of the schema: `kind` names it, the rest are its fields."""

    def __init__(self, kind, **fields):
        self.kind = kind
        words, self.names, self.pointer_names = STRUCTS[kind]
        self.data = bytearray(WORD * words)
        self.pointers = [None] * len(self.pointer_names)
        for name, value in fields.items():
            self.set(name, value)

    def set(self, name, value):
        if name in self.pointer_names:
            self.pointers[self.pointer_names.index(name)] = value
        else:
            at, width = self.names[name]
            self.data[at:at + width] = value.to_bytes(width, "little")

    def get(self, name):
        if name in self.pointer_names:
            return self.pointers[self.pointer_names.index(name)]
        at, width = self.names[name]
        return int.from_bytes(self.data[at:at + width], "little")

    def size(self):
        return len(self.data) // WORD, len(self.pointers)

    def words(self):
        return sum(self.size())


class List:
    """A list of structs of one kind."""

    def __init__(self, kind, items):
        self.kind, self.items = kind, items

    def element(self):
        words, _, pointers = STRUCTS[self.kind]
        return words, len(pointers)

    def words(self):
        return 1 + len(self.items) * sum(self.element())


class Data:
    """Bytes. `what` says what they are: a name, a digest, ..."""

    def __init__(self, data, what="bytes"):
        self.data, self.what = data, what

    def words(self):
        return (len(self.data) + WORD - 1) // WORD


class Field:
    """A place in a message that has a name. Its kind is `int`, `pointer`, `tag`, `bytes` or `header`."""

    def __init__(self, path, at, width, kind, name, target=None):
        self.path, self.at, self.width, self.kind, self.name = path, at, width, kind, name
        # Of a pointer: the object that it leads to. Of bytes: what they are.
        self.target = target


def near(segment, object_):
    """In one segment."""
    return 0


def spread(count, double=()):
    """Each object in the next of `count` segments: far pointers, and double-far ones to every other
    object, whose landing pads lie in a third segment."""
    def place(segment, object_):
        place.next += 1
        return place.next % count
    place.next = 0
    place.double = bool(double)
    return place


class Message:
    """The objects that can be reached from `root`, laid out. An object that several pointers lead to is
    there once."""

    def __init__(self, root, place=near):
        self.segments, self.fields, self.where = [], [], {}
        self.pads = 0
        self.place = place
        self._segment(0)
        at = self._room(0, 1)  # the root pointer
        self._pointer(0, at, root, "root")
        self._assemble()

    def _segment(self, number):
        while len(self.segments) <= number:
            self.segments.append(bytearray())
        return self.segments[number]

    def _room(self, number, words):
        segment = self._segment(number)
        at = len(segment)
        segment.extend(bytes(WORD * words))
        return at

    def _field(self, path, number, at, width, kind, name, target=None):
        self.fields.append((path, number, at, width, kind, name, target))

    def _pointer(self, number, at, root, path):
        """Writes the pointer at `at`, and what it leads to, and so on, in breadth first order: what lies
        side by side is used together."""
        self._field("pointer", number, at, WORD, "pointer", "root", root)
        waiting = [(number, at, root, path)]
        while waiting:
            number, at, target, path = waiting.pop(0)
            if path != "root":
                self._field(path, number, at, WORD, "pointer", path.rpartition(".")[2], target)
            if target is None:
                continue
            if id(target) not in self.where:
                there = self.place(number, target)
                place = there, self._room(there, target.words()), target
                self.where[id(target)] = place
                waiting += self._content(place[0], place[1], target, path)
            self._lead(number, at, target)

    def _lead(self, number, at, target):
        there, begin, _ = self.where[id(target)]
        if there == number:
            self._write(number, at, self._near(target, (begin - at) // WORD - 1))
            return
        self.pads += 1
        if getattr(self.place, "double", False) and self.pads % 2:
            third = (there + 1) % max(len(self.segments), 2)
            pad = self._room(third, 2)
            self._write(third, pad, self._far(there, begin))
            self._write(third, pad + WORD, self._near(target, 0))
            self._field(f"pad[{self.pads}]", third, pad, WORD, "pointer", "pad")
            self._field(f"pad[{self.pads}].tag", third, pad + WORD, WORD, "pointer", "padtag")
            self._write(number, at, self._far(third, pad) | 4)
        else:
            pad = self._room(there, 1)
            self._write(there, pad, self._near(target, (begin - pad) // WORD - 1))
            self._field(f"pad[{self.pads}]", there, pad, WORD, "pointer", "pad", target)
            self._write(number, at, self._far(there, pad))

    @staticmethod
    def _near(target, offset):
        low = (offset << 2) & 0xFFFFFFFF
        if isinstance(target, Struct):
            words, pointers = target.size()
            return low | STRUCT | words << 32 | pointers << 48
        if isinstance(target, List):
            return low | LIST | COMPOSITE << 32 | (target.words() - 1) << 35
        return low | LIST | BYTES << 32 | len(target.data) << 35

    @staticmethod
    def _far(segment, at):
        return FAR | at // WORD << 3 | segment << 32

    def _write(self, number, at, word):
        struct.pack_into("<Q", self.segments[number], at, word)

    def _content(self, number, at, target, path):
        """Writes an object; returns the pointers that are in it."""
        if isinstance(target, Data):
            self.segments[number][at:at + len(target.data)] = target.data
            self._field(path, number, at, len(target.data), "bytes", target.what, target)
            return []
        if isinstance(target, Struct):
            return self._struct(number, at, target, path)
        words, pointers = target.element()
        self._write(number, at, len(target.items) << 2 | words << 32 | pointers << 48)
        self._field(f"{path}.tag", number, at, WORD, "tag", "tag", target)
        at, found = at + WORD, []
        for index, item in enumerate(target.items):
            found += self._struct(number, at, item, f"{path}[{index}]")
            at += WORD * (words + pointers)
        return found

    def _struct(self, number, at, target, path):
        self.segments[number][at:at + len(target.data)] = target.data
        for name, (offset, width) in target.names.items():
            self._field(f"{path}.{name}", number, at + offset, width, "int", name, target)
        first = at + len(target.data)
        return [(number, first + WORD * index, pointer, f"{path}.{target.pointer_names[index]}")
                for index, pointer in enumerate(target.pointers)]

    def _assemble(self):
        """Puts the segments behind their header, and makes fields of what was noted of them."""
        sizes = [len(segment) // WORD for segment in self.segments]
        head = struct.pack(f"<I{len(sizes)}I", len(sizes) - 1, *sizes)
        head += bytes(-len(head) % WORD)
        starts, at = [], len(head)
        for segment in self.segments:
            starts.append(at)
            at += len(segment)
        self.bytes = head + b"".join(self.segments)
        fields = [Field("header.segments", 0, 4, "header", "segments")]
        fields += [Field(f"header.size[{n}]", 4 + 4 * n, 4, "header", "size") for n in range(len(sizes))]
        fields += [Field(path, starts[number] + at, width, kind, name, target)
                   for path, number, at, width, kind, name, target in self.fields]
        self.fields = fields

    def field(self, path):
        return next(field for field in self.fields if field.path == path)
