# SPDX-License-Identifier: GPL-2.0
"""peers_tree.py NAME DEBIAN DIR: makes the tree DIR of the test image peers-NAME, which
PuzzleFS and its peers hold alike (lib/peers.py)."""

import os
import random
import re
import shutil
import struct
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


# What fio checks by itself: size, size of a block, checksum of a block.
FIO_FILES = {"verify": (4 * MIB, 16 << 10, "crc32c"), "verify-large": (12 * MIB, 128 << 10, "sha256")}


def cache(debian):
    """Files to read: one that compresses, one that does not, small ones, those that fio
    checks by itself."""
    data = text(debian, 16 * MIB)
    file("text", data)
    file("random", random.Random(1).randbytes(2 * MIB))
    os.mkdir("small")
    for i in range(200):
        file(f"small/{i}", data[i * 70000:][:1000 + 97 * i])
    for name, (size, block, checksum) in FIO_FILES.items():
        subprocess.run(["fio", "--name=verify", f"--filename={name}", f"--size={size}", f"--bs={block}", "--rw=write",
                        f"--verify={checksum}", "--do_verify=0", "--output=/dev/null",
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


OWNER, GROUP, ACL_USER, ACL_GROUP = 1001, 2001, 1002, 2002
# What the named user, the named group and the mask of an ACL are given, each with each.
ACL_PERMISSIONS = (0, 1, 4, 5, 7)
SPECIAL = (0o755, 0o1755, 0o2755, 0o4755, 0o6755, 0o6111, 0o2745, 0o4644)


def of(name, mode, acl=()):
    """Gives an entry to OWNER and GROUP; an ACL is of (tag, permissions, id)."""
    os.chown(name, OWNER, GROUP)
    os.chmod(name, mode)
    if acl:
        os.setxattr(name, "system.posix_acl_access",
                    struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in acl))


def permissions(_debian):
    """A file and a directory of each mode, and of many ACLs; what a plain user tries to change."""
    entries = [(f"{mode:03o}", mode, ()) for mode in range(0o1000)]
    none = 0xFFFFFFFF
    for user in ACL_PERMISSIONS:
        for group in ACL_PERMISSIONS:
            for mask in ACL_PERMISSIONS:
                acl = ((0x01, 6, none), (0x02, user, ACL_USER), (0x04, 4, none), (0x08, group, ACL_GROUP),
                       (0x10, mask, none), (0x20, 0, none))
                entries.append((f"acl-{user}{group}{mask}", 0o600, acl))
    for name, mode, acl in entries:
        os.makedirs("files", exist_ok=True)
        of(file(f"files/{name}", b"no program"), mode, acl)
        os.makedirs(f"directories/{name}")
        file(f"directories/{name}/file", b"a file")
        os.symlink("file", f"directories/{name}/link")
        of(f"directories/{name}", mode, acl)
    os.mkdir("special")
    for mode in SPECIAL:
        of(shutil.copy("/usr/bin/grep", f"special/{mode:o}"), mode)
    for name, mode in ("all", 0o777), ("search", 0o711), ("read", 0o744), ("none", 0o700), ("sticky", 0o1777):
        os.makedirs(f"{name}/full")
        os.mkdir(f"{name}/empty")
        file(f"{name}/full/file")
        os.chmod(file(f"{name}/file", b"of root"), 0o644)
        os.setxattr(f"{name}/file", "user.there", b"value")
        of(file(f"{name}/mine", b"of the owner"), 0o600)
        os.chmod(file(f"{name}/open", b"of all"), 0o777)
        for link, to in ("link", "file"), ("dangling", "nowhere"), ("loop", "loop"):
            os.symlink(to, f"{name}/{link}")
        os.mkfifo(f"{name}/fifo", 0o666)
        os.chmod(name, mode)


# What runs in the container beside the tests themselves.
PROGRAMS = ("bash", "cat", "mount", "setpriv", "sh", "stress-ng", "true", "umount")


def copied(path):
    """Copies a file to its place below here. Debian has libraries below /usr, and links to there."""
    target = "." + os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(path, target)


def libraries(program):
    """Those that a program loads."""
    found = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return re.findall(r"/\S+(?= \(0x)", found)


def container(_debian):
    """A root filesystem to run what others wrote in, with devices of its own: stress-ng and
    the kernel's selftests."""
    for name in "bin", "sbin", "lib", "lib64":
        os.makedirs(f"usr/{name}")
        os.symlink(f"usr/{name}", name)
    programs = [shutil.which(name) for name in PROGRAMS]
    subprocess.run([os.path.join(os.environ["PUZZLEFS_TOP"], "qemu-tests/selftests"), os.path.abspath("selftests")],
                   check=True)
    tests = [os.path.join(top, name) for top, _, names in os.walk("selftests") for name in names]
    for path in {*programs, *(library for program in programs + tests for library in libraries(program))}:
        copied(path)
    for name in "dev/pts", "dev/shm", "etc", "mnt", "proc", "root", "sys", "tmp", "run":
        os.makedirs(name)
    file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    for name, minor in ("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9):
        os.mknod(f"dev/{name}", 0o20666, os.makedev(1, minor))
        os.chmod(f"dev/{name}", 0o666)
    for link, to in ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"):
        os.symlink(to, f"dev/{link}")
    # Directories to go through.
    for i in range(300):
        os.makedirs(f"run/{i % 3}/{i % 20}", exist_ok=True)
        file(f"run/{i % 3}/{i % 20}/{i}", b"%d\n" % i * i)


TREES = {"cache": cache, "container": container, "limits": limits, "permissions": permissions, "stacking": stacking}

if __name__ == "__main__":
    name, debian, target = sys.argv[1:]
    os.umask(0o022)
    os.makedirs(target)
    os.chdir(target)
    TREES[name](debian)
