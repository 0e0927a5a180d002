# SPDX-License-Identifier: GPL-2.0
"""EROFS images whose files have fingerprints: an xattr with the digest of the content, by which
the kernel shares page cache between mounts (mount options inode_share and domain_id). mkfs.erofs
makes them from version 1.9 on; for an older one, the files of a copy of the tree get them."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

NAME = "user.fingerprint"
# Of the superblock (fs/erofs/erofs_fs.h): its place, its field feature_compat, and the bit that
# says that the prefix with the number ishare_xattr_prefix_id, which is 0, names the fingerprint.
SUPERBLOCK, FEATURE_COMPAT, ISHARE_XATTRS = 1024, 8, 0x20


def run(command, log):
    """Runs a builder; what it says is in `log`, and shown when it fails."""
    with open(log, "wb") as out:
        status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        sys.stderr.write(pathlib.Path(log).read_text(errors="replace"))
        sys.exit(f"puzzlefs: error: {' '.join(map(str, command))} failed; the whole log: {log}")


def erofs(tree, image, options, log):
    """Makes the EROFS `image` of `tree`, with a fingerprint of each regular file."""
    copy = f"{image}.tree"
    run(["cp", "--archive", tree, copy], log)
    for folder, _, names in os.walk(copy):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    os.setxattr(path, NAME, hashlib.file_digest(file, "sha256").digest())
    # With a checksum of the superblock, no bit of it could be set afterwards.
    run(["mkfs.erofs", "--quiet", f"--xattr-prefix={NAME}", "-Enosbcrc", *options, image, copy], log)
    shutil.rmtree(copy)
    with open(image, "r+b") as file:
        file.seek(SUPERBLOCK + FEATURE_COMPAT)
        flags = file.read(1)[0]
        file.seek(SUPERBLOCK + FEATURE_COMPAT)
        file.write(bytes([flags | ISHARE_XATTRS]))
