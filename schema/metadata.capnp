# SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
#
# The metadata of a PuzzleFS image: one Rootfs message, in the standard (not
# packed) Cap'n Proto stream framing, is one blob of the OCI layout.
#
# Wire compatible with upstream PuzzleFS 0.2.0: the file id, every name and every
# ordinal up to the marks "Appended" are upstream's. New facts are appended, so a
# reader of either side sees what it knows, and defaults for the rest.
# FORMAT.md says what each field means.

@0x84ae5e6e88b7cbb7;

struct Chr {
    major@0: UInt64;
    minor@1: UInt64;
}

struct DirEntry {
    ino@0: UInt64;
    name@1: Data;

    # Appended.
    type@2: UInt8;          # What the inode is: the number of its member of `mode`. 0: not recorded.
}

struct Dir {
    entries@0: List(DirEntry);
    lookBelow@1: Bool;

    # Appended.
    sorted@2: Bool;         # The entries are in strictly ascending order of their names.
}

struct Blk {
    major@0: UInt64;
    minor@1: UInt64;
}

struct FileChunk {
    blob@0: BlobRef;    # Null: a hole of len bytes (manifestVersion 4).
    len@1: UInt64;
}

struct BlobRef {
    digest@0: Data;
    offset@1: UInt64;
    compressed@2: Bool;
}

struct Xattr {
    key@0: Data;
    val@1: Data;
}

struct InodeAdditional {
    xattrs@0: List(Xattr);
    symlinkTarget@1: Data;
}

struct Inode {
    ino@0: UInt64;
    mode: union {
          unknown@1: Void;
          fifo@2: Void;
          chr@3: Chr;
          dir@4: Dir;
          blk@5: Blk;
          file@6: List(FileChunk);
          lnk@7: Void;
          sock@8: Void;
          wht@9: Void;
      }
    uid@10: UInt32;
    gid@11: UInt32;
    permissions@12: UInt16;
    additional@13: InodeAdditional;

    # Appended.
    mtime@14: Int64;        # Seconds since the epoch.
    mtimeNsec@15: UInt32;   # 0 to 999,999,999.
    nlink@16: UInt32;       # 0: not recorded.
    size@17: UInt64;        # Of a file: the sum of its chunks' len. Of a directory: the number
                            # of its entries. 0: not recorded.
    parent@18: UInt32;      # Of a directory: the ino of the one it is in. 0: not recorded.
}

struct InodeVector {
    inodes@0: List(Inode);
}

struct VerityData {
        digest@0: Data;
        verity@1: Data;
}

struct Rootfs {
        metadatas@0: List(InodeVector);
        fsVerityData@1: List(VerityData);
        manifestVersion@2: UInt64;

        # Appended.
        inodeCount@3: UInt64;   # Inodes that can be reached. 0: not recorded.
        dataSize@4: UInt64;     # Sum of the sizes of all files, in bytes.
        blocks@5: List(FileChunk);  # Not empty: only where the Rootfs message itself is
                                    # (manifestVersion 6).
        root@6: Inode;              # With blocks: the root directory, without what is in it.
}
