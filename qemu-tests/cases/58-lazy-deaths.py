#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 3G
# shows: four readers of lazy images, all bytes right. Who fetches is killed 40 times at random (200 times by `make deaths`), and at each call by which it
# writes and records; what it leaves each time is sound, and is completed. Its source cuts answers, lies, stalls, refuses, and
# is away for a time. There is no deadlock while the memory is full and pages are dirty, nor beside others who listen to
# fanotify and read what they are asked about, nor where the daemon's own program lies in the image that it serves.

import contextlib
import errno
import functools
import os
import random
import shutil
import signal
import subprocess
import time

from case import Image, check, drop_caches, equal, mounted
from fanotify import Scanner
from lazyguest import IMAGE, LOG, TREE, Lazy, Reader, daemon, digest, is_alive, is_completed, puzzlefs, workers
from webserver import FAULTS, Web, crawl

print = functools.partial(print, flush=True)  # what has been shown if it takes too long
KILLS = 200 if os.environ.get("PUZZLEFS_CORPUS") == "all" else 40
# By which a worker writes a chunk; brings chunks to the disk; writes a record and gives it its name; ends one.
CALLS = {"pwrite64": (1, 3), "fdatasync": (1,), "fsync": (1,), "write": (1, 2), "renameat,renameat2": (1,), "unlinkat": (1,)}
WAITING = ("--on-failure", "wait", "--retry-times", "1")


def fresh(name, source):
    shutil.rmtree(f"/scratch/{name}", ignore_errors=True)
    puzzlefs("pull", "--lazy", source, f"/scratch/{name}:test")
    lazy = Lazy(name)
    check(len(lazy.records()) > 0, "nothing is missing")
    return lazy


def ended(readers, seconds=300):
    """Waits for readers, all of which must end with right bytes; gives how many these were."""
    deadline = time.monotonic() + seconds
    for reader in readers:
        reader.join(max(0, deadline - time.monotonic()))
        check(not reader.is_alive(), f"a reader has not ended in {seconds} s; the log: {open(LOG).read()[-2000:]}")
        equal(reader.faults, [], "what a reader found")
    return sum(reader.bytes for reader in readers)


def at_random(source):
    deaths, size, rounds, rng = 0, 0, 0, random.Random(1)
    while deaths < KILLS:
        lazy = fresh("killed", source)
        with daemon(lazy, options=(*WAITING, "--no-fill")) as process, mounted(lazy) as root:
            readers = [Reader(root, seed) for seed in range(4)]
            before = deaths
            while any(reader.is_alive() for reader in readers):
                time.sleep(rng.uniform(0, 0.3))
                for pid in workers(process) if deaths < KILLS else []:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        deaths += 1
            size += ended(readers)
        check(deaths > before, "nobody was killed: the tree was read too fast")
        is_completed(lazy)
        rounds += 1
    print(f"killed at random: {deaths} workers in {rounds} rounds, {size} bytes read by four, all right")


def tracer(worker, calls, number):
    """strace of a worker, which kills it at that call of that name, in any of its threads."""
    trace = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(worker), "-e", f"trace={calls}",
                              "-e", f"inject={calls}:signal=KILL:when={number}"], stderr=subprocess.PIPE, text=True)
    while trace.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{worker}/status") as f:
            if "TracerPid:\t0\n" not in f.read():
                return trace
        time.sleep(0.02)
    check(not is_alive(worker), f"strace: {trace.stderr.read()}")
    return trace


def at_writes(source):
    died = {}
    for calls, numbers in CALLS.items():
        for number in numbers:
            lazy, readers = fresh("written", source), []
            with daemon(lazy, options=(*WAITING, "--no-fill")) as process, mounted(lazy) as root:
                deaths = 0
                deadline = time.monotonic() + 120
                while deaths < 3 and lazy.records() and time.monotonic() < deadline:
                    worker = workers(process)
                    if not worker:
                        continue  # the next one is on its way
                    trace = tracer(worker[0], calls, number)
                    readers = readers or [Reader(root, seed) for seed in range(4)]
                    while trace.poll() is None and lazy.records() and time.monotonic() < deadline:
                        time.sleep(0.02)
                    deaths += not is_alive(worker[0])
                    trace.terminate()
                    trace.wait()
                ended(readers)
            puzzlefs("verify", f"{lazy.layout}:test")  # sound as it was left
            is_completed(lazy)
            died[calls] = died.get(calls, 0) + deaths
    print(f"killed at a call: {died}")
    for calls, deaths in died.items():
        check(deaths > 0, f"nobody was killed at {calls}")


def bad_source(web):
    web.faults = 0.5
    port = web.server_port
    lazy = fresh_from(web, "bad")
    with daemon(lazy, options=(*WAITING, "--no-fill")), mounted(lazy) as root:
        readers = [Reader(root, seed) for seed in range(4)]
        time.sleep(2)
        web.close()
        asked, made = len(web.asked), web.made
        time.sleep(2)
        web = Web(port, faults=0.5)
        size = ended(readers, 600)
        check(len(web.asked) > 0, "nothing was asked for after it was away")
    for fault, count in web.made.items():
        made[fault] = made.get(fault, 0) + count
    web.faults = 0
    print(f"a bad source: {asked} requests, then away, then {len(web.asked)}; {made}; {size} bytes, all right")
    equal(sorted(made), sorted(fault.__name__ for fault in FAULTS), "what it has done")
    is_completed(lazy)
    return web


def no_supervisor(web):
    """Who fetches does not go on when who holds the events is gone, not even with a request that is under way."""
    lazy = fresh_from(web, "alone")
    web.faults, web.kinds = 1.0, [crawl]
    with daemon(lazy, options=WAITING) as process:
        while not web.made:
            time.sleep(0.02)
        at_work = workers(process)
        process.kill()
        process.wait()
        time.sleep(0.3)
        check(at_work and not any(is_alive(pid) for pid in at_work), f"{at_work} has gone on")
    web.faults, web.kinds, web.made = 0, FAULTS, {}
    is_completed(lazy)
    print("a supervisor is killed: its worker is gone at once")


def dying_workers(web):
    """Workers that die before they have answered anything are started more and more seldom: a log that says each."""
    lazy, seen = fresh_from(web, "dying"), set()
    with daemon(lazy, options=("--no-fill",)) as process:
        until = time.monotonic() + 7
        while time.monotonic() < until:
            for pid in workers(process):
                seen.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        check(4 <= len(seen) <= 13, f"{len(seen)} workers in seven seconds")
        with mounted(lazy) as root:
            ended([Reader(root, 1, list(TREE)[:50])])
    print(f"workers that die at once: {len(seen)} in seven seconds, and the next one serves")


def fresh_from(web, name):
    faults, web.faults = web.faults, 0
    lazy = fresh(name, source_of(web))
    web.faults = faults
    return lazy


def source_of(web):
    return f"http://127.0.0.1:{web.server_port}/source:test"


@contextlib.contextmanager
def short_of_memory():
    """Somebody writes all the time, and somebody has nearly all memory."""
    with open("/proc/meminfo") as f:
        free = next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) << 10
    hog = subprocess.Popen(["python3", "-c", f"import time; x = bytearray(b'x') * {free - (400 << 20)}; time.sleep(1e6)"])
    writer = subprocess.Popen(["sh", "-c", "while :; do dd if=/dev/zero of=/scratch/dirty bs=1M count=600 2>/dev/null; done"],
                              start_new_session=True)
    try:
        yield hog
    finally:
        os.killpg(writer.pid, signal.SIGKILL)
        for process in hog, writer:
            process.kill()
            process.wait()
        os.unlink("/scratch/dirty")


def dirty_pages():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Dirty:")) << 10


def full_memory(source):
    lazy, most = fresh("pressed", source), 0
    with short_of_memory() as hog, daemon(lazy, options=WAITING), mounted(lazy) as root:
        readers = [Reader(root, seed) for seed in range(4)]
        while any(reader.is_alive() for reader in readers):
            most = max(most, dirty_pages())
            time.sleep(0.1)
        ended(readers)
        check(hog.poll() is None, "the memory was not full all the time")
    check(most > 16 << 20, f"{most} bytes were dirty at most")
    print(f"memory full, {most >> 20} MiB dirty at most: all bytes right")


def others_listen(source):
    """Who looks at all that others read, below and above, before they may: it reads what it is asked about."""
    lazy, scanner = fresh("listened", source), Scanner(8)
    try:
        with daemon(lazy, options=WAITING), mounted(lazy) as root:
            scanner.mounted(root)
            ended([Reader(root, seed, random.Random(seed).sample(list(TREE), 200)) for seed in range(4)])
    finally:
        scanner.close()
    above = sum(place for place, _ in scanner.seen)
    below = len(scanner.seen) - above
    check(above > 400 and below > 100, f"{above} and {below} events")
    print(f"another listener: {above} events of the image, {below} of its layout")


def own_program():
    """The daemon's program in the image that it serves: it takes it into memory, or does not start."""
    os.mkdir("/scratch/tree")
    shutil.copy("/proc/self/exe", "/scratch/tree/python")
    shutil.copy(shutil.which("puzzlefs"), "/scratch/tree/puzzlefs")
    shutil.copytree(f"{IMAGE.source}/etc", "/scratch/tree/etc", symlinks=True)
    puzzlefs("build", "/scratch/tree", "/scratch/with-it:test")
    puzzlefs("pull", "--lazy", "oci:/scratch/with-it:test", "/scratch/own:test")
    lazy = Image(IMAGE.name)
    lazy.layout = "/scratch/own"
    lazy.digest = puzzlefs("inspect", "--format", "json", "/scratch/own:test")["manifest"]
    wanted = digest(open("/scratch/tree/python", "rb"))
    with mounted(lazy) as root:
        try:
            refused = subprocess.run([f"{root}/puzzlefs", "daemon", lazy.layout], stderr=subprocess.PIPE, timeout=60)
            check(refused.returncode != 0, "it runs although it is not there")
        except OSError as error:
            equal(error.errno, errno.EIO, "the error")
    options = (*WAITING, "--no-fill")
    with daemon(lazy, options=options), mounted(lazy) as root:
        with open(f"{root}/puzzlefs", "rb") as f:
            equal(digest(f), digest(open("/scratch/tree/puzzlefs", "rb")), "the program")
        # Of two who answer for one pack, each would wait for the other one.
        second = subprocess.run([f"{root}/puzzlefs", "daemon", lazy.layout], stderr=subprocess.PIPE, text=True, timeout=60)
        check(second.returncode != 0 and "another puzzlefs daemon" in second.stderr, f"a second daemon: {second.stderr}")
    with contextlib.ExitStack() as running:
        with mounted(lazy) as root:
            own = running.enter_context(daemon(lazy, options=options, program=f"{root}/puzzlefs"))
            for pid in own.pid, *workers(own):
                check("memfd" in os.readlink(f"/proc/{pid}/exe"), f"it runs from {os.readlink(f'/proc/{pid}/exe')}")
        # Nobody has a file of that mount open; and packs are watched that are opened now.
        with mounted(lazy) as root:
            drop_caches()
            with open(f"{root}/python", "rb") as f:
                equal(digest(f), wanted, "what is read through a daemon of the image")
    for name in "tree", "with-it", "own":
        shutil.rmtree(f"/scratch/{name}")
    print("the daemon's program in its own image: taken into memory, refused where it is not there; one daemon for a layout")


shutil.copytree(IMAGE.layout, "/scratch/source")
web = Web()
others_listen(source_of(web))
own_program()
no_supervisor(web)
dying_workers(web)
web = bad_source(web)
full_memory(source_of(web))
at_writes(source_of(web))
at_random(source_of(web))
web.close()
for name in "source", "killed", "written", "bad", "pressed", "listened", "alone", "dying":
    shutil.rmtree(f"/scratch/{name}")
print("lazy images, whoever dies: right bytes")
