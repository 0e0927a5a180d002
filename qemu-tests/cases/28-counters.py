#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 2G
# shows: /sys/fs/puzzlefs has a directory for each superblock, as long as it is mounted, and its
# counters say what was done; `puzzlefs stats` says the same; a damaged chunk is counted, and
# logged by mount, inode and digest, whatever another image does to the log.

import errno
import fcntl
import hashlib
import json
import os
import random
import re
import subprocess
import threading
import time

from case import Logged, check, drop_caches, equal

SCRATCH, SYSFS = "/scratch/counters", "/sys/fs/puzzlefs"
LAYOUT, PAGE = f"{SCRATCH}/oci", 4096
FS_IOC_GETFSSYSFSPATH = 0x80811501
CHUNK = re.compile(r"puzzlefs \(([0-9:]+)\): (inode \d+|metadata): chunk sha256:([0-9a-f]{64}): (.*)")


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def build(name, files, *options):
    """An image, loaded by `inspect`."""
    tree = f"{SCRATCH}/{name}"
    os.mkdir(tree)
    for file, data in files.items():
        with open(os.path.join(tree, file), "wb") as f:
            f.write(data)
    # Each file of this case has a chunk of its own then.
    run("puzzlefs", "build", "--chunk-size=65536", *options, tree, f"{LAYOUT}:{name}")
    os.makedirs(f"/mnt/{name}")
    return json.loads(run("puzzlefs", "inspect", "--format", "json", f"{LAYOUT}:{name}"))


def mount(name):
    run("mount", "-t", "puzzlefs", f"{LAYOUT}:{name}", f"/mnt/{name}")
    return f"/mnt/{name}"


def directory(path):
    device = os.stat(path).st_dev
    return f"{SYSFS}/{os.major(device)}:{os.minor(device)}"


def counters(path):
    """What sysfs shows, numbers as such."""
    found = {}
    for name in os.listdir(directory(path)):
        with open(f"{directory(path)}/{name}") as f:
            text = f.read()
        equal(text.count("\n"), 1, f"the number of lines of {name}")
        found[name] = text[:-1] if name == "rootfs" else int(text)
    return found


class Counted:
    """What the counters of a mount grow by meanwhile."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.before = counters(self.path)
        return self

    def __exit__(self, *_):
        after = counters(self.path)
        self.grown = {name: after[name] - count for name, count in self.before.items()
                      if name != "rootfs" and after[name] != count}


def read(path):
    try:
        with open(path, "rb", buffering=0) as f:
            while f.read(1 << 20):
                pass
        return "right bytes"
    except OSError as error:
        return errno.errorcode[error.errno]


def chunks(log):
    """(mount, what for, digest, fault) of each line about a chunk."""
    return [found.groups() for found in map(CHUNK.match, log.lines) if found]


def damage(chunk):
    """Changes a byte of a chunk, wherever in the layout it is stored."""
    blobs = f"{LAYOUT}/blobs/sha256"
    for blob in os.listdir(blobs):
        with open(f"{blobs}/{blob}", "r+b") as f:
            at = f.read().find(chunk)
            if at >= 0:
                f.seek(at)
                f.write(bytes([chunk[0] ^ 1]))
                return
    check(False, "a chunk is not in the layout")


def good_image():
    """One file of some chunks; nothing else is in an image of so little metadata."""
    size = 1 << 20
    # Half of it is noise and stored raw, half is compressed.
    content = random.Random(1).randbytes(size // 2) + random.Random(2).randbytes(size // 8).hex().encode() * 2
    report = build("good", {"file": content})
    root = mount("good")
    subprocess.run(["mount", "--bind", root, "/mnt/again"], check=True)
    equal(os.listdir(SYSFS), [os.path.basename(directory(root))], "what is in /sys/fs/puzzlefs")
    start = counters(root)
    equal((start["rootfs"], start["version"]), (report["rootfs"], report["version"]), "the image")
    equal(start["blobs_open"], 1, "the number of open blobs: one pack")
    with Counted(root) as cold:
        equal(read(f"{root}/file"), "right bytes", "a cold read")
    helped = cold.grown.pop("chunks_helped", 0)
    check(helped <= report["chunks"], f"{helped} of {report['chunks']} chunks were helped with")
    equal(cold.grown, {"chunks_verified": report["chunks"], "bytes_read": report["stored_bytes"], "bytes_filled": size},
          "what a cold read adds")
    with Counted(root) as warm:
        equal(read("/mnt/again/file"), "right bytes", "a warm read")
    equal(warm.grown, {}, "what a warm read adds")

    # The last page again, when it is no longer in memory, but its chunk still in a slot.
    with open(f"{root}/file", "rb", buffering=0) as f:
        for _ in range(2):
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with Counted(root) as slot:
                os.pread(f.fileno(), 1, size - PAGE)
    equal(set(slot.grown) - {"chunks_helped"}, {"bytes_filled", "chunk_hits"}, "what grows by reading a page again")

    # A program may ask the kernel, instead of making the name itself.
    fd = os.open(root, os.O_RDONLY)
    answer = fcntl.ioctl(fd, FS_IOC_GETFSSYSFSPATH, bytes(129))
    os.close(fd)
    equal("/sys/fs/" + answer[1:1 + answer[0]].decode(), directory(root), "what FS_IOC_GETFSSYSFSPATH says")
    return root, report, cold


def command(root):
    """`puzzlefs stats` shows what sysfs does."""
    for path in root, f"{root}/file", "/mnt/again":
        stats = json.loads(run("puzzlefs", "stats", "--format", "json", path))
        equal(stats.pop("device"), os.path.basename(directory(root)), f"the device of {path}")
        equal(stats, counters(root), f"what is counted of {path}")
    text = run("puzzlefs", "stats", root)
    check(re.search(rf"^chunks verified +{stats['chunks_verified']}$", text, re.M), text)
    failed = subprocess.run(["puzzlefs", "stats", SCRATCH], stderr=subprocess.PIPE, text=True)
    check(failed.returncode == 1 and f"{SCRATCH} is not on a mount of puzzlefs" in failed.stderr, failed.stderr)


def metadata():
    """Metadata in blocks are counted as they are read; a second superblock has its own counters."""
    report = build("names", {f"{i:0200}": b"" for i in range(2000)})
    root = mount("names")
    check(directory(root) != directory("/mnt/good"), "two superblocks have one directory")
    equal(len(os.listdir(SYSFS)), 2, "the number of directories")
    with Counted("/mnt/good") as other:
        for name in os.listdir(root):
            os.stat(f"{root}/{name}")
    found = counters(root)
    equal(found["metadata_blocks"], report["metadata_blocks"], "the blocks of metadata that were loaded")
    check(found["metadata_blocks"] > 5, "those are too few")
    equal(found["chunks_verified"], report["metadata_blocks"], "the chunks that were verified")
    equal(other.grown, {}, "what that adds to another image's counters")
    run("umount", root)


def noise(seed):
    """Stored as it is, and of a size that has a chunk to itself: its digest is the chunk's."""
    return random.Random(seed).randbytes(20000)


def damaged_images():
    """Two images, of many files in a pack and of one that is a blob, all damaged: the digests by path."""
    digests = {}
    for name, layout, seeds in ("many", "packs", range(100, 200)), ("single", "loose", [200]):
        report = build(name, {str(seed): noise(seed) for seed in seeds}, "--layout", layout)
        equal(report["chunks"], len(seeds), f"the number of chunks of {name}")
        root = mount(name)
        for seed in seeds:
            damage(noise(seed))
            digests[f"{root}/{seed}"] = hashlib.sha256(noise(seed)).hexdigest()
    equal(counters(root)["blobs_open"], 0, "the number of open blobs of loose chunks")
    with open(f"{root}/200", "rb"):
        equal(counters(root)["blobs_open"], 1, "that number while a file is open")
    equal(counters(root)["blobs_open"], 0, "that number afterwards")
    drop_caches()
    return digests


def read_damaged(root, files):
    """Reads them all; they fail, and that is counted as it is."""
    with Counted(root) as found:
        for path in files:
            equal(read(path), "EIO", f"reading the damaged {path}")
    check(found.grown.pop("verify_failures") >= len(files), f"too few failures of {len(files)}")
    equal(set(found.grown) - {"chunks_helped"}, {"bytes_read"}, "what else is counted of damaged chunks")


def faults(good):
    """Damaged chunks, many of one image: the log names a few, and yet the one of another image."""
    digests = damaged_images()
    *many, single = digests
    with Logged() as log:
        start = time.monotonic()
        read_damaged("/mnt/many", many)
        read_damaged("/mnt/single", [single])
        seconds = time.monotonic() - start
    want = {(os.path.basename(directory(path)), f"inode {os.stat(path).st_ino}", digest) for path, digest in digests.items()}
    got = [line[:3] for line in chunks(log)]
    check(set(got) <= want and len(set(got)) == len(got), f"these are not the damaged chunks, each once: {got}")
    named = {digest for _, _, digest in got}
    check(digests[single] in named, "another image's chunk is not in the log")
    check(1 < len(got) <= 10 * (seconds // 5 + 2), f"{len(got)} lines in {seconds:.0f} s")
    print(f"{len(got)} lines of {len(want)} damaged chunks in {seconds:.1f} s, such as: {log.lines[0]}", flush=True)

    # What had no room in the log gets it when it is read again. The limit counts in ticks, of which
    # an emulated machine on a busy one may have fewer than its clock says.
    silent = next(path for path in many if digests[path] not in named)
    for _ in range(5):
        time.sleep(6)
        with Logged() as log:
            equal(read(silent), "EIO", "reading it again")
        if log.lines:
            break
    check(any(digests[silent] in line for line in log.lines), f"a chunk that was left out stays so: {log.lines}")
    check(any("callbacks suppressed" in line for line in log.lines), f"how many were left out? {log.lines}")

    os.unlink(f"{LAYOUT}/blobs/sha256/{digests[single]}")
    with Logged() as log, Counted("/mnt/single") as missing:
        equal(read(single), "EIO", "reading a file without its blob")
    equal(missing.grown, {"chunk_errors": 1}, "what a missing chunk adds")
    said = [(digest, fault.replace("Error(2)", "ENOENT")) for _, _, digest, fault in chunks(log)]  # no SYMBOLIC_ERRNAME
    equal(said, [(digests[single], "cannot be opened: ENOENT")], "what the log says of it")
    equal(counters(good)["verify_failures"], 0, "the failures of the other image")
    for name in "many", "single":
        run("umount", f"/mnt/{name}")


def lifetime(root):
    """A directory goes with its superblock, whoever looks at it."""
    path = directory(root)
    held = open(f"{path}/chunks_verified")
    run("umount", "/mnt/again")
    check(os.path.exists(path), "the directory went with a bind mount")
    run("umount", root)
    equal(os.listdir(SYSFS), [], "what is in /sys/fs/puzzlefs after umount")
    try:
        held.read()
        check(False, "a counter of what is unmounted was read")
    except OSError as error:
        equal(error.errno, errno.ENODEV, "the errno of a counter of what is unmounted")
    held.close()

    stop, reads = threading.Event(), 0

    def look():
        nonlocal reads
        while not stop.is_set():
            for device in os.listdir(SYSFS):
                try:
                    for name in os.listdir(f"{SYSFS}/{device}"):
                        with open(f"{SYSFS}/{device}/{name}") as f:
                            reads += bool(f.read())
                except OSError as error:
                    check(error.errno in (errno.ENOENT, errno.ENODEV), f"reading a counter: {error}")

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(30):
        run("umount", mount("good"))
    stop.set()
    looking.join()
    check(reads, "no counter was read")
    run("rmmod", "puzzlefs")
    check(not os.path.exists(SYSFS), f"{SYSFS} is there without the module")
    run("insmod", os.environ["PUZZLEFS_MODULE"])
    return reads


os.mkdir(SCRATCH)
os.makedirs("/mnt/again")
root, report, cold = good_image()
command(root)
metadata()
faults(root)
reads = lifetime(root)
print(f"{report['chunks']} chunks counted as they are; {reads} reads of counters beside 30 umounts")
