# SPDX-License-Identifier: GPL-2.0
"""Everything that stat, listxattr and read show of a tree, as one JSON object a line,
and the comparison of a mounted tree with such a list.

    python3 tree.py ROOT >LIST

Names and values are bytes; JSON holds them as Latin-1, which maps each byte to one
character."""

import errno
import hashlib
import json
import os
import stat
import sys

TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device", stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}
# What upstream's format has no room for.
NOT_IN_UPSTREAM = ("mtime", "nlink")


def text(raw):
    return raw.decode("latin-1")


def sha256(path):
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while data := os.read(fd, 1 << 20):
            digest.update(data)
    finally:
        os.close(fd)
    return digest.hexdigest()


def entry(path, links):
    """What there is to know of one inode, under the names that a report uses. `links`
    maps the inode numbers seen so far to the path met first."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    e = {
        "type": TYPES[kind], "mode": oct(stat.S_IMODE(st.st_mode)), "uid": st.st_uid,
        "gid": st.st_gid, "mtime": st.st_mtime_ns, "nlink": st.st_nlink,
    }
    xattrs = os.listxattr(path, follow_symlinks=False)
    if xattrs:
        e["xattrs"] = {name: text(os.getxattr(path, name, follow_symlinks=False))
                       for name in sorted(xattrs)}
    first = links.setdefault(st.st_ino, path)
    if first != path:
        e["same inode as"] = text(first)
    # The size of a directory is the file system's own affair.
    if kind == stat.S_IFREG:
        e["size"] = st.st_size
        e["sha256"] = sha256(path)
    elif kind == stat.S_IFLNK:
        e["size"] = st.st_size
        e["target"] = text(os.readlink(path))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        e["device"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    return e


def walk(root):
    """Yields (path, entry) of all below `root`, parents first, in the order of names."""
    os.chdir(root)
    links = {}
    pending = [b"."]
    while pending:
        path = pending.pop()
        try:
            e = entry(path, links)
        except OSError as error:
            e = {"error": errno.errorcode[error.errno]}
        yield path, e
        if e.get("type") == "directory":
            pending += [os.path.join(path, n) for n in sorted(os.listdir(path), reverse=True)]


def write(root, out):
    for path, e in walk(os.fsencode(root)):
        out.write(json.dumps([text(path), e]) + "\n")


def read(list_file):
    with open(list_file) as f:
        return dict(json.loads(line) for line in f)


def differences(root, list_file, ignore=()):
    """Compares the tree at `root` with a list; returns (entries compared, what differs)."""
    expected, found, count = read(list_file), [], 0
    for path, e in walk(os.fsencode(root)):
        count += 1
        want = expected.pop(text(path), None)
        if want is None or "error" in e:
            found.append(f"{path!r}: {e.get('error', 'not in the source')}")
            continue
        for field in sorted(want.keys() | e.keys()):
            if field not in ignore and want.get(field) != e.get(field):
                found.append(f"{path!r}: {field} is {e.get(field)!r}, want {want.get(field)!r}")
    return count, found + [f"{path!r}: missing" for path in expected]


if __name__ == "__main__":
    write(sys.argv[1], sys.stdout)
