#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images; memory 2G
# shows: files of the same content in several images have one page cache, if their chunks are in
# the same place, or their mounts in the same domain; and what must not come of that.

import contextlib
import ctypes
import errno
import json
import mmap
import os
import random
import shutil
import subprocess
import threading

import mountapi
from case import SANITIZERS, check, drop_caches, equal
from pagecache import PAGE, Map, cached
from probe import Uprobe

LAYOUT, APART, MNT = "/scratch/layout", "/scratch/apart", "/mnt/shared"
FILES = {}
SMALL = {}  # they have a few chunks in common


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def trees():
    """Two trees with common files by other names, and one that is alike but for its content."""
    rng = random.Random(31)
    words = [rng.randbytes(6).hex().encode() for _ in range(500)]
    FILES["text"] = b" ".join(rng.choices(words, k=400_000))
    FILES["noise"] = rng.randbytes(2_000_000)
    with open("/bin/busybox", "rb") as f:
        FILES["busybox"] = f.read()
    FILES["sparse"] = FILES["noise"][:300_000] + bytes(4 << 20) + FILES["noise"][-300_000:]
    SMALL.update((f"{number:03}", rng.randbytes(rng.randrange(1, 1500)).hex().encode()) for number in range(300))
    for tree, other in ("one", ""), ("two", "moved/"):
        os.makedirs(f"/scratch/{tree}/{other}", exist_ok=True)
        for name in FILES:
            path = f"/scratch/{tree}/{other}{name}"
            with open(path, "wb") as f:
                if name == "sparse":
                    f.write(FILES[name][:300_000])
                    f.seek(4 << 20, os.SEEK_CUR)
                    f.write(FILES[name][-300_000:])
                else:
                    f.write(FILES[name])
            os.chmod(path, 0o755 if tree == "one" else 0o555)
        os.mkdir(f"/scratch/{tree}/{other}small")
        for name, content in SMALL.items():
            with open(f"/scratch/{tree}/{other}small/{name}", "wb") as f:
                f.write(content)
        # One chunk in each image, of the same size.
        FILES[f"{tree}'s"] = random.Random(tree).randbytes(50_000)
        with open(f"/scratch/{tree}/own", "wb") as f:
            f.write(FILES[f"{tree}'s"])
    shutil.copy("/scratch/one/text", "/scratch/one/copy")


def build(tree, layout):
    # The default puts small files together by their paths, which differ here. This profile goes by content.
    run("puzzlefs", "build", "--profile=fast", f"/scratch/{tree}", f"{layout}:{tree}")


def blobs(layout):
    top = f"{layout}/blobs/sha256"
    return [os.path.join(top, name) for name in os.listdir(top)]


@contextlib.contextmanager
def damaged(layout):
    """Every pack of a layout with other bytes in the place of its chunks."""
    kept = {}
    for path in blobs(layout):
        with open(path, "rb") as f:
            data = f.read()
        if data.endswith(b"PzPk"):
            kept[path] = data
    check(kept, f"no packs in {layout}")

    def write(change):
        for path, data in kept.items():
            index = len(data) - 8 - 40 * int.from_bytes(data[-8:-4], "little")
            with open(path, "r+b") as f:
                f.write(change(data[:index]))
    write(lambda chunks: bytes(byte ^ 0x55 for byte in chunks[:4096]) + bytes(max(len(chunks) - 4096, 0)))
    try:
        yield
    finally:
        write(lambda chunks: chunks)


def options(layout, tree, domain=None):
    with open(f"{layout}/index.json") as f:
        digest = next(m["digest"] for m in json.load(f)["manifests"]
                      if m["annotations"]["org.opencontainers.image.ref.name"] == tree)
    found = [("oci_root_dir", layout), ("image_manifest", digest)]
    return found + [("domain_id", domain)] if domain else found


def mounts(*wanted):
    """Mounts of (layout, tree, domain), nothing of them cached, at the paths that it yields."""
    return mountapi.mounts(MNT, *(options(*what) for what in wanted))


def read(path):
    with open(path, "rb", buffering=0) as f:
        return b"".join(iter(lambda: f.read(1 << 20), b""))


def right(path, name=None):
    check(read(path) == FILES[name or os.path.basename(path)], f"{path} has other bytes")


def fails(path):
    try:
        read(path)
    except OSError as error:
        equal(errno.errorcode[error.errno], "EIO", f"the errno of {path}")
    else:
        check(False, f"{path} can be read")


def is_cached(path):
    """Whether all of a file that nobody need have read is in the page cache; none of it is not."""
    fd = os.open(path, os.O_RDONLY)
    try:
        pages, all_of_it = cached(fd), (os.fstat(fd).st_size + PAGE - 1) // PAGE
    finally:
        os.close(fd)
    check(pages in (0, all_of_it), f"{pages} of {all_of_it} pages of {path} are cached")
    return pages > 0


def cached_bytes():
    with open("/proc/meminfo") as f:
        return 1024 * next(int(line.split()[1]) for line in f if line.startswith("Cached:"))


def one_place():
    """Two images of a layout."""
    with mounts((LAYOUT, "one"), (LAYOUT, "two")) as (one, two):
        for name in "text", "noise", "busybox":
            check(not is_cached(f"{two}/moved/{name}"), f"{name} is cached before it is read")
            right(f"{one}/{name}")
            check(is_cached(f"{two}/moved/{name}"), f"{name} of the other image is not cached")
        check(is_cached(f"{one}/copy"), "the file's copy in the image is not cached")
        with damaged(LAYOUT):  # where reading a chunk would be noticed
            before = cached_bytes()
            for name in "text", "noise", "busybox":
                right(f"{two}/moved/{name}")
            grown = cached_bytes() - before
        check(grown < 1_000_000, f"reading them again took {grown} bytes of page cache")
        # Of the same size, and cut in the same way.
        right(f"{one}/own", "one's")
        check(not is_cached(f"{two}/own"), "another content is shared")
        right(f"{two}/own", "two's")


def domains():
    """Images of two layouts: only in one domain, and then not with others."""
    for first, second, shared in ((None, None, False), ("x", "x", True), ("x", "y", False), ("x", None, False)):
        with mounts((LAYOUT, "one", first), (APART, "two", second)) as (one, two):
            right(f"{one}/text")
            equal(is_cached(f"{two}/moved/text"), shared, f"sharing of the domains {first} and {second}")
            right(f"{two}/moved/text")
    with mounts((LAYOUT, "one", "x"), (LAYOUT, "one", "y"), (LAYOUT, "one", "x")) as paths:
        devices = [os.stat(path).st_dev for path in paths]
        check(devices[0] == devices[2] != devices[1], "a superblock is in two domains")
        with open("/proc/mounts") as f:
            shown = [line for line in f if line.split()[1] in paths]
        check(["domain_id=x" in line for line in shown] == [True, False, True], f"shown are {shown}")
        remount = subprocess.run(["mount", "-o", "remount,domain_id=y", paths[0]], stderr=subprocess.DEVNULL)
        equal(remount.returncode, 32, "the status of a remount in another domain")
        run("mount", "-o", "remount", paths[0])
    for bad in "a b", "a,b", "n" * 65, "":
        try:
            mountapi.mount(options(LAYOUT, "one") + [("domain_id", bad)], f"{MNT}/0")
            check(False, f"the domain {bad!r} was taken")
        except mountapi.MountError as error:
            equal(errno.errorcode[error.errno], "EINVAL", f"the errno of the domain {bad!r}")


def possession():
    """Who has not got the chunks that he names sees nothing of them, but in a domain."""
    wanted = (LAYOUT, "one"), (LAYOUT, "one", "x"), (APART, "two"), (APART, "two", "x")
    with mounts(*wanted) as (one, one_in_x, two, two_in_x):
        right(f"{one}/text")
        right(f"{one_in_x}/text")
        with damaged(APART):
            fails(f"{two}/moved/text")
            right(f"{two_in_x}/moved/text")


def faults():
    """A damaged chunk is the fault of one image; the other one's readers are not hurt."""
    with mounts((LAYOUT, "one", "x"), (APART, "two", "x")) as (one, two):
        with damaged(LAYOUT), open(f"{one}/text", "rb", buffering=0) as f, Map(f.fileno()) as area:
            fails(f"{one}/text")
            right(f"{two}/moved/text")
            right(f"{one}/text")
            check(area.bytes() == FILES["text"], "a map of the one has other bytes")
        drop_caches()
        with damaged(LAYOUT):  # both at once
            failed = []
            reader = threading.Thread(target=lambda: [failed.append(1) for _ in range(20) if attempt(f"{one}/text")])
            reader.start()
            for _ in range(20):
                right(f"{two}/moved/text")
                drop_caches()
            reader.join()
            print(f"beside a reader whose chunks are damaged, who failed {len(failed)} times")


def attempt(path):
    try:
        right(path)
        return False
    except OSError:
        return True


def small_right(root):
    for name, content in SMALL.items():
        check(read(f"{root}/small/{name}") == content, f"{root}/small/{name} has other bytes")


def small_files():
    """Files that have a chunk in common are read from that one's page cache."""
    size = sum(map(len, SMALL.values()))
    wanted = (LAYOUT, "one"), (LAYOUT, "two"), (LAYOUT, "one", "x"), (APART, "two"), (APART, "two", "x")
    with mounts(*wanted) as (one, two, one_in_x, two_apart, two_apart_in_x):
        os.stat(f"{one}/small/000")
        before = cached_bytes()
        small_right(one)
        grown = cached_bytes() - before
        check(grown < 1.15 * size + 400_000, f"{size} bytes of small files took {grown} bytes of page cache")
        check(not any(is_cached(f"{one}/small/{name}") for name in SMALL), "small files have pages of their own")
        small_right(two + "/moved")
        equal(chunks_read(two), 0, "how many chunks were read for the other image")
        small_right(one_in_x)
        equal(chunks_read(one_in_x), chunks_read(one), "how many were for that in a domain")
        with damaged(APART):
            fails(f"{two_apart}/moved/small/007")
            small_right(two_apart_in_x + "/moved")
        drop_caches()
        with damaged(LAYOUT):
            fails(f"{one}/small/007")
    with mounts((LAYOUT, "one")) as (one,):
        for name in "007", "008", "299":
            as_one_file(f"{one}/small/{name}", SMALL[name])


def chunks_read(root):
    device = os.stat(root).st_dev
    with open(f"/sys/fs/puzzlefs/{os.major(device)}:{os.minor(device)}/chunks_verified") as f:
        return int(f.read())


def as_one_file(path, content):
    """A small file by all ways to its bytes, with pages of its own or without."""
    size = len(content)
    with open(path, "rb", buffering=0) as f:
        def reads():
            for start, length in (0, size), (0, 1), (1, size), (size - 1, 9), (size // 2, size), (size, 1), (size + PAGE, 1):
                equal(os.pread(f.fileno(), length, start), content[start:start + length], f"{length} bytes at {start}")
            with mmap.mmap(-1, 2 * PAGE) as area:
                equal(os.preadv(f.fileno(), [memoryview(area)[:3], memoryview(area)[PAGE:PAGE + 7]], 5), min(10, size - 5), "preadv")
                equal(area[:3] + area[PAGE:PAGE + 7], content[5:15], "what preadv(2) has read")
            equal(into_half_a_buffer(f.fileno(), 5), 5, "what read(2) says if there is room for 5 bytes")
            equal(into_half_a_buffer(f.fileno(), 0), "EFAULT", "what read(2) says if there is no room")
        reads()
        check(not is_cached(path), "read(2) has made pages")
        drop_caches()
        reads()
        with Map(f.fileno()) as area:
            check(area.bytes() == content, f"a map of {path} has other bytes")
            check(is_cached(path), "a map has no pages of the file")
            reads()
        with open("/scratch/sent", "wb") as sent:
            os.sendfile(sent.fileno(), f.fileno(), 0, size)
        check(read("/scratch/sent") == content, "sendfile(2) has sent other bytes")
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        check(not is_cached(path), "pages are left after POSIX_FADV_DONTNEED")
        reads()


def into_half_a_buffer(fd, room):
    """What pread(2) gives for a buffer of a page, all but `room` bytes of which are not mapped."""
    libc = mountapi.libc
    start = libc.mmap(None, 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    equal(libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, 0), 0, "mprotect")
    got = libc.pread(fd, ctypes.c_void_p(start + PAGE - room), PAGE, ctypes.c_long(0))
    error = errno.errorcode.get(ctypes.get_errno())
    libc.munmap(start, 2 * PAGE)
    return got if got >= 0 else error


def goes():
    """The first mount goes, by umount(8) and lazily under an open file."""
    with mounts((LAYOUT, "one"), (LAYOUT, "two")) as (one, two):
        with open(f"{two}/moved/text", "rb", buffering=0) as f, Map(f.fileno()) as area:
            right(f"{one}/text")
            run("umount", one)
            check(sum(area.in_core()) == len(area.in_core()), "what the first had read went with it")
            check(area.bytes() == FILES["text"], "the map has other bytes")
            area.advise(mmap.MADV_DONTNEED)
            drop_caches()
            check(area.bytes() == FILES["text"], "the map has other bytes, read anew")
        mountapi.mount(options(LAYOUT, "one"), one)
        with open(f"{one}/noise", "rb", buffering=0) as f:
            subprocess.run(["umount", "-l", one], check=True)
            drop_caches()
            check(f.read(3_000_000) == FILES["noise"], "an open file of the first has other bytes")
            check(is_cached(f"{two}/moved/noise"), "and shares them no more")
        # What no file had open when its mount went is there for the next one, as long as there
        # is a mount of any image on that filesystem.
        mountapi.mount(options(LAYOUT, "one"), one)
        right(f"{one}/busybox")
        run("umount", one)
        check(is_cached(f"{two}/moved/busybox"), "what the first had read went with it")
    with mounts((LAYOUT, "one")) as (one,):
        right(f"{one}/busybox")
        run("umount", one)
        mountapi.mount(options(LAYOUT, "one"), one)
        check(not is_cached(f"{one}/busybox"), "page cache is left when the last mount is gone")
    # A filesystem that nothing was mounted from meanwhile may be another one with the same numbers. In
    # a domain it does not matter.
    elsewhere = f"{MNT}/elsewhere"
    os.makedirs(elsewhere)
    run("mount", "-t", "tmpfs", "none", elsewhere)
    shutil.copytree(LAYOUT, f"{elsewhere}/layout")
    one = f"{MNT}/1"
    with mounts((APART, "two")):
        for domain in None, "x":
            mountapi.mount(options(f"{elsewhere}/layout", "one", domain), one)
            right(f"{one}/text")
            run("umount", one)
            mountapi.mount(options(f"{elsewhere}/layout", "one", domain), one)
            equal(is_cached(f"{one}/text"), domain is not None, f"page cache that is left, domain {domain}")
            run("umount", one)
    run("umount", elsewhere)


def as_before():
    """What else is done with files, in the second image, the first having read them."""
    with mounts((LAYOUT, "one"), (LAYOUT, "two")) as (one, two):
        for name in FILES:
            if "'" not in name:
                right(f"{one}/{name}")
        path = f"{two}/moved/text"
        fd = os.open(path, os.O_RDONLY)
        with Map(fd), open("/proc/self/maps") as f:
            st = os.fstat(fd)
            entry = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x} {st.st_ino} "
            check(any(line.endswith(f" {path}\n") and entry in line for line in f), "/proc/self/maps has another file")
        with mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as area:
            area[:4] = b"mine"
            right(f"{one}/text")
        with open("/scratch/sent", "wb") as f:
            while os.sendfile(f.fileno(), fd, None, 1 << 20):
                pass
        right("/scratch/sent", "text")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        check(cached(fd) < 100, f"{cached(fd)} pages are left after POSIX_FADV_DONTNEED")
        os.pread(fd, 1, 0)
        check(cached(fd) > 1, "nothing is read ahead")
        os.close(fd)
        try:
            os.open(path, os.O_RDONLY | os.O_DIRECT)
            check(False, "O_DIRECT was taken")
        except OSError as error:
            equal(errno.errorcode[error.errno], "EINVAL", "the errno of O_DIRECT")
        with open(f"{two}/moved/sparse", "rb", buffering=0) as f:
            hole = f.seek(0, os.SEEK_HOLE)
            data = f.seek(hole, os.SEEK_DATA)
            check(300_000 <= hole and 3 << 20 <= data - hole, f"the hole is {hole}..{data}")
            equal(f.seek(0, os.SEEK_END), len(FILES["sparse"]), "the end of the sparse file")
        right(f"{two}/moved/sparse")
        programs(one, two)


def programs(one, two):
    """exec; and a probe in the one's program, which the other's must not meet."""
    for program in f"{one}/busybox", f"{two}/moved/busybox":
        equal(run(program, "echo", "hello"), "hello", f"what {program} says")
    if SANITIZERS:
        return print("no probes: this kernel has none")
    with Uprobe(f"{one}/busybox") as probe:
        for program, hits in (f"{two}/moved/busybox", 0), (f"{one}/busybox", 1), (f"{two}/moved/busybox", 1):
            equal(run(program, "echo", "hello"), "hello", f"what {program} says, with a probe")
            equal(probe.hits(), hits, "how often the probe was hit")


def overlay():
    """Below overlayfs; also copied up, mapped, executed."""
    with mounts((LAYOUT, "one"), (LAYOUT, "two")) as (one, two):
        for name in "upper", "work", "merged":
            os.makedirs(f"/scratch/overlay/{name}", exist_ok=True)
        run("mount", "-t", "overlay", "-o", f"lowerdir={one},upperdir=/scratch/overlay/upper,workdir=/scratch/overlay/work",
            "none", "/scratch/overlay/merged")
        merged = "/scratch/overlay/merged"
        try:
            with open(f"{merged}/text", "rb") as f, Map(f.fileno()) as area:
                check(area.bytes() == FILES["text"], "the map through overlayfs has other bytes")
            check(is_cached(f"{two}/moved/text"), "what overlayfs has read is not shared")
            equal(run(f"{merged}/busybox", "echo", "hello"), "hello", "what the program below overlayfs says")
            with open(f"{merged}/text", "r+b") as f:
                f.write(b"mine")
            check(read(f"{merged}/text") == b"mine" + FILES["text"][4:], "the file that was copied up is wrong")
            right(f"{two}/moved/text")
        finally:
            run("umount", merged)


def at_once():
    """First opens, reads, and mounts that come and go, from several tasks at once."""
    done = threading.Event()

    def reader(root, names):
        while not done.is_set():
            for name in names:
                right(f"{root}/{name}")

    def dropper():
        while not done.wait(0.3):
            drop_caches()

    with mounts((LAYOUT, "two"), (APART, "two", "x"), (LAYOUT, "two", "x")) as paths:
        failed = []

        def guarded(function, *arguments):
            try:
                function(*arguments)
            except BaseException as error:  # check() exits
                failed.append(error)
                done.set()
        names = [f"moved/{name}" for name in ("text", "noise", "busybox")]
        threads = [threading.Thread(target=guarded, args=(reader, path, names[::step]))
                   for path, step in zip(paths * 2, (1, -1, 1, -1, 1, -1))]
        threads.append(threading.Thread(target=guarded, args=(dropper,)))
        for thread in threads:
            thread.start()
        os.makedirs(f"{MNT}/guest", exist_ok=True)
        for number in range(10):
            mountapi.mount(options(LAYOUT, "one", (None, "x")[number % 2]), f"{MNT}/guest")
            right(f"{MNT}/guest/text")
            subprocess.run(["umount", f"{MNT}/guest"], check=True)
        done.set()
        for thread in threads:
            thread.join()
        check(not failed, f"a reader failed: {failed}")


def many():
    """A mount keeps the page caches of 16,384 chunks, and reads the files of others as well."""
    if SANITIZERS:
        return print("not that many: this kernel takes its time")
    most = 1 << 14
    os.mkdir("/scratch/many")
    content = random.Random(5).randbytes(5000)
    # Each has a chunk to itself, and is small.
    names = {f"{number:05}": content[number % 3000:][:1100] + b"%d" % number for number in range(most + 500)}
    for name, data in names.items():
        with open(f"/scratch/many/{name}", "wb") as f:
            f.write(data)
    run("puzzlefs", "build", "--chunk-size=4096", "--compression=none", "/scratch/many", f"{LAYOUT}:many")
    before = kept()
    with mounts((LAYOUT, "many")) as (path,):
        for _ in range(2):
            for name, data in names.items():
                with open(f"{path}/{name}", "rb") as f:
                    check(f.read() == data, f"{name} is not what was written")
        drop_caches()
        # One more for the superblock's root, and some for who was there before.
        check(most <= kept() - before <= most + 8, f"{kept() - before} chunks have a page cache, not {most}")
    equal(kept(), before, "page caches of chunks after the umount")


def kept():
    """How many page caches of files and chunks there are."""
    drop_caches()
    with open("/sys/kernel/slab/puzzlefs_shared_inode_cache/shrink", "w") as f:
        f.write("1")
    with open("/proc/slabinfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("puzzlefs_shared_inode_cache "))


trees()
build("one", LAYOUT)
build("two", LAYOUT)
build("two", APART)
for test in one_place, domains, possession, small_files, faults, goes, as_before, overlay, at_once, many:
    test()
    print(f"{test.__name__}: {test.__doc__.splitlines()[0]}", flush=True)
print("one content, one page cache")
