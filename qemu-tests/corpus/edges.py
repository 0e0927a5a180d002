# SPDX-License-Identifier: GPL-2.0
"""Images that are built anew, at each limit of the format and past it: what changing a field in place
cannot make."""

import struct

from .frames import Parts
from .message import Data, List, Message, Struct, near, spread
from .model import (RAW_1, RAW_2, TEXT_1, Base, Blocks, Chunk, additional, blocks, directory, everything, extent, file, inode,
                    noise, plain, rootfs, zstd)
from .schema import (BLOCK, CHR, CHUNK, DIR, FIFO, FILE, FILE_MAX, LAYERS, LNK, NAME, SEGMENTS, SOCK, SORTED, SPARSE, SYMLINK,
                     VALUE, WHT, XATTRS)

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
A, B = plain(RAW_1), plain(RAW_2)


def image(corpus, name, inodes, chunks=(A, B), version=3, place=near, packs=0, **more):
    Base("edge", rootfs([inodes], version, **more), list(chunks), place=place, packs=packs).image(corpus, name)


def of_root(entries, **more):
    return directory(1, entries, **more)


def one(corpus, name, second, version=3, entry=b"it"):
    """An image of one inode beside a sound one."""
    image(corpus, name, [of_root(sorted([(b"beside", 3), (entry, 2)])), second, file(3, [extent(B)])], version=version)


def names(corpus):
    for size in 1, NAME - 1, NAME, NAME + 1, 4096, 70000:
        one(corpus, f"name-of-{size}", file(2, [extent(A)]), entry=b"n" * size)
    for bad in b"", b".", b"..", b"...", b"/", b"a/b", b"\0", b"a\0", b"a\nb", b"\xff\xfe", b"\x1b[31m", "\u202e".encode(), b" ", b"\\":
        one(corpus, f"name={bad!r}".replace("/", "|"), file(2, [extent(A)]), entry=bad)
    for count in 2, LAYERS, LAYERS + 1, LAYERS + 2, 3000:
        gone = [(b"n", 99)] * (count - 1)
        for form, spread_ in ("together", False), ("spread", True):
            entries = []
            for number, entry in enumerate(gone):
                entries += [entry] + [(b"x%04d" % number, 2)] * spread_
            image(corpus, f"name-{count}-times-{form}", [of_root([*entries, (b"n", 2)], flags=0), file(2, [extent(A)])])
    same = [(b"n", 2), (b"n", 3)]
    for flags in 0, SORTED:
        image(corpus, f"name-twice,flags={flags}", [of_root(same, flags=flags), file(2, [extent(A)]), file(3, [extent(B)])])
        image(corpus, f"unsorted,flags={flags}", [of_root([(b"b", 2), (b"a", 3), (b"c", 2)], flags=flags), file(2, [extent(A)]), file(3, [extent(B)])])
    image(corpus, "sorted-and-many", [of_root([(b"%05d" % n, 2) for n in range(3000)]), file(2, [extent(A)])])
    image(corpus, "unsorted-and-many", [of_root([(b"%05d" % (n * 7 % 3000), 2) for n in range(3000)], flags=0), file(2, [extent(A)])])
    image(corpus, "all-removed", [of_root([(b"%05d" % n, 99 + n) for n in range(3000)], flags=0)])


def types(corpus):
    """What an entry says of its inode: nothing, the truth, or something else."""
    inodes = {FIFO: inode(2, FIFO), CHR: inode(2, CHR, Struct("Device", major=5, minor=1)), DIR: directory(2, []), FILE: file(2, [extent(A)]),
              LNK: inode(2, LNK, target=b"x"), SOCK: inode(2, SOCK), WHT: inode(2, WHT)}
    for kind, it in inodes.items():
        for said in 0, FIFO, CHR, DIR, FILE, LNK, SOCK, WHT, 255:
            image(corpus, f"entry.type={said},mode={kind}", [of_root([(b"beside", 3), (b"it", 2, said)]), it, file(3, [extent(B)])])
    for flags in 0, SORTED:
        image(corpus, f"entry.type-without-inode,flags={flags}", [of_root([(b"a", 99, FILE), (b"f", 2)], flags=flags), file(2, [extent(A)])])
        for first, second in (0, 0), (FILE, FILE), (DIR, FILE), (FILE, DIR), (0, FILE), (0, DIR):
            twice = [(b"n", 2, first), (b"n", 2, second)]
            image(corpus, f"entry.types={first},{second},flags={flags}", [of_root(twice, flags=flags), file(2, [extent(A)])])
        image(corpus, f"entry.type-of-removed-first,flags={flags}", [of_root([(b"n", 99, FILE), (b"n", 2)], flags=flags), file(2, [extent(A)])])
    typed = [directory(1, [(b"a", 2), (b"b", 3)]), file(2, [extent(A)]), file(3, [extent(B)])]
    for name, newer in ("removed", inode(2, WHT)), ("changed", inode(2, FIFO)):
        Base("edge", rootfs([[newer], typed], types=[typed]), [A, B]).image(corpus, f"entry.type-{name}-by-a-layer")
    for version in 3, 6:
        one(corpus, f"entries-of-upstream,version={version}", directory(2, [(b"a", 3), (b"b", 4)], entry="OldDirEntry"), version)


def numbers(corpus):
    for owner in 0, 65534, U32 - 1, U32:
        one(corpus, f"uid={owner}", file(2, [extent(A)], uid=owner))
        one(corpus, f"gid={owner}", file(2, [extent(A)], gid=owner))
        image(corpus, f"root.uid={owner}", [of_root([(b"f", 2)], uid=owner), file(2, [extent(A)])])
    for number in 0, 1, 5, U32, U32 + 1, U64:
        image(corpus, f"entry.ino={number}", [of_root([(b"f", 2), (b"g", number)]), file(2, [extent(A)])])
        image(corpus, f"ino={number}", [of_root([(b"f", 2), (b"g", number)]), file(2, [extent(A)]), file(number, [extent(B)])])
    for first in 0, 2, U64:
        image(corpus, f"root.ino={first}", [directory(first, [])])
    for number, kind in (1, FILE), (1, LNK), (1, WHT), (1, FIFO):
        image(corpus, f"root.mode={kind}", [inode(number, kind, target=b"x" if kind == LNK else None)])
    image(corpus, "no-inodes", [])
    for seconds in 0, -1, -(1 << 31), 1 << 31, 1 << 34, (1 << 63) - 1, -(1 << 63):
        one(corpus, f"mtime={seconds}", file(2, [extent(A)], mtime=seconds & U64))
    for links in 0, 1, 2, U32:
        one(corpus, f"nlink={links}", file(2, [extent(A)], nlink=links))
        one(corpus, f"dir.nlink={links}", directory(2, [], nlink=links))
    image(corpus, "descending", [of_root([(b"f", 2), (b"g", 3)]), file(3, [extent(B)]), file(2, [extent(A)])])
    image(corpus, "with-gaps", [of_root([(b"f", 20), (b"g", 3000)]), file(20, [extent(B)]), file(3000, [extent(A)])])
    image(corpus, "repeated", [of_root([(b"f", 2)]), file(2, [extent(B)]), file(2, [extent(A)]), inode(2, FIFO)])
    image(corpus, "repeated-root", [of_root([(b"f", 2)]), of_root([(b"g", 2)]), file(2, [extent(B)])])
    image(corpus, "repeated-in-6", [of_root([(b"f", 2)]), file(2, [extent(B)]), file(2, [extent(A)])], version=6)


def texts(corpus):
    for size in 0, 1, SYMLINK - 1, SYMLINK, SYMLINK + 1, 70000:
        one(corpus, f"target-of-{size}", inode(2, LNK, target=b"t" * size))
    for target in b"\0", b"a\0b", b"\xff", b"/", b"..", b"it":
        one(corpus, f"target={target!r}".replace("/", "|"), inode(2, LNK, target=target))
    one(corpus, "target-of-a-file", file(2, [extent(A)], target=b"there"))
    one(corpus, "link-without-additional", inode(2, LNK))
    for size in 0, 1, VALUE - 1, VALUE, VALUE + 1:
        one(corpus, f"value-of-{size}", file(2, [extent(A)], xattrs=[(b"user.v", b"v" * size)]))
    for size in 5, 6, NAME - 1, NAME, NAME + 1:
        one(corpus, f"xattr-of-{size}", file(2, [extent(A)], xattrs=[((b"user." + b"k" * NAME)[:size], b"v")]))
    acl = struct.pack("<IHHIHHIHHI", 2, 1, 7, U32, 4, 5, U32, 0x20, 5, U32)
    for name, value in ((b"", b""), (b"user", b""), (b"user.", b""), (b"a", b""), (b"user.a\0b", b""), (b"btrfs.compression", b"zstd"),
                        (b"system.foo", b"1"), (b"system.posix_acl_access", acl), (b"system.posix_acl_access", b"no acl"),
                        (b"system.posix_acl_default", acl), (b"security.", b""), (b"security.selinux", b"system_u:object_r:x:s0\0"),
                        (b"security.capability", b"?"), (b"trusted.overlay.opaque", b"y"), (b"os2.x", b"1"), (b"user.\n\x1b[2J", b"1"),
                        ("user.\u202e".encode(), b"1"), (b"USER.a", b"1"), (b"osx.user.a", b"1")):
        label = f"{name!r},{len(value)}".replace("/", "|")
        for kind, it in (("file", file(2, [extent(A)], xattrs=[(name, value)])), ("dir", directory(2, [], xattrs=[(name, value)])),
                         ("fifo", inode(2, FIFO, xattrs=[(name, value)])), ("link", inode(2, LNK, target=b"x", xattrs=[(name, value)]))):
            one(corpus, f"xattr={label},{kind}", it)
    twice = [(b"user.a", b"first"), (b"user.b", b"between"), (b"user.a", b"last")]
    one(corpus, "xattr-twice", file(2, [extent(A)], xattrs=twice))
    one(corpus, "xattr-twice-side-by-side", file(2, [extent(A)], xattrs=[twice[0], twice[2]]))
    for kind, it in ("fifo", inode(2, FIFO, xattrs=twice[:2])), ("sock", inode(2, SOCK, xattrs=twice[:2])), \
            ("link", inode(2, LNK, target=b"x", xattrs=twice[:2])):
        one(corpus, f"user-xattrs-of-{kind}", it)


def extents(corpus):
    def of(name, parts, version=5, **more):
        one(corpus, name, file(2, parts, **more), version=version)

    hole = extent(None, 4096)
    for version in 3, 4, 5, 6, 7:
        of(f"hole-in-version-{version}", [extent(A), hole, extent(B)], version)
        of(f"hole-said-in-version-{version}", [extent(A), hole, extent(B)], version, permissions=SPARSE | 0o644)
    for version in 3, 6:
        of(f"size-0-of-some,version={version}", [extent(A), extent(B)], version, size=0)
        of(f"size-0-of-one,version={version}", [extent(A)], version, size=0)
        of(f"size-5-of-none,version={version}", [], version, size=5)
        of(f"size-0-of-hole,version={version}", [hole], version, size=0)
    for more in -1, 1, 1 << 40:
        of(f"size{more:+}", [extent(A), extent(B)], size=8000 + more)
    for length in 0, 1, FILE_MAX - 1, FILE_MAX, FILE_MAX + 1, U64:
        of(f"hole-of-{length}", [extent(None, length)])
        of(f"hole-of-{length},size=0", [extent(None, length)], size=0)
    of("holes-over", [extent(None, FILE_MAX), extent(None, 1)], size=0)
    of("holes-around", [extent(None, U64), extent(None, 2)], size=0)
    of("hole-up-to-the-limit", [extent(A), extent(None, FILE_MAX - A.size)])
    of("data-at-the-limit", [extent(None, FILE_MAX - A.size), extent(A)])
    for offset, length in (0, 0), (0, 5001), (4999, 1), (4999, 2), (5000, 1), (1, 5000), (CHUNK, 1), (CHUNK - 1, 1), (CHUNK - 1, 2), \
            (U64, 1), (U64, 2), (0, CHUNK), (0, CHUNK + 1), (0, U64):
        of(f"offset={offset},len={length}", [extent(A, length, offset)])
        of(f"offset={offset},len={length},beside", [extent(B), extent(A, length, offset), extent(B)], size=6000 + length & U64)
    of("one-byte-each", [extent(A, 1, n) for n in range(3000)])
    of("many-holes", [part for n in range(700) for part in (extent(A, 1, n), extent(None, 5))])
    of("same-again", [extent(A)] * 200)
    mixed = Chunk(A.stored, True, A.size)
    mixed.data = A.data
    of("raw-and-compressed", [extent(A), extent(mixed)])


def lists(corpus):
    """Lists that several have, directories in themselves, and what is in too many places."""
    entries = [(b"file", 2), (b"self", 1)]
    image(corpus, "root-in-itself", [of_root(entries), file(2, [extent(A)])])
    image(corpus, "dir-in-itself", [of_root([(b"d", 2)]), directory(2, [(b"d", 2), (b"f", 3)]), file(3, [extent(A)])])
    image(corpus, "dir-in-child", [of_root([(b"d", 2)]), directory(2, [(b"e", 3)]), directory(3, [(b"d", 2), (b"f", 4)], parent=2), file(4, [extent(A)])])
    image(corpus, "root-in-child", [of_root([(b"d", 2)]), directory(2, [(b"root", 1)])])
    image(corpus, "dir-twice", [of_root([(b"a", 2), (b"b", 2)]), directory(2, [(b"f", 3)]), file(3, [extent(A)])])
    tower = [directory(n, [(b"a", n + 1), (b"b", n + 1)], parent=max(n - 1, 1)) for n in range(1, 40)]
    image(corpus, "two-to-the-40", [*tower, file(40, [extent(A)])])
    deep = [directory(n, [(b"d", n + 1)], parent=max(n - 1, 1)) for n in range(1, 200)]
    image(corpus, "200-deep", [*deep, file(200, [extent(A)])])
    shared = file(2, [extent(A), extent(B)])
    other = file(3, [])
    other.set("member", shared.get("member"))
    other.set("size", shared.get("size"))
    image(corpus, "shared-extents", [of_root([(b"a", 2), (b"b", 3)]), shared, other])
    first = directory(2, [(b"f", 4)])
    second = directory(3, [])
    second.set("member", first.get("member"))
    image(corpus, "shared-entries", [of_root([(b"a", 2), (b"b", 3)]), first, second, file(4, [extent(A)])])
    many = [(b"user.%d" % n, b"") for n in range(100)]
    image(corpus, "xattrs-of-100", [of_root([(b"it", 2)]), file(2, [extent(A)], xattrs=many)])
    value = Data(b"v" * 60000, "value")
    repeated = file(2, [extent(A)])
    repeated.set("additional", Struct("InodeAdditional", xattrs=List("Xattr", [
        Struct("Xattr", key=Data(b"user.%d" % n, "xattr"), val=value) for n in range(300)])))
    image(corpus, "xattrs-share-a-value", [of_root([(b"it", 2)]), repeated])
    for count in XATTRS, XATTRS + 1:
        short = Data(b"user.a", "xattr")
        it = file(2, [extent(A)])
        it.set("additional", Struct("InodeAdditional", xattrs=List("Xattr", [Struct("Xattr", key=short)] * count)))
        image(corpus, f"xattrs-of-{count}", [of_root([(b"it", 2)]), it])
    link = inode(2, LNK)
    link.set("additional", Struct("InodeAdditional", symlinkTarget=Data(b"digest?", "target")))
    image(corpus, "device-without-number", [of_root([(b"c", 2)]), inode(2, CHR)])
    image(corpus, "dir-without-dir", [of_root([(b"d", 2)]), inode(2, DIR)])
    image(corpus, "root-without-dir", [inode(1, DIR)])
    image(corpus, "empty", [of_root([])])


def layers(corpus):
    for count in 1, 2, LAYERS - 1, LAYERS, LAYERS + 1:
        made = [[file(2, [extent(A, 100, n)])] for n in range(count - 1)] + [[of_root([(b"f", 2)]), file(2, [extent(B)])]]
        Base("edge", rootfs(made), [A, B]).image(corpus, f"layers={count}")
        below = [[of_root([(b"f", 2)])]] + [[inode(5, FIFO)]] * (count - 2) + [[file(2, [extent(B)])]] if count > 1 else made
        Base("edge", rootfs(below), [B]).image(corpus, f"layers={count},below")
        empty = [[] for _ in range(count - 1)] + [[of_root([(b"f", 2)]), file(2, [extent(B)])]]
        Base("edge", rootfs(empty), [B]).image(corpus, f"layers={count},empty")
    Base("edge", rootfs([]), []).image(corpus, "layers=0")
    kinds = [lambda: file(2, [extent(A)]), lambda: directory(2, [(b"g", 3)]), lambda: inode(2, WHT), lambda: inode(2, LNK, target=b"t")]
    for upper, make in enumerate(kinds):
        for lower, below in enumerate(kinds):
            root = of_root([(b"f", 2), (b"g", 3)])
            Base("edge", rootfs([[make()], [root, below(), file(3, [extent(B)])]]), [A, B]).image(corpus, f"layers:{upper}-over-{lower}")
    Base("edge", rootfs([[inode(1, WHT)], [of_root([])]]), []).image(corpus, "layers:no-root")
    Base("edge", rootfs([[of_root([(b"n", 2)])], [of_root([(b"o", 2)]), file(2, [extent(A)])]]), [A]).image(corpus, "layers:root-over-root")


def segments(corpus):
    inodes, chunks, more = everything()
    for count in 2, 3, 50, 123, 124, 125, SEGMENTS:
        Base("edge", rootfs([inodes], **more), chunks, place=spread(count)).image(corpus, f"segments={count}")
    message = Message(rootfs([inodes], **more)).bytes
    size = struct.unpack_from("<I", message, 4)[0]
    for count in 124, SEGMENTS, SEGMENTS + 1, 100000:
        head = struct.pack("<II", count - 1, size) + bytes(4 * (count - 1))
        head += bytes(-len(head) % 8)
        Base("edge", rootfs([inodes], **more), chunks).image(corpus, f"segments={count},empty", head + message[8:])


def in_blocks(corpus):
    """Damages of the blob that says where the blocks are, and blocks that are not what they must be."""
    base = blocks()
    message = base.message.bytes
    made = [plain(message[at:at + BLOCK]) for at in range(0, len(message), BLOCK)]

    def image_of(name, head, chunks):
        layers = base.layers(corpus) + [(corpus.add(chunk.stored), "application/vnd.puzzlefs.image.filedata.v1") for chunk in chunks]
        corpus.of_message(f"blob:{name}", head, layers)

    for version in 2, 3, 4, 5, 6, 7:
        image_of(f"blob.version={version}", Message(base.head(made, manifestVersion=version)).bytes, made)
        at = base.version_at()
        other = message[:at] + struct.pack("<Q", version) + message[at + 8:]
        parts = [plain(other[at:at + BLOCK]) for at in range(0, len(other), BLOCK)]
        image_of(f"message.version={version}", Message(base.head(parts, manifestVersion=6)).bytes, parts)
    for name, some in (("none", []), ("first", made[:1]), ("last", made[1:]), ("swapped", made[::-1]), ("twice", made * 2),
                       ("again", made + made[1:]), ("one-more", made + [plain(b"x" * 8)]), ("first-again", [made[0], made[0], made[1]])):
        image_of(f"blocks={name}", Message(base.head(some)).bytes, some)
    for length in BLOCK - 8, BLOCK, BLOCK + 8, 2 * BLOCK, 4096:
        parts = [plain(message[at:at + length]) for at in range(0, len(message), length)]
        image_of(f"blocks-of-{length}", Message(base.head(parts)).bytes, parts)
    for label, change in (("offset=1", {"offset": 1}), ("len-1", {"size": BLOCK - 1}), ("hole", {})):
        head = base.head(made)
        item = extent(None, BLOCK) if label == "hole" else extent(made[0], **{"size": made[0].size, **change})
        head.get("blocks").items[0] = item
        image_of(f"block[0].{label}", Message(head).bytes, made)
    for label, bytes_ in (("cut", made[0].stored[:-1]), ("long", made[0].stored + b"\0"), ("empty", b"\0")):
        parts = [Chunk(bytes_, False, BLOCK), made[1]]
        image_of(f"block[0]-{label}", Message(base.head(parts)).bytes, parts)
    packed = [zstd(part.stored) for part in made]
    image_of("compressed", Message(base.head(packed)).bytes, packed)
    junk = Chunk(Parts([("x", b"no frame at all" * 20)]), True, BLOCK)
    image_of("block[1]-no-frame", Message(base.head([made[0], junk])).bytes, [made[0], junk])
    gone = plain(noise(77, BLOCK))
    image_of("block[0]-gone", Message(base.head([gone, made[1]])).bytes, [made[1]])
    image_of("block[1]-gone", Message(base.head([made[0], Chunk(noise(78, 664), False, made[1].size)])).bytes, made[:1])
    image_of("no-root", Message(base.head(made, root=None)).bytes, made)
    for label, copy in (("not-1", directory(2, [])), ("file", file(1, [])), ("whiteout", inode(1, WHT)), ("bad-mode", inode(1, 77)),
                        ("no-size", directory(1, [], size=0)), ("other-size", directory(1, [], size=99)), ("other-owner", directory(1, [], uid=7, size=3)),
                        ("entries", directory(1, [(b"x", 3)], size=3)), ("xattrs", directory(1, [], size=3, xattrs=[(b"user.x", b"y")])),
                        ("bad-time", directory(1, [], size=3, mtimeNsec=1 << 31)), ("uid=-1", directory(1, [], size=3, uid=U32))):
        image_of(f"root-{label}", Message(base.head(made, root=copy)).bytes, made)
    image_of("in-message", Message(base.head(made, metadatas=rootfs([[of_root([])]]).get("metadatas"))).bytes, made)
    whole = rootfs([[of_root([(b"f", 2)]), file(2, [extent(A)])]], 6)
    whole.set("blocks", base.head(made).get("blocks"))
    corpus.of_message("blob:blocks-and-message", Message(whole).bytes, base.layers(corpus))
    for version in 3, 6:
        whole.data[0:8] = struct.pack("<Q", version)
        inner = Message(whole).bytes
        parts = [plain(inner[at:at + BLOCK]) for at in range(0, len(inner), BLOCK)]
        image_of(f"message-with-blocks,version={version}", Message(base.head(parts, manifestVersion=6)).bytes, parts)
    for version in 3, 4, 5:
        whole.data[0:8] = struct.pack("<Q", version)
        image_of(f"blocks-in-version-{version}", Message(whole).bytes, [A, *made])


def verity(corpus):
    """What is said of fs-verity, which no reader of files needs."""
    for name, pairs in (("sorted", [(A, bytes(32)), (B, bytes(32))]), ("cut", [(A, bytes(31)), (B, bytes(33))]), ("empty", [(A, b"")])):
        inodes = [of_root([(b"f", 2)]), file(2, [extent(A)])]
        Base("edge", rootfs([inodes], verity=pairs), [A, B]).image(corpus, f"verity-{name}")


def add(corpus):
    for make in names, types, numbers, texts, extents, lists, layers, segments, in_blocks, verity:
        make(corpus)


__all__ = ["add", "Blocks", "TEXT_1", "additional"]
