# SPDX-License-Identifier: GPL-2.0
"""The structs of schema/metadata.capnp as `capnp compile` lays them out: for each its words of data,
where its numbers are (byte, width), and its pointers in order. And the limits of the format, each of
which is a place to try."""

STRUCTS = {
    "Rootfs": (3, {"manifestVersion": (0, 8), "inodeCount": (8, 8), "dataSize": (16, 8)},
               ("metadatas", "fsVerityData", "blocks", "root")),
    "InodeVector": (0, {}, ("inodes",)),
    "Inode": (6, {"ino": (0, 8), "mode": (8, 2), "permissions": (10, 2), "uid": (12, 4), "gid": (16, 4),
                  "mtimeNsec": (20, 4), "mtime": (24, 8), "nlink": (32, 4), "parent": (36, 4), "size": (40, 8)},
              ("member", "additional")),
    "Dir": (1, {"flags": (0, 2)}, ("entries",)),
    "DirEntry": (2, {"ino": (0, 8), "type": (8, 1)}, ("name",)),
    # As upstream has it.
    "OldDirEntry": (1, {"ino": (0, 8)}, ("name",)),
    "Device": (2, {"major": (0, 8), "minor": (8, 8)}, ()),
    "FileChunk": (1, {"len": (0, 8)}, ("blob",)),
    "BlobRef": (2, {"offset": (0, 8), "compressed": (8, 1)}, ("digest",)),
    "InodeAdditional": (0, {}, ("xattrs", "symlinkTarget")),
    "Xattr": (0, {}, ("key", "val")),
    "VerityData": (0, {}, ("digest", "verity")),
}

FIFO, CHR, DIR, BLK, FILE, LNK, SOCK, WHT = range(1, 9)
LOOK_BELOW, SORTED = 1, 2
SPARSE = 1 << 15

BLOCK = 64 << 10
CHUNK = 1280 << 10
FILE_MAX = (1 << 63) - 1
MANIFEST = 4 << 20
LAYERS, SEGMENTS, XATTRS, FRAMES = 256, 512, 65536 // 7, 321
NAME, SYMLINK, VALUE = 255, 4095, 65536
ENTRIES = EXTENTS = 1 << 24
JSON_DEPTH = 64
PACKS, PACK_CHUNKS = 4096, 1 << 18
MAJOR, MINOR = 0xFFF, 0xFFFFF
NSEC = 1_000_000_000

# At, below and past what each number may be.
EDGES = {
    "manifestVersion": (2, 3, 4, 5, 6, 7, 99),
    "mode": (0, FIFO, CHR, DIR, BLK, FILE, LNK, SOCK, WHT, 9, 0x100 + DIR),
    "permissions": (0o7777, SPARSE, 0x7000),
    "uid": (0xFFFFFFFE,), "gid": (0xFFFFFFFE,),
    "mtimeNsec": (NSEC - 1, NSEC),
    "mtime": (1 << 33, (1 << 64) - (1 << 33)),
    "size": (CHUNK, CHUNK + 1, FILE_MAX, FILE_MAX + 1, ENTRIES, ENTRIES + 1),
    "len": (CHUNK, CHUNK + 1, FILE_MAX, BLOCK, BLOCK + 1),
    "offset": (CHUNK - 1, CHUNK, CHUNK + 1),
    "major": (MAJOR, MAJOR + 1, 1 << 32), "minor": (MINOR, MINOR + 1, 1 << 32),
    "type": (0, FIFO, CHR, DIR, BLK, FILE, LNK, SOCK, WHT, 9),
    "ino": (2, 3, 4, 5, 1 << 32, (1 << 32) + 1),
    "parent": (2, 3),
    "flags": (LOOK_BELOW, SORTED, SORTED | LOOK_BELOW, 0xFFFC),
    "compressed": (0, 1, 2, 3),
}
