# SPDX-License-Identifier: GPL-2.0
"""The independent reader's inodes: what FORMAT.md, 3.3 to 4, says of each, with verdicts (readchunk.py)."""

import hashlib
import struct

from .readcapnp import Bad
from .readchunk import ANY, IS, MAY, NOT
from .readzstd import LIMIT

TYPES = {1: "fifo", 2: "chr", 3: "dir", 4: "blk", 5: "file", 6: "lnk", 7: "sock"}
FILE_MAX = (1 << 63) - 1
NOBODY = 0xFFFFFFFF
# A name that may be lost, since its directory says that it is sorted and is not.
LOST = "lost"
# What is not there for whoever asks.
GONE = "gone"
ZERO = "zero"
PAGE = 4096
# Of what may be used in part, so many bytes are known.
KNOWN = 64 * PAGE


class Unsound(Exception):
    """Nothing can be said of an inode but this verdict."""

    def __init__(self, text, verdict):
        super().__init__(text)
        self.verdict = verdict


class Inode:
    def __init__(self, view, version):
        self.view, self.version = view, version
        self.ino, mode = view.number(0, 64), view.number(64, 16)
        self.type, self.whiteout = TYPES.get(mode), mode == 8
        self.permissions = view.number(80, 16) & 0o7777
        self.uid, self.gid = view.number(96, 32), view.number(128, 32)
        self.nsec, self.mtime = view.number(160, 32), view.number(192, 64)
        self.mtime -= (self.mtime >> 63) << 64
        self.nlink, self.size = view.number(256, 32), view.number(320, 64)
        # It must be refused, whatever is asked of it.
        self.unsound = not self.whiteout and (self.type is None or self.nsec >= 1_000_000_000 or NOBODY in (self.uid, self.gid))

    @property
    def link(self):
        try:
            more = self.view.struct(1)
            target = more.data(1, 4095) if more else b""
        except Bad:
            return NOT, None
        return (IS, target) if target and b"\0" not in target else (NOT, None)

    def has_no_size(self):
        """Whether it is a file that must have one, and has none."""
        try:
            return self.version >= 6 and not self.size and len(self.view.list(0)) > 0
        except Bad:
            return False

    def extents(self):
        """Of a file, each (length, None or (digest, offset, compressed)); whether all of them are sound; their sum."""
        found, total, sound = [], 0, True
        try:
            parts = self.view.list(0)
            if len(parts) > 1 << 24 or self.size > FILE_MAX:
                return [], 0, False
            for number in range(len(parts)):
                part = parts[number]
                length, blob = part.number(0, 64), part.struct(0)
                if not length or blob is None and self.version < 4:
                    return found, total, False
                total += length
                if blob is None:
                    found.append((length, None))
                    continue
                digest, offset = blob.data(0, 32), blob.number(0, 64)
                if len(digest) != 32 or offset + length > LIMIT:
                    return found, total, False
                found.append((length, (digest, offset, blob.number(64, 1))))
        except Bad:
            sound = False
        return found, total, sound and total <= FILE_MAX


def attributes(inode):
    """What stat(2) shows of it."""
    value = {"mode": inode.permissions, "type": inode.type, "uid": inode.uid, "gid": inode.gid,
             "mtime": inode.mtime * 10**9 + inode.nsec, "nlink": inode.nlink or None, "size": None, "device": None}
    verdict = IS
    if inode.type == "file":
        _, total, sound = inode.extents()
        value["size"] = inode.size or total
        if value["size"] > FILE_MAX or inode.has_no_size():
            verdict = NOT
        elif not sound or inode.size and inode.size != total:
            # The recorded one, or an error; nobody knows if none is recorded.
            verdict = MAY if inode.size else ANY
    elif inode.type == "lnk":
        value["size"] = len(inode.link[1] or b"")
    elif inode.type in ("chr", "blk"):
        try:
            device = inode.view.struct(0)
            value["device"] = [device.number(0, 64), device.number(64, 64)] if device else [0, 0]
            if value["device"][0] > 0xFFF or value["device"][1] > 0xFFFFF:
                verdict = NOT
        except Bad:
            verdict = NOT
    elif inode.type == "dir" and not inode.size:
        try:
            entries(inode)
        except Bad:
            verdict = MAY
    return verdict, value


def entries(inode):
    directory = inode.view.struct(0)
    if directory is None:
        return [], False
    found = directory.list(0)
    if len(found) > 1 << 24:
        raise Bad("too many entries")
    return found, bool(directory.number(0, 16) & 2)


def entries_of(inode, image):
    """(verdict on listing it, [[name, type, ino]], [(name, Inode or None or a verdict, verdict on looking it up)])."""
    try:
        found, says_sorted = entries(inode)
    except Bad:
        return NOT, [], []
    verdict, listed, live = IS, [], {}
    names, last, is_sorted, gone, sound, repeated = {}, b"", True, {}, True, False
    for number in range(min(len(found), 20_000)):
        try:
            name, ino, said = found[number].data(0, 255), found[number].number(0, 64), found[number].number(64, 8)
        except Bad:
            name, ino, said = b"", 0, 0
        if name <= last and number:
            is_sorted = False
        last = name
        if not ino or name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            verdict, sound = NOT, False
            continue
        if said and said not in TYPES:
            live.setdefault(name, NOT)
            verdict = NOT
            continue
        try:
            child = image.inode(ino)
        except Unsound as error:
            child = error.verdict
        except Bad:
            child = NOT
        if said and not (isinstance(child, Inode) and child.type == TYPES[said]):
            # It is listed as it says, or not at all; and it is not that.
            repeated |= name in live
            live.setdefault(name, ANY if child == ANY else NOT)
            listed.append([name, TYPES[said], ino])
            verdict = verdict if verdict == NOT else MAY
            continue
        if child is None:
            gone[name] = gone.get(name, 0) + (name not in live)
            continue
        if isinstance(child, str) or child.unsound:
            child = child if isinstance(child, str) else NOT
            verdict = verdict if verdict == NOT else MAY
            if said:
                listed.append([name, TYPES[said], ino])
        else:
            listed.append([name, child.type, child.ino])
            if attributes(child)[0] != IS or child.type == "lnk" and child.link[0] != IS:
                verdict = verdict if verdict == NOT else MAY
        repeated |= name in live
        live.setdefault(name, child)
    if (repeated or ANY in live.values()) and verdict != NOT:
        verdict = ANY  # which one counts is said, what a listing has is not
    lookup = IS if sound else MAY
    if says_sorted and not is_sorted:
        lookup = LOST
    for name, child in live.items():
        # More removed ones before it need not be looked at.
        names[name] = child if isinstance(child, str) else MAY if gone.get(name, 0) > 1024 and lookup == IS else lookup
    result = [(name, live[name], names[name]) for name in live]
    result += [(name, None, "gone") for name in gone if name not in live]
    return verdict, listed, result


def xattrs_of(inode):
    """(verdict on listing them, {name: (verdict, value)})."""
    try:
        more = inode.view.struct(1)
        found = more.list(0) if more else []
        if len(found) > 65536 // 7:
            raise Bad("too many")
    except Bad:
        return NOT, {}
    verdict, values, size = IS, {}, 0
    for number in range(len(found)):
        try:
            name = found[number].data(0, 255)
        except Bad:
            name = b""
        if not name or b"\0" in name:
            verdict = NOT
            continue
        try:
            said, value = IS, found[number].data(1, 65536)
        except Bad:
            said, value, verdict = NOT, None, verdict if verdict == NOT else MAY
        if name not in values:  # the first of a name counts
            values[name] = said, value
            size += len(name) + 1
    found = {name: (seen(inode, name, said, value), value) for name, (said, value) in values.items()}
    if size > 65536 and verdict == IS or (MAY, True) in ((said, is_acl(name)) for name, (said, _) in found.items()):
        verdict = MAY if verdict == IS else verdict  # Linux cannot return so many, and looks at ACLs at each step
    return verdict, {name: (MAY if said == IS and verdict != IS else said, value) for name, (said, value) in found.items()}


def is_acl(name):
    return name in (b"system.posix_acl_access", b"system.posix_acl_default")


def seen(inode, name, said, value):
    """Whether an attribute is shown: FORMAT.md, 3.3. And whether Linux returns whatever it is."""
    shown = name.startswith((b"trusted.", b"security.")) and name not in (b"trusted.", b"security.")
    shown |= inode.type in ("file", "dir") and name.startswith(b"user.") and name != b"user."
    shown |= inode.type != "lnk" and name == b"system.posix_acl_access"
    shown |= inode.type == "dir" and name == b"system.posix_acl_default"
    if not shown:
        return GONE
    if said == IS and is_acl(name):
        tags = [tag for tag, _, _ in struct.iter_unpack("<HHI", value[4:])] if len(value) % 8 == 4 else [0]
        return IS if value[:4] == b"\2\0\0\0" and not set(tags) - {1, 2, 4, 8, 16, 32} else MAY
    if said == IS and name == b"security.capability" and (len(value) != 20 or struct.unpack("<I", value[:4])[0] & ~1 != 0x2000000):
        return MAY
    return said


def extents_of(inode, image):
    """(verdict on opening it, [(length, SHA-256 in hexadecimal or ZERO or None, verdict)]): the content in spans."""
    found, total, sound = inode.extents()
    if not sound or inode.size and inode.size != total:
        return NOT, []
    spans, verdict, at = [], IS, 0
    for length, blob in found:
        said, data = (IS, None) if blob is None else image.places.content(blob[0], blob[2], image.version)
        if data is not None:
            if said in (IS, MAY) and blob[1] + length > len(data):
                said = NOT
            elif said == NOT and blob[1] + length <= len(data):
                said = MAY  # the damage comes behind
            data = data[blob[1]:blob[1] + length]
        if said != IS:
            verdict = MAY
        spans.append((at, length, ZERO if blob is None else data, said))
        at += length
    # What shares a page with what cannot be read, or needs a chunk that is not there to be opened.
    return verdict, [span(*one, verdict) for one in spans]


def span(at, length, data, said, verdict):
    """(length, value, verdict). The value is the SHA-256 of the content; or, where not all of it need be read, those of
    all that may be read: of each page of the file up to which that goes."""
    if verdict == IS or data is None or said == ANY:
        return length, data if data in (None, ZERO) else hashlib.sha256(data).hexdigest(), said
    said = MAY if said == IS else said
    if data == ZERO:
        return length, ZERO, said
    if len(data) > KNOWN:
        return length, None, ANY
    ends = [end - at for end in range(at - at % PAGE + PAGE, at + len(data) + 1, PAGE)]
    if said == MAY and length not in ends:
        ends.append(length)
    return length, {str(end): hashlib.sha256(data[:end]).hexdigest() for end in ends}, said
