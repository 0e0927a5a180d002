#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian small small-loose; memory 2G
# shows: `puzzlefs mount --fuse`: a Debian tree equals its source and, in all that stat(2), readdir(3) and
# xattrs show, the same image mounted by the module; reads at random by read(), mmap and splice, four readers,
# programs from it, less than 150 MB of memory; damage is EIO and a line; users without root; each way to unmount.

import errno
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import time

from case import Image, Logged, check, compare, drop_caches, equal, mounted
from fuseguest import servers
from random_reads import opened, readers, reads
from users import User, as_user

TARGET = "/mnt/fuse"
USER = User("user", 1000, 1000)
# One who has a name, which fusermount3 wants.
NOBODY = User("nobody", 65534, 65534)
READS, FILES = 1500, 200
MEMORY = 150_000_000
os.makedirs(TARGET, exist_ok=True)


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def must(*command, **options):
    done = run(*command, **options)
    equal(done.returncode, 0, f"{' '.join(command)} ({done.stdout})")
    return done.stdout


def mounts():
    with open("/proc/mounts") as f:
        return [line.split()[:4] for line in f if " fuse.puzzlefs " in line]


def gone():
    """Nothing is mounted, and whoever served ends."""
    equal(mounts(), [], "what is mounted")
    for _ in range(100):
        if not servers():
            return
        time.sleep(0.1)
    check(False, f"still there: {servers()}")


def tag(image):
    return f"{image.layout}:test"


def fuse(image, *options, target=TARGET):
    must("puzzlefs", "mount", "--fuse", *options, image if isinstance(image, str) else tag(image), target)


def umount(target=TARGET):
    must("puzzlefs", "umount", target)
    gone()


def shown(path, is_root):
    """All that is to be the same of an inode by FUSE and by the module."""
    st = os.lstat(path)
    names = os.listxattr(path, follow_symlinks=False)
    facts = {name: getattr(st, name) for name in (
        "st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blocks", "st_blksize",
        "st_mtime_ns", "st_ctime_ns")}
    facts["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    if stat.S_ISLNK(st.st_mode):
        facts["target"] = os.readlink(path)
    if stat.S_ISDIR(st.st_mode):
        with os.scandir(path) as entries:
            facts["entries"] = [(e.name, e.inode(), e.is_dir(follow_symlinks=False)) for e in entries]
    if stat.S_ISREG(st.st_mode) and is_root:
        facts["extents"] = extents(path, st.st_size)
    return facts


def extents(path, size):
    """Where a file has holes."""
    found, at = [], 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while at < size:
            hole = os.lseek(fd, at, os.SEEK_HOLE)
            found.append(hole)
            try:
                at = os.lseek(fd, hole, os.SEEK_DATA)
            except OSError as error:
                equal(error.errno, errno.ENXIO, "the errno of SEEK_DATA")
                break
            found.append(at)
    finally:
        os.close(fd)
    return found


def same(ours, modules, is_root=True):
    """The two mounts of one image show the same of each path; returns how many there are."""
    todo, count = [b""], 0
    while todo:
        path = todo.pop()
        count += 1
        one, other = (shown(os.path.join(os.fsencode(root), path), is_root) for root in (ours, modules))
        equal(one, other, f"by FUSE, {path!r}")
        for name, _, is_dir in one.get("entries", ()):
            below = os.path.join(path, os.fsencode(name))
            if is_dir:
                todo.append(below)
            else:
                count += 1
                one, other = (shown(os.path.join(os.fsencode(root), below), is_root) for root in (ours, modules))
                equal(one, other, f"by FUSE, {below!r}")
    st, module = os.statvfs(ours), os.statvfs(modules)
    for name in ("f_bsize", "f_blocks", "f_bfree", "f_files", "f_ffree", "f_namemax"):
        equal(getattr(st, name), getattr(module, name), name)
    check(st.f_flag & os.ST_RDONLY, "it is not read-only")
    return count


def random_reads(image):
    with opened(image, TARGET, FILES) as files:
        drop_caches()
        reads(files, 1, READS)
        drop_caches()
        readers(files, READS)


def memory(pid):
    """The most that a process has taken, in bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def debian():
    image = Image("debian")
    fuse(image)
    equal(mounts()[0][:3], [tag(image), TARGET, "fuse.puzzlefs"], "what /proc/mounts shows")
    compare(TARGET, image, least=10000)
    random_reads(image)
    equal(must("chroot", TARGET, "/bin/sh", "-c", "echo shell"), "shell\n", "what a shell of it says")
    equal(must("chroot", TARGET, "/usr/bin/python3", "-c", "import json; print(json.dumps(1))"), "1\n", "what python says")
    with mounted(image) as root:
        count = same(TARGET, root)
    taken = memory(servers()[0])
    check(taken <= MEMORY, f"it took {taken} bytes of memory")
    umount()
    return count, taken


# What a Debian has nothing of.
def tree(top):
    os.makedirs(f"{top}/dir/below")
    for name, mode in (("plain", 0o644), ("setuid", 0o6755), ("private", 0o600), ("acl", 0o640), ("mine", 0o640)):
        pathlib.Path(top, name).write_text(name)
        os.chmod(f"{top}/{name}", mode)
    os.link(f"{top}/plain", f"{top}/dir/linked")
    os.symlink("plain", f"{top}/link")
    os.mkfifo(f"{top}/fifo")
    os.mknod(f"{top}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(f"{top}/disk", stat.S_IFBLK | 0o600, os.makedev(259, 1048575))
    with open(f"{top}/sparse", "wb") as f:
        f.write(os.urandom(10_000))
        f.seek(1 << 20)
        f.write(b"island")
        f.truncate(3 << 20)
    must("setfacl", "-m", "u:1000:r", f"{top}/acl")
    must("setfacl", "-d", "-m", "u:1000:rx", f"{top}/dir")
    os.setxattr(f"{top}/plain", "user.a", b"value")
    os.setxattr(f"{top}/plain", "trusted.t", b"of root")
    os.setxattr(f"{top}/plain", "security.s", b"of a module")
    os.setxattr(f"{top}/link", "trusted.t", b"on a link", follow_symlinks=False)
    os.chown(f"{top}/mine", 1000, 1000)
    os.utime(f"{top}/plain", ns=(0, 1_000_000_001))
    os.utime(f"{top}/dir/below", ns=(0, -5_000_000_007))


def answers(root):
    """What a user may do, and what he is told."""
    found = {}
    for name in ("plain", "private", "acl", "mine", "dir/linked", "dir", "no"):
        path = os.path.join(root, name)
        for what, ask in (("open", lambda p: os.close(os.open(p, os.O_RDONLY))),
                          ("access", lambda p: [os.access(p, mode) for mode in (os.R_OK, os.W_OK, os.X_OK)]),
                          ("listxattr", os.listxattr), ("trusted", lambda p: os.getxattr(p, "trusted.t")),
                          ("none", lambda p: os.getxattr(p, "btrfs.x")), ("unlink", os.unlink),
                          ("write", lambda p: os.open(p, os.O_WRONLY))):
            try:
                found[name, what] = ask(path)
            except OSError as error:
                found[name, what] = errno.errorcode[error.errno]
    return found


def own():
    """A tree of all that there can be, for root and for a user."""
    tree("/scratch/tree")
    must("puzzlefs", "build", "/scratch/tree", "/scratch/oci:own")
    fuse("/scratch/oci:own", "-o", "allow_other")
    digest = must("sh", "-c", "puzzlefs inspect /scratch/oci:own | sed -n 's/^manifest *sha256://p'").strip()
    must("mount", "-i", "-t", "puzzlefs", "-o", f"oci_root_dir=/scratch/oci,image_manifest={digest}", "none", "/mnt/module")
    count = same(TARGET, "/mnt/module")
    for user in (User("root", 0, 0), USER):
        equal(as_user(user, answers, TARGET), as_user(user, answers, "/mnt/module"), f"what {user.name} is told by FUSE")
    must("umount", "/mnt/module")
    umount()
    return count


def damage():
    """A chunk that is not what it was: EIO, once in the log, and nothing else is spoilt."""
    image = Image("small-loose")
    shutil.copytree(image.layout, "/scratch/bad")
    fuse("/scratch/bad:test")
    path, size = max(image.files(), key=lambda found: found[1])
    blobs = sorted(pathlib.Path("/scratch/bad/blobs/sha256").iterdir(), key=lambda blob: -blob.stat().st_size)
    for blob in blobs[:len(blobs) // 2]:
        with open(blob, "r+b") as f:
            f.seek(100)
            byte = f.read(1)
            f.seek(100)
            f.write(bytes([byte[0] ^ 1]))
    failed, right = [], 0
    with Logged() as log:
        for path, size in image.files():
            with open(os.path.join(os.fsencode(image.source), path), "rb") as f:
                want = f.read()
            try:
                with open(os.path.join(os.fsencode(TARGET), path), "rb") as f:
                    check(f.read() == want, f"wrong bytes of {path}")
                right += 1
            except OSError as error:
                equal(error.errno, errno.EIO, "the errno of damage")
                failed.append(path)
    lines = [line for line in log.lines if "/scratch/bad:test: inode" in line]
    check(failed and right, f"{len(failed)} files failed, {right} are right")
    check(lines and all("chunk sha256:" in line for line in lines), f"the log has {lines}")
    check(len(set(lines)) == len(lines) and len(lines) <= 10 * len(failed), f"the log has {lines}")
    umount()
    return len(failed), right


def users():
    """Who is not root mounts by fusermount3, sees it alone, and unmounts it in each way."""
    home = "/scratch/home"
    check(shutil.which("fusermount3"), "there is no fusermount3")
    os.chmod("/dev/fuse", 0o666)  # as udev has it
    os.makedirs(f"{home}/mnt")
    shutil.copytree(Image("small").layout, f"{home}/oci")
    must("chown", "-R", "nobody:nogroup", home)

    def asked(*command):
        done = as_user(NOBODY, lambda: (done := run(*command, cwd=home)) and (done.returncode, done.stdout))
        equal(done[0], 0, f"{' '.join(command)} ({done[1]})")
        return done[1]

    for unmount in (["puzzlefs", "umount", "mnt"], ["fusermount3", "-u", "mnt"]):
        equal(asked("puzzlefs", "mount", "--fuse", "oci:test", "mnt"), "", "mounting by a user")
        source, target, kind, options = mounts()[0]
        equal((source, target, kind), (f"{home}/oci:test", f"{home}/mnt", "fuse.puzzlefs"), "his mount")
        check({"nosuid", "nodev", "ro"} <= set(options.split(",")), f"its options are {options}")
        check("etc" in as_user(NOBODY, os.listdir, f"{home}/mnt"), "he does not see it")
        equal(as_user(User("root", 0, 0), try_list, f"{home}/mnt"), "EACCES", "root without allow_other")
        equal(asked(*unmount), "", f"{unmount}")
        gone()
    # In a user namespace he is root, and needs no program for it.
    script = ("puzzlefs mount --fuse oci:test mnt; ls mnt | grep -c '^etc$'; grep -c fuse.puzzlefs /proc/mounts;"
              "puzzlefs umount mnt")
    equal(asked("unshare", "-rm", "sh", "-euc", script), "1\n1\n",
          "a mount in a user namespace")
    gone()


def try_list(path):
    return os.listdir(path)


def ends():
    """Each way to unmount, and what cannot be mounted."""
    image = Image("small")
    for end in ("puzzlefs umount", "umount", "fusermount3 -u"):
        fuse(image)
        must(*end.split(), TARGET)
        gone()
    # By a line of fstab; again, it is there already.
    with open("/scratch/fstab", "w") as f:
        f.write(f"{tag(image)} {TARGET} fuse.puzzlefs nodev,allow_other,x-systemd.requires-mounts-for=/var 0 0\n")
    for _ in range(2):
        must("mount", "-a", "-T", "/scratch/fstab")
        equal([found[:3] for found in mounts()], [[tag(image), TARGET, "fuse.puzzlefs"]], "what mount -a has mounted")
    check({"nodev", "allow_other"} <= set(mounts()[0][3].split(",")), f"the options are {mounts()}")
    must("umount", TARGET)
    gone()
    equal(run("mount", "-t", "fuse.puzzlefs", f"{image.layout}:none", TARGET).returncode, 32, "the status of mount(8)")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        fuse(image)
        os.kill(servers()[0], number)
        gone_soon()
    # Whoever has a file open when it is killed gets an error, and what is left can be unmounted.
    fuse(image)
    with open(f"{TARGET}/etc/passwd", "rb"):
        equal(run("puzzlefs", "umount", TARGET).returncode, 5, "unmounting what is in use")
        os.kill(servers()[0], signal.SIGKILL)
        time.sleep(0.5)
    must("puzzlefs", "umount", TARGET)
    gone()
    # In the foreground.
    server = subprocess.Popen(["puzzlefs", "mount", "--fuse", "-f", "-o", "nosuid,nodev,noexec", tag(image), TARGET])
    while not mounts():
        time.sleep(0.1)
    check({"nosuid", "nodev", "noexec"} <= set(mounts()[0][3].split(",")), f"the options are {mounts()}")
    equal(server.poll(), None, "the server in the foreground")
    must("umount", TARGET)
    equal(server.wait(10), 0, "the status of the server in the foreground")
    for what, status, *command in (
            ("no such tag", 4, f"{image.layout}:none", TARGET), ("no mount point", 4, tag(image), "/mnt/none"),
            ("an option that nobody knows", 1, "-o", "nothing=1", tag(image), TARGET),
            ("two ways", 64, "--overlay", "/scratch/upper", tag(image), TARGET)):
        done = run("puzzlefs", "mount", "--fuse", *command)
        equal(done.returncode, status, f"the status of {what} ({done.stdout})")
        check(done.stdout.startswith(("puzzlefs: error: ", "error: ")), f"of {what} is said: {done.stdout}")
        gone()


def gone_soon():
    for _ in range(100):
        if not mounts():
            return gone()
        time.sleep(0.1)
    check(False, f"still mounted: {mounts()}")


os.makedirs("/mnt/module", exist_ok=True)
users()
ends()
print("files that failed and that were right:", damage())
print("entries of a tree of everything:", own())
count, taken = debian()
print(f"{count} entries by FUSE are as by the module; it took {taken >> 20} MiB at most")
