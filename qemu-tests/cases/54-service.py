#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 3G
# shows: `puzzlefs daemon` and where chunks come from. Of an image whose chunks one in another of its layouts has, nothing is
# asked of its source, which is gone. Whoever reads what a directory had that is gone waits, and has right bytes when it
# comes back. What nobody reads comes by the rate that was said, what somebody reads at once. On a full disk a read is
# EIO after its time, or waits until there is space, and the log has a line of that. curl has the numbers of all that.

import errno
import os
import re
import shutil
import signal
import subprocess
import time

from case import check, compare, drop_caches, equal, mounted
from lazyguest import IMAGE, LOG, TREE, Lazy, Reader, daemon, largest, puzzlefs, workers

SOCKET = "/run/puzzlefs/daemon.sock"
ADDRESS = "127.0.0.1:9144"


def pull(layout, tag, source):
    puzzlefs("pull", "--lazy", source, f"{layout}:{tag}")
    return Lazy(os.path.basename(layout), tag)


def log(fresh=False):
    if fresh:
        open(LOG, "w").close()
        return []
    with open(LOG) as f:
        return f.read().splitlines()


def metrics(at=("--unix-socket", SOCKET, "http://daemon/metrics")):
    text = subprocess.run(["curl", "--silent", "--fail", "--retry", "5", "--retry-all-errors", *at],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:{[^}]*})?) (\S+)$", text, re.M)}


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    check(False, f"{what} has not come about in {seconds} s; the log: {log()}")


def build_other(lazy):
    """The same image, with its files' chunks in other packs."""
    with mounted(lazy) as root:
        puzzlefs("build", "--pack-size", "900K", root, "/scratch/other:test")
    packs = [set(image.packs()) for image in (lazy, Lazy("other", "test"))]
    check(len(packs[1] - packs[0]) > 3, f"the same packs: {packs}")


def neighbours():
    """An image of another layout, which the same daemon has."""
    first = pull("/scratch/shared", "one", f"oci:{IMAGE.layout}:test")
    os.mkdir("/scratch/nothing")
    puzzlefs("build", "/scratch/nothing", "/scratch/shared-too:nothing")
    layouts = first, Lazy("shared-too")
    with daemon(*layouts, options=("--no-fill", "--timeout", "20", "--metrics", SOCKET)):
        build_other(first)
        second = pull("/scratch/shared-too", "two", "oci:/scratch/other:test")
        shutil.rmtree("/scratch/other")
        drop_caches()
        with mounted(second) as root:
            compare(root, second, least=2000)
        found = metrics()
    copied, fetched = (found.get(f'puzzlefs_bytes_total{{source="{kind}"}}', 0) for kind in ("node", "oci"))
    check(copied > 1 << 20 and fetched > 1 << 20, f"{found}")
    check(found["puzzlefs_wait_seconds_count"] > 10, f"{found}")
    equal(found["puzzlefs_reads_failed_total"], 0, "reads that failed")
    print(f"neighbours: {fetched} bytes fetched for the first image, {copied} copied for the second")


def gone():
    """A directory that goes away, as a network filesystem does, and comes back."""
    puzzlefs("pull", f"oci:{IMAGE.layout}:test", "/scratch/net:test")
    lazy = pull("/scratch/gone", "test", "oci:/scratch/net:test")
    os.rename("/scratch/net", "/scratch/net-gone")
    log(fresh=True)
    options = "--no-fill", "--on-failure", "wait", "--metrics", SOCKET
    with daemon(lazy, options=options) as process, mounted(lazy) as root:
        reader = Reader(root, 0, [largest()])
        wait_for("a wait", lambda: metrics()["puzzlefs_waiting_readers"] > 0)
        status = puzzlefs("status", lazy.layout)
        check("reads wait" in status and "daemon: 0 reads" not in status, status)
        for pid in workers(process):
            os.kill(pid, signal.SIGKILL)
        wait_for("another worker", lambda: workers(process))
        time.sleep(2)
        check(reader.is_alive(), "a reader has ended whose source is gone")
        found = metrics()
        equal((found["puzzlefs_worker_restarts_total"], found["puzzlefs_waiting_readers"]), (1, 1), "after a restart")
        os.rename("/scratch/net-gone", "/scratch/net")
        reader.join(60)
        equal((reader.faults, reader.bytes), ([], TREE[largest()]["size"]), "what was read when it was back")
    lines = [line for line in log() if "/scratch/net@" in line]
    check(0 < len(lines) < 20, f"{log()}")
    words = re.fullmatch(r"puzzlefs: (.*): the chunk sha256:\w+ of the pack sha256:\w+ from oci:/scratch/net@sha256:\w+: .*", lines[0])
    check(words and words[1] == f"{lazy.layout}:test", lines[0])
    print(f"gone: {len(lines)} lines, {lines[0]}")


def rated():
    lazy = pull("/scratch/rated", "test", "oci:/scratch/net:test")
    def bytes_so_far():
        return metrics([f"http://{ADDRESS}/metrics"]).get('puzzlefs_bytes_total{source="oci"}', 0)

    with daemon(lazy, options=("--rate", "20K", "--metrics", ADDRESS)), mounted(lazy) as root:
        begin = time.monotonic()
        wait_for("a beginning", lambda: bytes_so_far() > 0)
        time.sleep(10)
        came, took = bytes_so_far(), time.monotonic() - begin
        # A request, and what came in this time.
        check(came <= (4 << 20) + took * 20 * 1024, f"{came} bytes in {took} s")
        check(len(lazy.records()) > 0, "all is here: the image is too small for this")
        reader = Reader(root, 0, [largest()])
        reader.join(60)
        equal(reader.faults, [], "what a reader found")
    print(f"rate: {came:.0f} bytes in {took:.1f} s")


def full():
    lazy = pull("/scratch/full", "test", "oci:/scratch/net:test")

    def fill():
        """All blocks, those too that are free only once the journal was written."""
        for _ in range(2):
            with open("/scratch/filler", "ab", buffering=0) as f:
                size = 64 << 20
                while size >= 4096:
                    try:
                        os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, size)
                    except OSError as error:
                        equal(error.errno, errno.ENOSPC, "the error of a full disk")
                        size //= 2
            os.sync()
        with open("/scratch/filler-too", "ab", buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    os.fsync(f.fileno())
            except OSError as error:
                equal(error.errno, errno.ENOSPC, "the error of a full disk")

    def empty():
        os.unlink("/scratch/filler")
        os.unlink("/scratch/filler-too")

    # A mount reads a little, and what lies behind that comes with it.
    names = sorted(TREE, key=lambda name: -TREE[name]["size"])[:12]
    log(fresh=True)
    with daemon(lazy, options=("--no-fill", "--timeout", "3", "--metrics", SOCKET)), mounted(lazy) as root:
        fill()
        readers = [Reader(root, seed, names[seed::4]) for seed in range(4)]
        for reader in readers:
            reader.join(120)
        errors = [number for reader in readers for number in reader.errors]
        check(errors and set(errors) == {errno.EIO}, f"{errors} on a full disk: {log()}")
        check(all(len(reader.faults) == len(reader.errors) for reader in readers), "other bytes")
        equal(metrics()["puzzlefs_disk_full"], 1, "whether the disk is full")
        empty()
        wait_for("a read", lambda: not read_again(root, names))
        equal(metrics()["puzzlefs_disk_full"], 0, "whether the disk is full")
    lines = [line for line in log() if "space" in line]
    # Some freed blocks may be full again at once: a few lines, and not one for each read that fails.
    check(2 <= len(lines) <= 10 and "No space left" in lines[0] and "there is space again" in lines[-1], f"{log()}")
    check("/scratch/full:test: " in lines[0], lines[0])
    lazy = pull("/scratch/full-too", "test", "oci:/scratch/net:test")
    with daemon(lazy, options=("--no-fill", "--on-failure", "wait")), mounted(lazy) as root:
        fill()
        reader = Reader(root, 0, names)
        time.sleep(8)
        check(reader.is_alive(), f"a reader has ended on a full disk: {reader.faults}")
        empty()
        reader.join(60)
        size = sum(TREE[name]["size"] for name in names)
        equal((reader.faults, reader.bytes), ([], size), "what was read when there was space")
    puzzlefs("complete", f"{lazy.layout}:test")
    puzzlefs("verify", f"{lazy.layout}:test")
    print(f"full: {lines}")


def read_again(root, names):
    reader = Reader(root, 0, names)
    reader.join(60)
    return reader.faults


os.makedirs(os.path.dirname(SOCKET), exist_ok=True)
for part in neighbours, gone, rated, full:
    print(f"{part.__name__} begins", flush=True)
    part()
for name in "shared", "net", "gone", "rated", "full", "full-too":
    # A worker that ends writes its records still.
    shutil.rmtree(f"/scratch/{name}", ignore_errors=True)
