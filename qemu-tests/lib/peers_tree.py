# SPDX-License-Identifier: GPL-2.0
"""peers_tree.py NAME DEBIAN DIR: makes the tree DIR of the test image peers-NAME, which
PuzzleFS and its peers hold alike (lib/peers.py)."""

import os
import random
import subprocess
import sys

MIB = 1 << 20


def file(name, data=b""):
    with open(name, "wb") as f:
        f.write(data)
    return name


def text(debian, size):
    """What compresses as programs do: the modules of Python, again and again, each time
    with other numbers in front so that no two MiB are the same."""
    top = os.path.join(debian, "usr/lib/python3.13")
    parts, total = [], 0
    names = sorted(n for n in os.listdir(top) if n.endswith(".py"))
    while total < size:
        for name in names:
            with open(os.path.join(top, name), "rb") as f:
                parts.append(b"# %d\n" % total + f.read())
            total += len(parts[-1])
    return b"".join(parts)[:size]


def cache(debian):
    """Files to read: one that compresses, one that does not, small ones, one that
    fio checks by itself."""
    data = text(debian, 16 * MIB)
    file("text", data)
    file("random", random.Random(1).randbytes(2 * MIB))
    os.mkdir("small")
    for i in range(200):
        file(f"small/{i}", data[i * 70000:][:1000 + 97 * i])
    subprocess.run(["fio", "--name=verify", "--filename=verify", "--size=4m", "--bs=16k", "--rw=write",
                    "--verify=crc32c", "--do_verify=0", "--output=/dev/null",
                    "--buffer_compress_percentage=50", "--ioengine=psync"], check=True)


def stacking(debian):
    """Two lower layers: the upper one hides entries of the other as overlayfs does."""
    # blobs/sha256: what a mount would look for, were a layout here.
    for name in "lower/dir", "lower/opaque", "upper/dir", "upper/opaque", "blobs/sha256":
        os.makedirs(name)
    for name in "kept", "hidden", "both":
        file(f"lower/dir/{name}", b"lower " + name.encode())
    file("lower/opaque/hidden", b"below an opaque directory")
    file("lower/big", text(debian, 8 * MIB))
    os.link(file("lower/link-a", b"two names"), "lower/link-b")
    file("upper/dir/both", b"upper both")
    os.mknod("upper/dir/hidden", 0o20000, os.makedev(0, 0))
    file("upper/opaque/new", b"new")
    os.setxattr("upper/opaque", "trusted.overlay.opaque", b"y")
    os.chown(file("owned", b"for user 7\n"), 7, 7)
    os.chmod("owned", 0o400)


LINKS, MANY, FEW, XATTRS = 65_000, 200_000, 2_000, 2_000
# A name that no other is the begin of.
ENTRY = "entry-{:07}-of-a-directory"


def limits(_debian):
    """What few images have, and each can."""
    os.mkdir("links")
    file("links/0", b"one inode\n")
    for i in range(1, LINKS):
        os.link("links/0", f"links/{i}")
    for name, count in ("few", FEW), ("many", MANY):
        os.mkdir(name)
        for i in range(count):
            # Few inodes for many names: what is large is the directory.
            path = f"{name}/" + ENTRY.format(i)
            if i % 1000 == 0:
                first = file(path, b"%d" % i)
            else:
                os.link(first, path)
    os.mkdir("types")
    for kind, bits in ("file", 0o100644), ("fifo", 0o10644), ("chr", 0o20644), ("blk", 0o60644), ("sock", 0o140644):
        os.mknod(f"types/{kind}", bits, os.makedev(1, 3))
    os.mkdir("types/dir")
    file("n" * 255)
    for length in 1, 59, 60, 255, 4095:
        os.symlink("t" * length, f"types/link-{length}")
    os.mkdir("xattrs")
    for i in range(XATTRS):
        os.setxattr(file(f"xattrs/{i}"), f"user.number-{i % 50}", b"value %d" % i * (i % 20))
    with open("sparse", "wb") as f:  # 4 GiB and 4 KiB
        for at in 0, 1 << 30, 4 << 30:
            f.seek(at)
            f.write(random.Random(at).randbytes(4096))
    file("dense", random.Random(2).randbytes(100_000))


name, debian, target = sys.argv[1:]
os.umask(0o022)
os.makedirs(target)
os.chdir(target)
{"cache": cache, "stacking": stacking, "limits": limits}[name](debian)
