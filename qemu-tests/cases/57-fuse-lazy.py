#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 3G
# shows: `puzzlefs mount --fuse` of lazy images from Debian's docker-registry. All of a tree of which nothing was fetched is
# as its source; the server is killed while four readers go through it, and mounted again: no wrong byte, and packs that are
# what their names say. A user mounts docker:// by way of a cache, whose second mount fetches no chunk, also without the
# registry. What one image fetched another one from the same cache copies. A line of fstab mounts an image from a web server.
# What nobody gives is EIO after its time, or waits, and who waits can be killed; so it is on a full disk. With a daemon beside it.

import errno
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

from badproxy import Proxy
from case import check, compare, equal, mounted
from fuseguest import servers
from lazyguest import IMAGE, TREE, Lazy, Reader, daemon, digest, is_completed, largest, path_of, puzzlefs
from registries import Registry
from users import User, as_user
from webserver import Web

TARGET = "/mnt/fuse"
# One who has a name, which fusermount3 wants.
NOBODY = User("nobody", 65534, 65534)
# What readers get while their server is killed.
DEAD = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENOENT}
KILLS = 8


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return done.returncode, done.stdout


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{what} has not come about in {seconds} s")
        time.sleep(0.1)


def pull(name, source):
    lazy = Lazy(name)
    puzzlefs("pull", "--lazy", "--plain-http", source, f"{lazy.layout}:test")
    check(len(lazy.records()) > 0, "nothing is missing")
    return lazy


def fuse(lazy, *options):
    puzzlefs("mount", "--fuse", "--plain-http", "--retry-times", "0", *options, f"{lazy.layout}:test", TARGET)


def umount():
    puzzlefs("umount", TARGET)
    wait_for("the end of the server", lambda: not servers())


def chunks(proxy):
    """Requests for bytes of packs since it was asked last."""
    found = [path for method, path, headers in proxy.log if "/blobs/" in path]
    proxy.reset(proxy.mode)
    return len(found)


def all_of_it(proxy, source):
    lazy = pull("lazy", source)
    chunks(proxy)
    fuse(lazy)
    count = compare(TARGET, lazy, least=2000)
    first = chunks(proxy)
    umount()
    check(first > 0, "nothing was asked for")
    # What one mount has fetched the next one has.
    fuse(lazy)
    compare(TARGET, lazy, least=2000)
    equal(chunks(proxy), 0, "requests of the second mount")
    umount()
    is_completed(lazy, "--plain-http")
    print(f"all: {first} requests for a tree; a second mount makes none")
    return count


def killed(proxy, source):
    lazy, deaths, rng, read = pull("killed", source), 0, random.Random(1), 0

    def slow(_):
        time.sleep(0.05)

    proxy.mode = slow
    while True:
        fuse(lazy, "--timeout", "600")
        readers = [Reader(TARGET, seed) for seed in range(4)]
        if deaths < KILLS:
            time.sleep(rng.uniform(0.5, 3))
            for pid in servers():
                os.kill(pid, signal.SIGKILL)
            deaths += any(reader.is_alive() for reader in readers)
        for reader in readers:
            reader.join()
            read += reader.bytes
            check(set(reader.errors) <= (DEAD if deaths else set()), f"{set(reader.errors)}: {reader.faults[:3]}")
            equal(len(reader.faults), len(reader.errors), f"other bytes: {reader.faults}")
        if not any(reader.errors for reader in readers):
            break
        puzzlefs("umount", TARGET)
    check(deaths > 3, f"only {deaths} servers were killed: the tree was read too fast")
    umount()
    proxy.mode = None
    is_completed(lazy, "--plain-http")
    print(f"killed: {deaths} servers, {read} bytes read by four, all right")


def as_nobody(*command, **env):
    home = "/scratch/home"
    env = {"HOME": home, "PATH": os.environ["PATH"], **env}
    status, out = as_user(NOBODY, lambda: run(*command, cwd=home, env=env))
    return status, out


def readable(root):
    """How many of the files a user can read, and those with other bytes."""
    count, wrong = 0, []
    for name, entry in TREE.items():
        try:
            with open(path_of(root, name), "rb") as f:
                found = digest(f)
        except PermissionError:
            continue
        except OSError as error:
            wrong.append(f"{name}: {error}")
            continue
        count += 1
        if found != entry["sha256"]:
            wrong.append(f"{name}: other bytes")
    return count, wrong


def cached(proxy, source):
    """A user, who has no layout and no daemon."""
    os.chmod("/dev/fuse", 0o666)  # as udev has it
    os.makedirs("/scratch/home/mnt")
    for path in "/scratch/home", "/scratch/home/mnt":
        os.chown(path, NOBODY.uid, NOBODY.gid)
    os.chmod("/scratch", 0o755)
    mount = "puzzlefs", "mount", "--fuse", "--plain-http", "--retry-times", "0"

    def mount_and_read(*options, words=""):
        status, out = as_nobody(*mount, *options, source, "mnt")
        check(status == 0 and words in out, f"status {status}: {out}")
        count, wrong = as_user(NOBODY, readable, "/scratch/home/mnt")
        equal(wrong, [], "what a user has read")
        check(count > 1500, f"{count} files could be read")
        with open("/proc/mounts") as f:
            check(any(line.split()[0] == source for line in f), "what the mount table calls it")
        equal(as_nobody("puzzlefs", "umount", "mnt"), (0, ""), "unmounting")
        wait_for("the end of the server", lambda: not servers())

    chunks(proxy)
    mount_and_read()
    first = chunks(proxy)
    check(first > 5, f"{first} requests for blobs")
    check(os.path.exists("/scratch/home/.cache/puzzlefs/images/oci-layout"), "there is no cache")
    mount_and_read()
    equal(chunks(proxy), 0, "requests for blobs of the second mount")
    # A layout of somebody else, who has the same, and may not be written to.
    lazy = Lazy("lazy-of-root")
    puzzlefs("pull", "--lazy", "--plain-http", source, f"{lazy.layout}:test")
    status, out = as_nobody("puzzlefs", "mount", "--fuse", f"{lazy.layout}:test", "mnt")
    check(status == 5 and "--cache" in out, f"status {status}: {out}")
    proxy.mode = lambda request: request.answer(503)
    mount_and_read(words="mounted as it was")
    # What is named by a digest asks for nothing at all.
    name = source.rsplit(":", 1)[0] + f"@sha256:{IMAGE.digest}"
    status, out = as_nobody(*mount, name, "mnt")
    check(status != 0, f"an image that was never pulled: {out}")
    proxy.mode = None
    equal(as_nobody(*mount, "--fill", "--cache", "own", name, "mnt"), (0, ""), "mounting by a digest")
    records = pathlib.Path("/scratch/home/own/puzzlefs-lazy")
    wait_for("what nobody has read", lambda: not list(records.iterdir()))
    equal(as_nobody("puzzlefs", "umount", "mnt"), (0, ""), "unmounting")
    wait_for("the end of the server", lambda: not servers())
    proxy.reset(lambda request: request.answer(503))
    equal(as_nobody(*mount, "--cache", "own", name, "mnt"), (0, ""), "mounting by a digest without a registry")
    equal(as_user(NOBODY, readable, "/scratch/home/mnt")[1], [], "what a user has read")
    equal(len(proxy.log), 0, "requests for what is here")
    equal(as_nobody("puzzlefs", "umount", "mnt"), (0, ""), "unmounting")
    proxy.mode = None
    print(f"cached: {first} requests for blobs, then none")


def related(proxy, source):
    """The same files in other packs: from one cache no chunk comes twice."""
    with mounted(IMAGE) as root:
        puzzlefs("build", "--pack-size", "900K", root, "/scratch/other:test")
    packs = [set(image.packs()) for image in (Lazy("lazy"), Lazy("other", "test"))]
    check(len(packs[1] - packs[0]) > 3, f"the same packs: {packs}")
    puzzlefs("push", "--plain-http", "/scratch/other:test", f"docker://{proxy.target}/a/small:2")
    mount = "mount", "--fuse", "--plain-http", "--cache", "/scratch/related"
    puzzlefs(*mount, source, TARGET)
    compare(TARGET, IMAGE, least=2000)
    umount()
    puzzlefs(*mount, source.replace(":1", ":2"), TARGET)
    chunks(proxy)
    compare(TARGET, IMAGE, least=2000)
    equal(chunks(proxy), 0, "requests for chunks that the other image has")
    umount()
    tags = puzzlefs("tags", "/scratch/related")
    check(all(f"docker/{proxy.host}/a/small:{tag}" in tags for tag in (1, 2)), tags)
    print("related: no chunk of the second image came")


def by_fstab(_proxy, _source):
    web = Web()
    source = f"http://127.0.0.1:{web.server_address[1]}/other:test"
    with open("/scratch/fstab", "w") as f:
        f.write(f"{source} {TARGET} fuse.puzzlefs nodev 0 0\n")
    status, out = run("mount", "-a", "-T", "/scratch/fstab", env={**os.environ, "XDG_CACHE_HOME": "/scratch/by-fstab"})
    equal((status, out), (0, ""), "mount -a")
    compare(TARGET, IMAGE, least=2000)
    umount()
    web.close()
    check(os.path.exists("/scratch/by-fstab/puzzlefs/images/index.json"), "there is no cache")
    print(f"by fstab: {len(web.asked)} requests")


def nobody_gives(proxy, source):
    lazy, name = pull("gone", source), largest()
    small = min((it for it in TREE if TREE[it]["size"]), key=lambda it: TREE[it]["size"])
    proxy.mode = lambda request: request.answer(503)
    fuse(lazy, "--timeout", "2")
    begin = time.monotonic()
    reader = Reader(TARGET, 0, [name])
    reader.join(60)
    equal(reader.errors, [errno.EIO], "the error of what nobody gives")
    check(1.5 < time.monotonic() - begin < 40, "it took another time")
    umount()
    fuse(lazy, "--on-failure", "wait")
    # Many that wait keep nobody from looking; and who waits can be killed.
    waiting = [subprocess.Popen(["cat", path_of(TARGET, name)], stdout=subprocess.DEVNULL) for _ in range(40)]
    time.sleep(3)
    check(all(process.poll() is None for process in waiting), "who waits has ended")
    begin = time.monotonic()
    check(os.path.exists(path_of(TARGET, small)), "a file is not there")
    os.listdir(f"{TARGET}/etc")
    check(time.monotonic() - begin < 5, "whoever looks at names waits for chunks")
    for process in waiting[1:]:
        process.kill()
    for process in waiting[1:]:
        equal(process.wait(10), -signal.SIGKILL, "who was killed")
    reader = Reader(TARGET, 0, [name])
    time.sleep(1)
    check(reader.is_alive(), "a reader does not wait")
    proxy.mode = None
    reader.join(60)
    equal((reader.faults, reader.bytes), ([], TREE[name]["size"]), "what was read when it was back")
    equal(waiting[0].wait(30), 0, "who has waited for longest")
    umount()
    print("nobody gives: EIO, or a wait that ends")


def full(_, source):
    """There is no space for what comes: that is as if nobody gave it, and goes on when there is some."""
    disk = "/scratch/full"
    # The largest ones have few bytes as stored, for which there is a place beside others.
    names = sorted(TREE, key=lambda name: -TREE[name]["size"])[:12]
    os.makedirs(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M", "none", disk], check=True)
    lazy = pull("full/layout", source)
    with open(f"{disk}/filler", "wb", buffering=0) as f:
        try:
            while f.write(bytes(4096)):
                pass
        except OSError as error:
            equal(error.errno, errno.ENOSPC, "the error of a full disk")
    fuse(lazy, "--timeout", "2")
    reader = Reader(TARGET, 0, names)
    reader.join(120)
    check(len(reader.errors) > 3 and set(reader.errors) == {errno.EIO}, f"errors on a full disk: {reader.errors}")
    check(len(os.listdir(f"{TARGET}/etc")) > 3, "names are gone")
    umount()
    fuse(lazy, "--on-failure", "wait")
    reader = Reader(TARGET, 0, names)
    time.sleep(3)
    check(reader.is_alive(), f"a reader does not wait for space: {reader.faults}")
    os.unlink(f"{disk}/filler")
    reader.join(60)
    equal((reader.faults, reader.bytes), ([], sum(TREE[name]["size"] for name in names)), "what was read when there was space")
    umount()
    is_completed(lazy, "--plain-http")
    subprocess.run(["umount", disk], check=True)
    print("full: EIO, or a wait that ends with the space")


def beside(source):
    """A daemon and two servers over one layout."""
    lazy, other = pull("beside", source), "/mnt/fuse-too"
    os.makedirs(other, exist_ok=True)
    with daemon(lazy, options=("--no-fill",)), mounted(lazy) as root:
        fuse(lazy)
        puzzlefs("mount", "--fuse", "--plain-http", f"{lazy.layout}:test", other)
        readers = [Reader(at, seed) for seed, at in enumerate((root, TARGET, other, TARGET))]
        for reader in readers:
            reader.join()
            equal(reader.faults, [], "what a reader found")
        puzzlefs("umount", other)
        umount()
    is_completed(lazy, "--plain-http")
    print("beside: a daemon and two servers, all bytes right")


os.makedirs(TARGET, exist_ok=True)
with Registry("/scratch") as registry:
    proxy = Proxy(registry.host)
    puzzlefs("push", "--plain-http", f"{IMAGE.layout}:test", f"docker://{registry.host}/a/small:1")
    source = f"docker://{proxy.host}/a/small:1"
    for part in all_of_it, killed, cached, related, by_fstab, nobody_gives, full:
        print(f"{part.__name__} begins", flush=True)
        part(proxy, source)
    print("beside begins", flush=True)
    beside(source)
for name in "lazy", "killed", "lazy-of-root", "gone", "beside", "home", "other", "related", "by-fstab", "full":
    shutil.rmtree(f"/scratch/{name}")
