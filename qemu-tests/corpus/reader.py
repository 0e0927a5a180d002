# SPDX-License-Identifier: GPL-2.0
"""An independent reader: what FORMAT.md says of an image, asked as a mount is asked. It shares no code with the
writer of the corpus, and none with the programs that are tested.

Each answer has a verdict: IS, that is the value; MAY, that or an error; NOT, it must be an error; ANY, FORMAT.md
does not say."""

import hashlib
import json

from .readcapnp import Bad, View, Views, Wire
from .readchunk import ANY, IS, MAY, NOT, Places
from .readinode import GONE, Inode, Unsound, attributes, entries, entries_of, extents_of, xattrs_of

ROOTFS = "application/vnd.puzzlefs.image.rootfs.v1"
PACK = "application/vnd.puzzlefs.image.pack.v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
VERITY = "io.puzzlefsoci.puzzlefs.fs_verity"
# So much of a tree is looked at.
MOST = 4000


class Refused(Exception):
    """The image must be refused at mount."""


class Once(dict):
    """An object of a manifest; a key that comes twice is noted."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.twice = {key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1} if len(self) < len(pairs) else ()


def constant(name):
    raise ValueError(name)


def depth(text):
    """How deep values are nested, at most."""
    deepest = now = 0
    inside = escaped = False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            now += 1
            deepest = max(deepest, now)
        elif char in "]}":
            now -= 1
    return deepest


def manifest(data):
    """The Rootfs and the packs that a manifest lists; and whether it may be refused all the same."""
    if len(data) > 4 << 20:
        raise Refused("over 4 MiB")
    try:
        text = data.decode("utf-8")
        deep = depth(text)
        if deep > 500:
            raise Refused("nested too deep")
        # Floats as text: so a number that is whole, but written otherwise, is told apart.
        top = json.loads(text, object_pairs_hook=Once, parse_constant=constant, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise Refused(f"no JSON: {error}") from None
    if not isinstance(top, Once):
        raise Refused("no object")
    if any(key in top.twice for key in ("schemaVersion", "mediaType", "config", "layers")):
        raise Refused("a key comes twice")
    if type(top.get("schemaVersion")) is not int or top["schemaVersion"] != 2:
        raise Refused("schemaVersion")
    if "mediaType" in top and top["mediaType"] != MANIFEST:
        raise Refused("mediaType")
    unpaired = any(0xD800 <= ord(char) < 0xE000 for value in strings(top) for char in value)
    if unpaired:
        raise Refused("half a surrogate")
    layers = top.get("layers")
    if not isinstance(layers, list):
        raise Refused("no layers")
    found = [descriptor(layer) for layer in layers]
    if "config" in top:
        descriptor(top["config"])
    rootfs = [digest for kind, digest, _ in found if kind == ROOTFS]
    if len(rootfs) != 1:
        raise Refused("not one Rootfs")
    return rootfs[0], [(digest, size) for kind, digest, size in found if kind == PACK], IS if deep <= 64 else over(top)


def over(top):
    """Only what a reader skips has a limit of depth; it counts from the value that is skipped."""
    def deep(value):
        if isinstance(value, (dict, list)):
            inner = value.values() if isinstance(value, dict) else value
            return 1 + max((deep(v) for v in inner), default=0)
        return 0
    known = {"schemaVersion", "mediaType", "config", "layers"}
    skipped = [value for key, value in top.items() if key not in known]
    for layer in [*top["layers"], top.get("config")]:
        if isinstance(layer, dict):
            notes = layer.get("annotations")
            inner = list(notes.values()) if isinstance(notes, dict) else [notes]
            skipped += [value for key, value in layer.items() if key not in ("mediaType", "digest", "size", "annotations")] + inner
    # What is empty is not nested any deeper by some, and is by others.
    most = max(map(deep, skipped), default=0)
    if most > 65:
        raise Refused("nested over 64 deep")
    return MAY if most == 65 else IS


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def descriptor(value):
    if not isinstance(value, Once) or any(key in value.twice for key in ("mediaType", "digest", "size", "annotations")):
        raise Refused("no descriptor")
    notes = value.get("annotations")
    if isinstance(notes, Once) and VERITY in notes:
        said = notes[VERITY]
        if VERITY in notes.twice or not isinstance(said, str) or len(said) != 64 or set(said) - set("0123456789abcdef"):
            raise Refused("an fs-verity digest")
    kind, text, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(kind, str) or type(size) is not int or not 0 <= size < 1 << 64 or not isinstance(text, str):
        raise Refused("no descriptor")
    if not text.startswith("sha256:") or len(text) != 71 or set(text[7:]) - set("0123456789abcdef"):
        raise Refused("no digest")
    return kind, bytes.fromhex(text[7:]), size


class Image:
    """An image, opened. Raises Refused. `mount` is the verdict on mounting it."""

    def __init__(self, blobs, digest):
        self.blobs, self.mount = blobs, IS
        data = self._blob(digest)
        packs = []
        if data[2:4] != b"\0\0" or len(data) < 4:
            rootfs, listed, self.mount = manifest(data)
            if len(listed) > 4096:
                raise Refused("too many packs")
            for pack, size in listed:
                if pack not in blobs or len(blobs[pack]) != size:
                    self.mount = MAY  # FORMAT.md: it may be refused
            packs = [pack for pack, _ in listed]
            data = self._blob(rootfs)
        self.places = Places(blobs, packs)
        try:
            self._open(data)
        except Bad as error:
            raise Refused(str(error)) from None

    def _blob(self, digest):
        data = self.blobs.get(digest)
        if data is None or hashlib.sha256(data).digest() != digest:
            raise Refused("no such blob")
        return data

    def _open(self, data):
        root = Wire(data).root()
        self.version = root.number(0, 64)
        if not 3 <= self.version <= 6:
            raise Refused("version")
        self.copy = None
        # A reader in which all is right until a block is needed; then it is as `wrong` says.
        self.wrong = self.wrong_verdict = None
        if self.version == 6 and len(root.list(2)):
            self._blocks(root)
            return
        if self.version < 6 and not root.is_null(2):
            # Not known to these versions: ignored by some readers, refused by others.
            self.mount = MAY
        self._vectors(root)
        try:
            self._root()
        except Unsound as error:
            if error.verdict == ANY:
                raise
            raise Refused(str(error)) from None

    def _blocks(self, root):
        extents = root.list(2)
        if len(extents) > 1 << 24:
            raise Refused("blocks")
        if not root.is_null(3):
            copy = View.of(root.wire, root.pointer(3))
            self.copy = Inode(copy, self.version)
            if self.copy.ino != 1 or self.copy.whiteout or self.copy.unsound or self.copy.type != "dir":
                raise Refused("the copy of the root")
            if not self.copy.size:
                self.copy = None
        try:
            message = b""
            for number in range(len(extents)):
                message += self._block(extents[number], number == len(extents) - 1)
            inner = Wire(message).root()
            if inner.number(0, 64) != self.version or len(inner.list(2)):
                raise Bad("the message is of another version, or has blocks")
            self._vectors(inner)
            self._root()
        except (Bad, Unsound) as error:
            self.wrong_verdict = getattr(error, "verdict", NOT)
            if self.copy is None and self.wrong_verdict == NOT:
                raise Refused(str(error)) from None
            # To mount is to read no block, if there is a copy.
            self.mount, self.wrong = (MAY if self.copy else ANY), str(error)

    def _block(self, extent, last):
        length, blob = extent.number(0, 64), extent.struct(0)
        if blob is None or blob.number(0, 64) or not 0 < length <= 65536 or length < 65536 and not last:
            raise Bad("a block")
        digest = blob.data(0, 32)
        if len(digest) != 32:
            raise Bad("a digest")
        verdict, data = self.places.content(digest, blob.number(64, 1), self.version)
        if verdict in (NOT, ANY) or len(data) != length:
            raise Unsound("a block is not there", GONE)
        if verdict == MAY:
            self.mount = MAY
        return data

    def _vectors(self, root):
        layers = root.list(0)
        if len(layers) > 256:
            raise Bad("layers")
        self.layers, self.lists_bad = [], False
        for number in range(len(layers)):
            try:
                self.layers.append(layers[number].list(0))
            except Bad:
                # Refused at once or when it is asked for.
                self.mount = MAY
                self.layers.append(None)
        self.found = [self._index(layer, number) for number, layer in enumerate(self.layers)]

    def _index(self, layer, number):
        """Of a layer what is at each number; None if nothing can be said, as it is not in order."""
        if layer is None:
            return None
        found, last = {}, 0
        if len(layer) > 100_000:
            return None
        for index in range(len(layer)):
            ino = layer[index].number(0, 64)
            if ino < last or not ino:
                return None
            last = ino
            found.setdefault(ino, []).append(index)
        return found

    def inode(self, ino):
        """The inode of this number; None if there is none. Raises Unsound."""
        for number, found in enumerate(self.found):
            if found is None:
                raise Unsound("a layer that is not in order, or not there", ANY if self.layers[number] is not None else NOT)
            if ino in found:
                places = found[ino]
                inode = Inode(self.layers[number][places[-1]], self.version)
                if len(places) > 1 and number == 0 and self.version == 6:
                    raise Unsound("several of one number", ANY)
                return None if inode.whiteout else inode
        return None

    def _root(self):
        root = self.inode(1)
        if root is None or root.type != "dir":
            raise Unsound("no root directory", NOT)
        try:
            entries(root)
        except Bad:
            self.mount = MAY
        if root.unsound:
            self.mount = MAY


def read(blobs, digest):
    """What is right for an image: {"mount": verdict, "tree": [entry, ...]}. An entry is a dictionary of its path,
    and of (verdict, value) for each operation."""
    try:
        image = Image(blobs, digest)
    except Refused as error:
        return {"mount": NOT, "why": str(error), "tree": []}
    except Unsound as error:
        return {"mount": error.verdict, "why": str(error), "tree": []}
    return {"mount": image.mount, "why": image.wrong or "", "tree": Tree(image).entries}


class Tree:
    """All that names lead to, each directory once."""

    def __init__(self, image):
        self.image, self.entries, self.seen = image, [], set()
        if image.wrong is not None:
            # What is in another block than the one that is not there may be read.
            listed = NOT if image.wrong_verdict == NOT else ANY
            self.entries.append({"path": b"", "stat": (ANY, None), "list": (listed, None), "xattrs": (ANY, None)})
            return
        try:
            root = image.inode(1)
        except Unsound as error:
            self.entries.append({"path": b"", "lookup": error.verdict, "list": (error.verdict, None)})
            return
        self.walk(b"", root, IS)

    def walk(self, path, root, lookup):
        waiting = [(path, root, lookup)]
        while waiting and len(self.entries) < MOST:
            path, inode, lookup = waiting.pop()
            entry = {"path": path, "lookup": lookup, "ino": inode.ino, "type": inode.type}
            self.entries.append(entry)
            entry["stat"] = self.stat(path, inode)
            entry["xattrs"] = xattrs_of(inode)
            if inode.type == "lnk":
                entry["link"] = inode.link
                if inode.link[0] == NOT:
                    entry["stat"] = MAY, entry["stat"][1]
            elif inode.type == "file":
                entry["content"] = extents_of(inode, self.image)
            elif inode.type == "dir":
                if inode.ino in self.seen:
                    # FORMAT.md: it has only one entry in all.
                    entry.update(lookup=ANY, stat=(ANY, None), list=(ANY, None), xattrs=(ANY, None))
                    continue
                self.seen.add(inode.ino)
                waiting += self.directory(path, inode, entry)

    def stat(self, path, inode):
        verdict, value = attributes(inode)
        if not path and self.image.copy is not None:
            if attributes(self.image.copy)[1] != value:
                verdict = ANY  # from either
        return verdict, value

    def directory(self, path, inode, entry):
        verdict, listed, live = entries_of(inode, self.image)
        entry["list"] = verdict, listed
        found = [(path + b"/" + name if path else name, child, lookup) for name, child, lookup in live if isinstance(child, Inode)]
        for name, child, lookup in live:
            if not isinstance(child, Inode):
                self.entries.append({"path": path + b"/" + name if path else name, "lookup": child or lookup})
        return found[::-1]


__all__ = ["Views", "read"]
