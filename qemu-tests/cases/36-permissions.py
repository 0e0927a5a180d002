#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-permissions; memory 2G; kernel stock
# shows: what pjdfstest asks of a filesystem that nobody can write to. Every mode and ACL of
# files and directories against every kind of user; setuid, setgid and sticky bits; and the
# errno of every call that would change something. Each cell is that of EROFS.

import ctypes
import fcntl
import os
import struct
import subprocess

from case import check
from mountapi import libc
from peers import outcome, peers
from peers_tree import ACL_GROUP, ACL_PERMISSIONS, ACL_USER, GROUP, OWNER, SPECIAL
from users import User, as_user

USERS = [
    User("root", 0, 0),
    User("owner", OWNER, 9),
    User("group", 9001, GROUP),
    User("supplementary", 9002, 9, (8, GROUP)),
    User("other", 9003, 9),
    User("acl-user", ACL_USER, 9),
    User("acl-group", 9004, 9, (ACL_GROUP,)),
]
NAMED = [f"acl-{user}{group}{mask}" for user in ACL_PERMISSIONS for group in ACL_PERMISSIONS
         for mask in ACL_PERMISSIONS]
MODES = [f"{mode:03o}" for mode in range(0o1000)] + NAMED

libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def opened(path, flags, mode=0o666):
    os.close(os.open(path, flags | os.O_NONBLOCK, mode))  # of a fifo nobody is at the other end
    return "opened"


def accesses(path):
    """faccessat2(2) with AT_EACCESS, for R_OK, W_OK, X_OK and all three."""
    return [os.access(path, wanted, effective_ids=True) for wanted in (4, 2, 1, 7)]


def of_file(path):
    """The files are of a kind that nothing can execute: ENOEXEC, when execve(2) may try."""
    return (accesses(path), *(outcome(opened, path, flags) for flags in
            (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_PATH)),
            outcome(os.execv, path, [path]))


def of_directory(path):
    """Itself, and what is in it. Nothing can be looked up without x, nor listed without r."""
    here = os.getcwd()
    answers = [accesses(path), outcome(lambda: sorted(os.listdir(path))), outcome(os.chdir, path)]
    os.chdir(here)
    return (*answers, outcome(lambda: os.stat(f"{path}/file").st_size), outcome(os.readlink, f"{path}/link"),
            outcome(opened, f"{path}/file", os.O_RDONLY), outcome(opened, f"{path}/file", os.O_RDWR),
            outcome(opened, f"{path}/new", os.O_WRONLY | os.O_CREAT), outcome(os.unlink, f"{path}/file"),
            outcome(os.mkdir, f"{path}/new"), outcome(os.lstat, f"{path}/none"), os.access(f"{path}/file", os.R_OK))


def matrix(root):
    os.chdir(root)
    return {f"{kind}/{name}": ask(f"{kind}/{name}") for name in MODES
            for kind, ask in (("files", of_file), ("directories", of_directory))}


def ioctl(fd, request):
    return fcntl.ioctl(fd, request, bytes(64))


def freeze(fd):
    ioctl(fd, FIFREEZE)
    return ioctl(fd, FITHAW)


FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FS_IOC_GETVERSION, FS_IOC_SETVERSION, FITRIM = 0x80087601, 0x40087602, 0xC0185879
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
FICLONE, FS_IOC_ENABLE_VERITY, FIBMAP, FIONREAD = 0x40049409, 0x40806685, 1, 0x541B
ACCESS_ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in
                                            ((1, 6, 0xFFFFFFFF), (4, 4, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)))
# Calls that take a path, and would change something.
BY_PATH = {
    "open(O_WRONLY)": lambda p: opened(p, os.O_WRONLY),
    "open(O_RDWR)": lambda p: opened(p, os.O_RDWR),
    "open(O_WRONLY|O_APPEND)": lambda p: opened(p, os.O_WRONLY | os.O_APPEND),
    "open(O_RDONLY|O_TRUNC)": lambda p: opened(p, os.O_RDONLY | os.O_TRUNC),
    "open(O_RDONLY|O_CREAT)": lambda p: opened(p, os.O_RDONLY | os.O_CREAT),
    "open(O_CREAT|O_EXCL)": lambda p: opened(p, os.O_RDONLY | os.O_CREAT | os.O_EXCL),
    "open(O_CREAT|O_NOFOLLOW)": lambda p: opened(p, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW),
    "open(O_TMPFILE)": lambda p: opened(p, os.O_RDWR | os.O_TMPFILE),
    "open(O_DIRECTORY)": lambda p: opened(p, os.O_RDONLY | os.O_DIRECTORY),
    "open(O_NOATIME)": lambda p: opened(p, os.O_RDONLY | os.O_NOATIME),
    "truncate": lambda p: os.truncate(p, 0),
    "truncate(longer)": lambda p: os.truncate(p, 1 << 40),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "rename": lambda p: os.rename(p, p + "-new"),
    "rename(onto a file)": lambda p: os.rename(p, "all/file"),
    "rename(onto a directory)": lambda p: os.rename(p, "all/empty"),
    "rename(from)": lambda p: os.rename("all/file", p),
    "rename(into itself)": lambda p: os.rename(p, p + "/below"),
    **{f"renameat2({flag})": lambda p, flag=flag: called(libc.renameat2(-100, p.encode(), -100, b"all/file", flag))
       for flag in (1, 2, 4)},
    "link": lambda p: os.link(p, "all/new", follow_symlinks=False),
    "link(over)": lambda p: os.link("all/file", p),
    "symlink": lambda p: os.symlink("target", p),
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": lambda p: os.mknod(p, 0o20600, os.makedev(1, 3)),
    "chmod": lambda p: os.chmod(p, 0o700),
    "fchmodat2(AT_SYMLINK_NOFOLLOW)": lambda p: called(libc.syscall(452, -100, p.encode(), 0o700, 0x100)),
    "chown": lambda p: os.chown(p, OWNER, GROUP),
    "lchown": lambda p: os.lchown(p, 0, 0),
    "utimensat(times)": lambda p: os.utime(p, ns=(1, 1)),
    "utimensat(now)": os.utime,
    "utimensat(AT_SYMLINK_NOFOLLOW)": lambda p: os.utime(p, ns=(1, 1), follow_symlinks=False),
    **{f"setxattr({name})": lambda p, name=name, value=value: os.setxattr(p, name, value, follow_symlinks=False)
       for name, value in (("user.new", b"1"), ("trusted.new", b"1"), ("security.capability", bytes(20)),
                           ("system.posix_acl_access", ACCESS_ACL), ("unknown.new", b"1"))},
    **{f"removexattr({name})": lambda p, name=name: os.removexattr(p, name, follow_symlinks=False)
       for name in ("user.there", "user.none", "system.posix_acl_access", "trusted.none")},
    "getxattr(unknown.name)": lambda p: os.getxattr(p, "unknown.name"),
    "swapon": lambda p: called(libc.swapon(p.encode(), 0)),
    "mkdir(name of 256 bytes)": lambda p: os.mkdir(p + "/" + "n" * 256),
}
# Calls that take a file, open for reading.
BY_FILE = {
    "write": lambda fd: os.write(fd, b"x"),
    "ftruncate": lambda fd: os.ftruncate(fd, 0),
    "fallocate": lambda fd: os.posix_fallocate(fd, 0, 1),
    "fchmod": lambda fd: os.fchmod(fd, 0o700),
    "fchown": lambda fd: os.fchown(fd, 0, 0),
    "futimens": lambda fd: os.utime(fd, ns=(1, 1)),
    "fsetxattr": lambda fd: os.setxattr(fd, "user.new", b"1"),
    "fremovexattr": lambda fd: os.removexattr(fd, "user.there"),
    "fsync": os.fsync,
    "fdatasync": os.fdatasync,
    "syncfs": lambda fd: called(libc.syncfs(fd)),
    "sync_file_range": lambda fd: called(libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(0), 7)),
    "flock(LOCK_EX)": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "fcntl(F_RDLCK)": lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "fcntl(F_WRLCK)": lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "fcntl(F_SETLEASE, F_RDLCK)": lambda fd: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK),
    "fcntl(F_SETLEASE, F_WRLCK)": lambda fd: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK),
    "fcntl(F_NOTIFY)": lambda fd: fcntl.fcntl(fd, fcntl.F_NOTIFY, fcntl.DN_ACCESS),
    "fcntl(F_SETFL, O_DIRECT)": lambda fd: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT),
    "copy_file_range": lambda fd: os.copy_file_range(fd, fd, 1, 0, 1),
    "linkat(AT_EMPTY_PATH)": lambda fd: called(libc.linkat(fd, b"", -100, b"all/new", 0x1000)),
    "FIFREEZE, FITHAW": freeze,
    "execveat": lambda fd: os.execve(fd, ["file"], {}),
    **{f"ioctl({request:#x})": lambda fd, request=request: ioctl(fd, request) for request in
       (FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETVERSION,
        FS_IOC_SETVERSION, FITRIM, FICLONE, FS_IOC_ENABLE_VERITY, FIBMAP, FIONREAD, 0x1234)},
}
# EROFS holds small files uncompressed: they have a place on its disk, and can be read directly.
DIRECT = {"fcntl(F_SETFL,": "EINVAL", f"ioctl({FIBMAP:#x})": "EINVAL"}
# In directories that let all, only searchers, only readers and nobody in.
PATHS = [f"{directory}/{name}" for directory in ("all", "search", "read", "none", "sticky")
         for name in ("file", "mine", "open", "new", "empty", "full", "link", "dangling", "loop", "fifo",
                      "file/below", "full/../file", "full/.", "file/")]


def on_open_file(path, call):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return call(fd)
    finally:
        os.close(fd)


def changes(root):
    os.chdir(root)
    cells = {}
    for path in PATHS:
        for name, call in BY_PATH.items():
            cells[f"{name} {path}"] = outcome(call, path)
        for name, call in BY_FILE.items():
            cells[f"{name} of {path}"] = outcome(on_open_file, path, call)
    return cells


def executed(root):
    """The user and group ids, real to filesystem, of a program with each of the special bits."""
    os.chdir(root)
    return {f"special/{mode:o}": outcome(lambda: subprocess.run(
        [f"special/{mode:o}", "-E", "^[UG]id", "/proc/self/status"], stdout=subprocess.PIPE).stdout)
        for mode in SPECIAL}


def modes(root):
    """What stat(2) says of all of it."""
    os.chdir(root)
    return {path: (oct(st.st_mode), st.st_uid, st.st_gid) for top, directories, files in os.walk(".")
            for path in (os.path.join(top, name) for name in directories + files) for st in (os.lstat(path),)}


def allowed(name, user):
    """What the bits of a file say, as POSIX has it: the class of a user decides, and no other."""
    mode = int(name, 8)
    if user.uid == OWNER:
        return mode >> 6 & 7
    return mode >> 3 & 7 if GROUP in (user.gid, *user.groups) else mode & 7


def check_modes(cells, user):
    """PuzzleFS and EROFS could be wrong alike: the bits themselves, for plain users."""
    for name in MODES[:0o1000]:
        got, bits = cells[f"files/{name}"], allowed(name, user)
        want = [bool(bits & 4), False, bool(bits & 1), False]
        check(got[0] == want and (got[1] == "opened") == want[0] and (got[-1] == "ENOEXEC") == want[2],
              f"{user.name} and a file of mode {name}: {got}")


def compare(what, probe, user, roots):
    ours, theirs = (as_user(user, probe, root) for root in roots)
    wrong = {key: f"{key}: PuzzleFS says {ours[key]!r}, EROFS {theirs[key]!r}" for key in ours
             if ours[key] not in (theirs.get(key), DIRECT.get(key.split(" ")[0]))}
    for line in list({key.split(" ")[0]: line for key, line in wrong.items()}.values())[:20]:
        print(f"{what}, {user.name}: {line}", flush=True)
    check(not wrong and len(ours) == len(theirs), f"{what}: {len(wrong)} of {len(ours)} cells differ for {user.name}")
    return ours


with peers("permissions", ("puzzlefs", "erofs")) as found:
    roots, cells = list(found.roots.values()), 0
    for probe, users in (modes, USERS[:1]), (matrix, USERS), (changes, [*USERS[:2], USERS[4]]), (executed, USERS[1:]):
        for user in users:
            answers = compare(probe.__name__, probe, user, roots)
            cells += sum(len(a) if isinstance(a, tuple) else 1 for a in answers.values())
            if probe is matrix and user.name in ("owner", "group", "supplementary", "other"):
                check_modes(answers, user)
print(f"{cells} answers are those of EROFS")
