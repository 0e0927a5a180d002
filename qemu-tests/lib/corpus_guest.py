# SPDX-License-Identifier: GPL-2.0
"""The guest's half: mounts an image, asks all of it, and compares each answer with that of the reader."""

import ctypes
import errno
import hashlib
import mmap
import os
import stat

import mountapi

libc = mountapi.libc
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.write.restype = ctypes.c_ssize_t
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
# What a damaged image may be refused with.
ERRORS = {errno.EUCLEAN, errno.EIO, errno.ENODATA, errno.EOPNOTSUPP, errno.EFBIG, errno.EBADMSG, errno.EOVERFLOW, errno.EINVAL,
          errno.ELOOP}
TYPES = {"fifo": stat.S_IFIFO, "chr": stat.S_IFCHR, "dir": stat.S_IFDIR, "blk": stat.S_IFBLK, "file": stat.S_IFREG,
         "lnk": stat.S_IFLNK, "sock": stat.S_IFSOCK}
# Of a tree of more entries some are asked for, evenly.
ENTRIES = 300
# Files of more are read at their begin and their end.
MOST = 64 << 20
# No page behind it can be mapped.
END = (1 << 63) - mmap.PAGESIZE


def unpack(packed, layout):
    """Makes a layout of blobs that are in one file, each behind its digest and its length."""
    os.makedirs(f"{layout}/blobs/sha256")
    with open(packed, "rb") as f:
        while head := f.read(40):
            with open(f"{layout}/blobs/sha256/{head[:32].hex()}", "wb") as blob:
                blob.write(f.read(int.from_bytes(head[32:], "little")))


def mount(layout, digest):
    """A mount that is nowhere: a descriptor, with which it ends."""
    fs = mountapi.syscall(mountapi.FSOPEN, b"puzzlefs", 0)
    try:
        mountapi.set_option(fs, "oci_root_dir", layout)
        mountapi.set_option(fs, "image_manifest", digest)
        mountapi.syscall(mountapi.FSCONFIG, fs, mountapi.FSCONFIG_CMD_CREATE, None, None, 0)
        return mountapi.syscall(mountapi.FSMOUNT, fs, 0, 0)
    finally:
        os.close(fs)


def short(data):
    """Bytes as right.json has them."""
    return data.decode("latin-1") if len(data) <= 300 else "sha256:" + hashlib.sha256(data).hexdigest()


class Check:
    """One image: `faults`, what is otherwise than it must be; `errors`, how many of its `answers` were errors."""

    def __init__(self, image, entries, memory):
        self.image, self.entries, self.memory = image, entries, memory
        self.faults, self.errors, self.answers = [], 0, 0
        # What may be refused, and all below it; and what may not be found.
        self.weak, self.lost = set(), set()

    def fault(self, path, what):
        self.faults.append(f"{self.image['name']}: {path!r}: {what}")

    def ask(self, path, what, verdict, function, *arguments, right=None, more=()):
        """Asks; returns the answer, or None if it was an error."""
        self.answers += 1
        try:
            answer = function(*arguments)
        except OSError as error:
            self.errors += 1
            if error.errno not in ERRORS and error.errno not in more:
                self.fault(path, f"{what}: {errno.errorcode[error.errno]}")
            elif verdict == "is" and not self.is_weak(path):
                self.fault(path, f"{what}: {errno.errorcode[error.errno]}, but it is sound")
            return None
        if verdict == "not":
            self.fault(path, f"{what}: {answer!r:.200}, but it must be refused")
        elif verdict in ("is", "may") and right is not None and answer != right:
            self.fault(path, f"{what}: {answer!r:.200}, but it is {right!r:.200}")
        return answer

    @staticmethod
    def leads(path, places):
        """Whether one of the places is that path, or leads there."""
        if not places or isinstance(path, str):
            return False
        parts = [] if path == b"." else path.split(b"/")
        return any(b"/".join(parts[:n]) in places for n in range(len(parts) + 1))

    def is_weak(self, path):
        """Whether what leads there, or is there, may be refused."""
        return self.leads(path, self.weak)

    def run(self, layout):
        """Returns whether it was mounted."""
        fd = self.ask("", "mount", self.image["mount"], mount, layout, self.image["digest"])
        if fd is None:
            return False
        try:
            # Whoever goes through a directory, or opens a file, is asked for its ACL: with attributes that are not sound
            # that may fail.
            for index in self.image["tree"]:
                one = self.entries[index]
                answers = one.get("lookup", "is"), *(one[key][0] for key in ("stat", "xattrs") if key in one)
                if set(answers) != {"is"}:
                    self.weak.add(one["path"].encode("latin-1"))
                if answers[0] in ("lost", "any"):
                    self.lost.add(one["path"].encode("latin-1"))
            self.ask("", "fchdir", "may" if b"" in self.weak or not self.image["tree"] else "is", os.fchdir, fd)
            if os.path.samestat(os.stat("/"), os.stat(".")):
                return True
            tree = self.image["tree"]
            for index in tree[::max(1, -(-len(tree) // ENTRIES))]:
                self.entry(self.entries[index])
        finally:
            os.chdir("/")
            os.close(fd)
        return True

    def entry(self, entry):
        path = entry["path"].encode("latin-1") or b"."
        lookup = entry.get("lookup", "is")
        if lookup == "gone":
            try:
                os.lstat(path)
                self.fault(path, "is there, but it is removed")
            except OSError as error:
                self.errors += error.errno != errno.ENOENT
            return
        lost = (errno.ENOENT,) if self.leads(path, self.lost) else ()
        verdict, right = entry.get("stat", (lookup, None))
        if lookup != "is":
            verdict = {"lost": "may", "may": "may" if verdict == "is" else verdict}.get(lookup, lookup)
        st = self.ask(path, "stat", verdict, os.lstat, path, more=lost)
        if st is None:
            return
        if right and verdict in ("is", "may"):
            self.attributes(path, st, right)
        if stat.S_ISDIR(st.st_mode) and "list" in entry:
            self.listing(path, entry)
        if "xattrs" in entry:
            self.xattrs(path, *entry["xattrs"])
        if "link" in entry and stat.S_ISLNK(st.st_mode):
            verdict, target = entry["link"]
            self.ask(path, "readlink", verdict, lambda: short(os.readlink(path)), right=target)
        if "content" in entry and stat.S_ISREG(st.st_mode):
            self.content(path, st.st_size, *entry["content"])

    def attributes(self, path, st, right):
        found = {"mode": stat.S_IMODE(st.st_mode), "uid": st.st_uid, "gid": st.st_gid, "mtime": st.st_mtime_ns}
        if right["nlink"]:
            found["nlink"] = st.st_nlink
        if right["size"] is not None:
            found["size"] = st.st_size
        if right["device"]:
            found["device"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
        for name, value in found.items():
            if value != right[name]:
                self.fault(path, f"{name} is {value}, but it is {right[name]}")
        if stat.S_IFMT(st.st_mode) != TYPES[right["type"]]:
            self.fault(path, f"its type is {st.st_mode:o}, but it is {right['type']}")

    def listing(self, path, entry):
        verdict, right = entry["list"]

        def listed():
            with os.scandir(path) as found:
                return sorted([entry.name.decode("latin-1"), entry.inode()] for entry in found)
        right = sorted([name, ino] for name, _, ino in right) if right is not None else None
        self.ask(path, "readdir", verdict, listed, right=right)

    def xattrs(self, path, verdict, right):
        right = right or {}
        names = self.ask(path, "listxattr", verdict, lambda: [os.fsencode(name).decode("latin-1") for name in
                                                              os.listxattr(path, follow_symlinks=False)])
        if names is not None and verdict == "is":
            for name, (said, _) in right.items():
                if said == "is" and name not in names:
                    self.fault(path, f"listxattr has no {name!r}")
        for name in names or ():
            if right.get(name, ("gone",))[0] == "gone" and verdict in ("is", "may"):
                self.fault(path, f"listxattr has {name!r}, which is not there")
        for name in {*right, *(names or ())}:
            said, value = right.get(name, ("any", None))
            self.answers += 1
            try:
                got = os.getxattr(path, name.encode("latin-1"), follow_symlinks=False)
            except OSError as error:
                self.errors += said != "gone"
                if name in (names or ()) and verdict == "is" and said in ("is", "any"):
                    self.fault(path, f"listxattr has {name!r}, but getxattr says {errno.errorcode[error.errno]}")
                elif said == "is" and not self.is_weak(path):
                    self.fault(path, f"getxattr {name!r}: {errno.errorcode[error.errno]}")
                continue
            if said in ("not", "gone") or said in ("is", "may") and short(got) != value:
                self.fault(path, f"getxattr {name!r} is {got!r:.80}, but it is {said} {value!r:.80}")

    def content(self, path, size, verdict, spans):
        fd = self.ask(path, "open", "may" if verdict == "not" else verdict, os.open, path, os.O_RDONLY)
        if fd is None:
            return
        try:
            if verdict == "not":
                self.ask(path, "read after open", "not", os.pread, fd, 10, 0)
                return
            ways = [os.pread, self.mapped]
            for way in ways:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                advice = os.POSIX_FADV_RANDOM if way is self.mapped else os.POSIX_FADV_NORMAL
                os.posix_fadvise(fd, 0, 0, advice)
                at = 0
                for length, digest, said in spans[:64]:
                    if way is self.mapped and at + length > END:
                        break
                    self.span(path, fd, way, at, length, digest, said)
                    at += length
        finally:
            os.close(fd)

    def span(self, path, fd, way, at, length, right, said):
        """A part of a file. `right` is the SHA-256 of it, or those of all that may be read of it, by their lengths."""
        what = f"{way.__name__} of {length} at {at}"
        if length > MOST:
            length, right = 4096, "zero" if right == "zero" else None
        verdict = "any" if isinstance(right, dict) else said
        answer = self.ask(path, what, verdict, way, fd, length, at, more=(errno.EFAULT,))
        if answer is None or right is None or said == "any":
            return
        if isinstance(right, dict):
            is_right = hashlib.sha256(answer).hexdigest() == right.get(str(len(answer)))
            self.errors += len(answer) < length
        elif right == "zero":
            is_right = answer.count(0) == len(answer) == length or said == "may" and answer.count(0) == len(answer) > 0
        else:
            is_right = len(answer) == length and hashlib.sha256(answer).hexdigest() == right
        if not is_right:
            self.fault(path, f"{what}: {len(answer)} bytes, not those of the image")

    def mapped(self, fd, length, at):
        """By page faults, which would kill us: the kernel reads from the map for us, and says EFAULT."""
        begin = at // mmap.PAGESIZE * mmap.PAGESIZE
        size = at + length - begin
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, begin)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        try:
            libc.madvise(address, size, 1)  # MADV_RANDOM
            os.ftruncate(self.memory, 0)
            os.lseek(self.memory, 0, os.SEEK_SET)
            done = 0
            while done < length:
                wrote = libc.write(self.memory, address + (at - begin) + done, length - done)
                if wrote <= 0 and not done:
                    raise OSError(ctypes.get_errno() or errno.EFAULT, "a page fault")
                if wrote <= 0:
                    break
                done += wrote
            return os.pread(self.memory, done, 0)
        finally:
            libc.munmap(address, size)
