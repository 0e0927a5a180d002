# SPDX-License-Identifier: GPL-2.0
"""What is done to the fields of a message, one at a time: each a label and the bytes that are put in the
field's place. The digests of all that holds the message are right again, so the parser has to see it."""

import random
import struct

from .message import BYTES, COMPOSITE, FAR, LIST, STRUCT
from .schema import EDGES, SEGMENTS

U32 = 0xFFFFFFFF
# Labels of damages to pointers that only a list has.
CODES = {0: "void", 1: "bit", 2: "byte", 3: "two", 4: "four", 5: "eight", 6: "pointers", 7: "composite"}


def numbers(field, old):
    """Values of a number: its ends, its neighbours, and the edges that the format has for it."""
    top = 1 << 8 * field.width
    values = {0, 1, old - 1, old + 1, top - 1, top // 2, *EDGES.get(field.name, ())}
    for value in sorted(values):
        if 0 <= value < top and value != old:
            yield str(value), value.to_bytes(field.width, "little")


def pointers(field, old, fields, message):
    """What a pointer can be made into."""
    low, high = old & U32, old >> 32
    kind, offset = low & 3, struct.unpack("<i", struct.pack("<I", low))[0] >> 2

    def word(low_, high_=high):
        return struct.pack("<II", low_ & U32, high_ & U32)

    def moved(words):
        return word((offset + words) << 2 | kind)

    if old:
        yield "null", word(0, 0)
    yield "itself", word(-1 << 2 | (kind if old else STRUCT))
    yield "ones", b"\xff" * 8
    yield "other", word(3, 0)  # a capability
    for name, segment, at in ("far", 0, 0), ("far-away", U32, 1), ("far-off", 0, (1 << 29) - 1), ("far-next", 1, 0):
        yield name, word(FAR | at << 3, segment)
        yield f"double-{name}", word(FAR | 4 | at << 3, segment)
    if kind == FAR and old:
        for words in -1, 1:
            yield f"pad{words:+}", word((low & 7) | ((low >> 3) + words) << 3)
        for segment in (high + 1) % 8, SEGMENTS - 1, SEGMENTS:
            yield f"segment={segment}", word(low, segment)
        yield "double", word(low ^ 4)
        return
    if not old:
        yield "empty", word(-1 << 2 | STRUCT, 0)
        yield "struct", word(0, 1 << 16 | 1)
        yield "list", word(LIST, COMPOSITE)
        return
    for words in -1, 1, 4096, -4096:
        yield f"moved{words:+}", moved(words)
    yield "farthest", word(0x1FFFFFFF << 2 | kind)
    yield "backmost", word(-0x20000000 << 2 | kind)
    yield "kind", word(low ^ 1)
    if kind == STRUCT:
        for label, size in (("no-data", high & 0xFFFF0000), ("no-pointers", high & 0xFFFF), ("empty", 0), ("largest", U32),
                            ("more-data", high + 1), ("more-pointers", high + 0x10000), ("swapped", high >> 16 | (high & 0xFFFF) << 16)):
            if size != high:
                yield label, word(low, size)
    else:
        code, count = high & 7, high >> 3
        for other, name in CODES.items():
            if other != code:
                yield f"elements={name}", word(low, other | count << 3)
        for number in {0, 1, count - 1, count + 1, 2 * count + 1, 0x1FFFFFFF} - {count, -1}:
            yield f"count={number}", word(low, code | number << 3)
    yield from aliases(field, fields, low, message)


def aliases(field, fields, low, message):
    """The same pointer, led to what another one of its kind leads to: loops, and lists that several have."""
    pool = [other for other in fields if other.kind == "pointer" and other.target is not None
            and other is not field and type(other.target) is type(field.target)
            and getattr(other.target, "kind", None) == getattr(field.target, "kind", None)]
    seen = set()
    for other in pool:
        there = struct.unpack_from("<Q", message, other.at)[0]
        if there & 3 == FAR:
            continue
        shift = (struct.unpack("<i", struct.pack("<I", there & U32))[0] >> 2) + (other.at - field.at) // 8
        value = struct.pack("<II", shift << 2 & U32 | there & 3, there >> 32)
        if value not in seen and value != message[field.at:field.at + 8]:
            seen.add(value)
            yield f"as-{other.path.removeprefix('root.metadatas')}", value


def tags(field, old):
    low, high = old & U32, old >> 32
    count = low >> 2
    for number in {0, 1, count - 1, count + 1, (1 << 24), (1 << 24) + 1, (1 << 30) - 1} - {count, -1}:
        yield f"count={number}", struct.pack("<II", number << 2, high)
    for kind in LIST, FAR, 3:
        yield f"kind={kind}", struct.pack("<II", low | kind, high)
    for label, size in (("sizeless", 0), ("largest", U32), ("no-data", high & 0xFFFF0000), ("no-pointers", high & 0xFFFF),
                        ("less-data", high - 1 & U32), ("more-data", high + 1), ("less-pointers", high - 0x10000 & U32),
                        ("more-pointers", high + 0x10000)):
        if size != high:
            yield label, struct.pack("<II", low, size)
    yield "sizeless-endless", struct.pack("<II", ((1 << 30) - 1) << 2, 0)


def texts(field, old):
    """Bytes that a name, a digest and the like must not be, or may be."""
    if not old:
        return
    what = field.name
    if what == "digest":
        yield "flipped", bytes([old[0] ^ 1]) + old[1:]
        yield "zero", bytes(len(old))
        yield "backwards", bytes(reversed(old))
        return
    for at in sorted({0, len(old) // 2, len(old) - 1}):
        for byte in 0, ord("/"), 0xFF, ord("."), ord("\n"), 0x1B:
            if old[at] != byte:
                yield f"[{at}]={byte:#04x}", old[:at] + bytes([byte]) + old[at + 1:]
    if what == "name":
        for special in b".", b"..", b"..." * 90:
            if len(special) == len(old):
                yield special.decode(), special


def headers(field, old):
    top = (1 << 32) - 1
    values = {0, 1, old - 1, old + 1, SEGMENTS - 1, SEGMENTS, top, 0x7B}
    for value in sorted(values):
        if 0 <= value <= top and value != old:
            yield str(value), struct.pack("<I", value)


def of_field(field, message, fields):
    """All damages of one field: (label, bytes)."""
    old = message[field.at:field.at + field.width]
    number = int.from_bytes(old, "little")
    if field.kind == "int":
        return numbers(field, number)
    if field.kind == "pointer":
        return pointers(field, number, fields, message)
    if field.kind == "tag":
        return tags(field, number)
    if field.kind == "header":
        return headers(field, number)
    return texts(field, old)


def short(path):
    return path.replace("root.metadatas", "layer", 1).removeprefix("root.")


def each(base, kinds=("int", "pointer", "tag", "header", "bytes")):
    """(label, message) for each damage of each field of a base."""
    message, fields = base.message.bytes, base.message.fields
    for field in fields:
        if field.kind in kinds:
            for label, data in of_field(field, message, fields):
                if message[field.at:field.at + len(data)] != data:
                    yield f"{short(field.path)}={label}", put(message, field.at, data)


def put(message, at, data):
    return message[:at] + data + message[at + len(data):]


def several(base, count, seed):
    """`count` messages with two to six damages each."""
    rng, message, fields = random.Random(seed), base.message.bytes, base.message.fields
    for number in range(count):
        made, names = message, []
        for _ in range(rng.randrange(2, 7)):
            field = rng.choice(fields)
            label, data = rng.choice(list(of_field(field, message, fields)) or [("", b"")])
            made = put(made, field.at, data)
            names.append(f"{short(field.path)}={label}")
        yield f"several[{number}]:{'+'.join(names)}"[:400], made


def cuts(base):
    """The message as a whole: cut, and with bytes behind it."""
    message = base.message.bytes
    for at in sorted({0, 1, 3, 4, 7, 8, 9, 12, 16, 24, len(message) // 2, len(message) - 8, len(message) - 1}):
        yield f"cut={at}", message[:at]
    for more in 1, 8, 4096:
        yield f"behind={more}", message + bytes(more)
