# SPDX-License-Identifier: GPL-2.0
"""The independent reader's inodes: what FORMAT.md, 3.3 to 4, says of each, with verdicts (readchunk.py)."""

import hashlib
import struct

from .readcapnp import Bad
from .readchunk import ANY, IS, LIMIT, MAY, NOT

TYPES = {1: "fifo", 2: "chr", 3: "dir", 4: "blk", 5: "file", 6: "lnk", 7: "sock"}
FILE_MAX = (1 << 63) - 1
# A name that may be lost, since its directory says that it is sorted and is not.
LOST = "lost"
# Namespaces that Linux shows to root, of files and directories.
NAMESPACES = b"user.", b"trusted.", b"security."
ZERO = "zero"


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
        self.unsound = not self.whiteout and (self.type is None or self.nsec >= 1_000_000_000)

    @property
    def link(self):
        try:
            more = self.view.struct(1)
            target = more.data(1, 4095) if more else b""
        except Bad:
            return NOT, None
        return (IS, target) if target and b"\0" not in target else (NOT, None)

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
    if 0xFFFFFFFF in (inode.uid, inode.gid):
        verdict = NOT  # that is nobody's number
    if inode.type == "file":
        _, total, sound = inode.extents()
        value["size"] = inode.size or total
        if value["size"] > FILE_MAX:
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
            name, ino = found[number].data(0, 255), found[number].number(0, 64)
        except Bad:
            name, ino = b"", 0
        if name <= last and number:
            is_sorted = False
        last = name
        if not ino or name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            verdict, sound = NOT, False
            continue
        try:
            child = image.inode(ino)
        except Unsound as error:
            child = error.verdict
        except Bad:
            child = NOT
        if child is None:
            gone[name] = gone.get(name, 0) + (name not in live)
            continue
        if isinstance(child, str) or child.unsound:
            child = child if isinstance(child, str) else NOT
            verdict = verdict if verdict == NOT else MAY
        else:
            listed.append([name, child.type, child.ino])
            if attributes(child)[0] != IS or child.type == "lnk" and child.link[0] != IS:
                verdict = verdict if verdict == NOT else MAY
        repeated |= name in live
        live.setdefault(name, child)
    if repeated and verdict != NOT:
        verdict = ANY  # which one counts is said, what a listing has is not
    lookup = IS if sound else MAY
    if says_sorted and not is_sorted:
        lookup = LOST
    for name, child in live.items():
        verdict_ = NOT if gone.get(name, 0) > 256 else lookup
        if isinstance(child, str):
            verdict_ = child
        names[name] = verdict_
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
        size += len(name) + 1
        if name in values:
            values[name] = MAY, values[name][1]
            verdict = verdict if verdict == NOT else ANY  # names differ within an inode
            continue
        values[name] = said, value
    if size > 65536 and verdict == IS:
        verdict = MAY  # Linux cannot return so many
    return verdict, {name: (visible(inode, name, said, value, verdict), value) for name, (said, value) in values.items()}


def visible(inode, name, said, value, verdict):
    """What Linux makes of an attribute, which FORMAT.md leaves to it."""
    if said == NOT:
        return NOT
    if not name.startswith(NAMESPACES) or name in NAMESPACES:
        return ANY
    if name.startswith(b"user.") and inode.type not in ("file", "dir"):
        return ANY
    if name == b"security.capability" and (len(value) != 20 or struct.unpack("<I", value[:4])[0] & ~1 != 0x2000000):
        return ANY
    return MAY if verdict != IS else said


def extents_of(inode, image):
    """(verdict on opening it, [(length, SHA-256 in hexadecimal or ZERO or None, verdict)]): the content in spans."""
    found, total, sound = inode.extents()
    if not sound or inode.size and inode.size != total:
        return NOT, []
    spans, verdict = [], IS
    for length, blob in found:
        if blob is None:
            spans.append((length, ZERO, IS))
            continue
        digest, offset, compressed = blob
        said, data = image.places.content(digest, compressed, image.version)
        if said in (IS, MAY) and offset + length > len(data):
            said = NOT
        if said != IS:
            verdict = MAY
        value = hashlib.sha256(data[offset:offset + length]).hexdigest() if said in (IS, MAY) else None
        spans.append((length, value, said))
    # What shares a page with what cannot be read, or needs a chunk that is not there to be opened.
    if verdict == MAY:
        spans = [(length, value, MAY if said == IS else said) for length, value, said in spans]
    return verdict, spans
