#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 2G
# shows: of many who want one chunk at once, one reads it; the others wait,
# can be killed meanwhile, and try it themselves when that one fails. A chunk that is damaged
# in the midst of others takes nobody else's bytes along.

import json
import os
import random
import signal
import struct
import subprocess
import time

import mountapi
from case import check, drop_caches, equal
from fanotify import Watch

TREE, LAYOUT, TARGET = "/scratch/readers", "/scratch/readers-oci", "/mnt/readers"
READERS = 8
ENTRY, TRAILER = struct.Struct("<32sII"), struct.Struct("<I4s")  # FORMAT.md, 1.1
PAGE = 4096
# What one damaged chunk may take along: a chunk is up to 128 KiB long, and what begins or ends
# in the same folio as one cannot be had either.
MOST_DAMAGED = 1 << 20


def text(seed, size):
    """Compresses to about a half."""
    return random.Random(seed).randbytes(size // 2).hex().encode()


def make_tree():
    os.makedirs(os.path.join(TREE, "shared"))
    files = {f"shared/{i}": text(i, 4000) for i in range(READERS)}
    files |= {"twin-a": text("twins", 60000), "twin-b": text("twins", 60000), "large": text("large", 8 << 20)}
    for name, data in files.items():
        with open(os.path.join(TREE, name), "wb") as f:
            f.write(data)
    return files


def build():
    subprocess.run(["puzzlefs", "build", TREE, f"{LAYOUT}:test"], check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(LAYOUT, "index.json")) as f:
        manifest = json.load(f)["manifests"][0]["digest"].removeprefix("sha256:")
    with open(os.path.join(LAYOUT, "blobs/sha256", manifest)) as f:
        layers = json.load(f)["layers"]
    [pack] = [layer["digest"].removeprefix("sha256:") for layer in layers if layer["mediaType"].endswith(".pack.v1")]
    return manifest, os.path.join(LAYOUT, "blobs/sha256", pack)


def mount():
    mountapi.mount([("oci_root_dir", LAYOUT), ("image_manifest", MANIFEST)], TARGET)
    return True


def umount():
    subprocess.run(["umount", TARGET], check=True)


def read(name):
    with open(os.path.join(TARGET, name), "rb", buffering=0) as f:
        return f.read() == FILES[name]


def start(function, *arguments):
    """A task that ends with 0 if `function` is true, with 2 if it fails."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if function(*arguments) else 1)
        except OSError:
            os._exit(2)
    return pid


def ended(pid, seconds=30):
    """The exit status, or minus the signal, of a task that ends soon."""
    for _ in range(seconds * 20):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    check(False, f"reader {pid} did not end")


def wait_all(pids):
    """Until all of them wait for something in the kernel."""
    def state(pid):
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    for _ in range(600):
        if all(state(pid) == "D" for pid in pids):
            return
        time.sleep(0.05)
    check(False, f"readers are in the states {[state(pid) for pid in pids]}, not all waiting")


def stampede(names, kill):
    """Several tasks want one chunk; the first is held back in its read of the pack, then
    fails. Returns how often the chunk was read."""
    watch = Watch(PACK)
    mounting = start(mount)  # reads the pack's index
    while more := watch.events(2):
        [event.allow() for event in more]
    equal(ended(mounting), 0, "the end of mounting")
    readers = [start(read, name) for name in names]
    events = watch.events(30)
    wait_all(readers)
    events += watch.events(0.5)
    equal(len(events), 1, f"the number of tasks that read the chunk of {names} at once")
    first = events[0].pid
    check(first in readers, f"the chunk is read by {first}, which is none of the readers")
    if kill:
        victim = next(pid for pid in readers if pid != first)
        os.kill(victim, signal.SIGKILL)
        equal(ended(victim), -signal.SIGKILL, "the end of a waiting reader that was killed")
        readers.remove(victim)
    events[0].deny()
    reads = 1
    while more := watch.events(2):
        equal(len(more), 1, "the number of tasks that read the chunk after the first one failed")
        more[0].allow()
        reads += 1
    for pid in readers:
        # The one that was denied the pack may have failed.
        check(ended(pid) in ((0, 2) if pid == first else (0,)), f"reader {pid} did not get its bytes")
    watch.close()
    umount()
    return reads


def damage():
    """A bit flips in the middle of the pack, which is the large file's."""
    with open(PACK, "rb") as f:
        data = f.read()
    count, magic = TRAILER.unpack(data[-TRAILER.size:])
    equal(magic, b"PzPk", "the magic number of the pack")
    index = data[len(data) - TRAILER.size - count * ENTRY.size:-TRAILER.size]
    places = sorted((offset, size) for _, offset, size in ENTRY.iter_unpack(index))
    offset, size = places[len(places) // 2]
    flip(offset + size // 2)
    return offset + size // 2


def flip(at):
    with open(PACK, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))


def bad_pages(step):
    """The pages of the large file that cannot be read, by reads of `step` bytes; those that
    can be read are right."""
    want, bad = FILES["large"], []
    with open(os.path.join(TARGET, "large"), "rb", buffering=0) as f:
        at = 0
        while at < len(want):
            try:
                got = os.pread(f.fileno(), step, at)
                check(got and got == want[at:at + len(got)], f"{len(got)} bytes at {at} are wrong")
                at += len(got)
            except OSError:
                bad.append(at // PAGE)
                at = (at // PAGE + 1) * PAGE
    return bad


def damaged():
    mount()
    at = damage()
    for step in 1 << 20, 128 << 10, PAGE:
        drop_caches()
        pids = []
        for _ in range(4):  # at once
            pid = os.fork()
            if pid == 0:
                bad = bad_pages(step)
                check(bad and bad == list(range(bad[0], bad[-1] + 1)), f"bad pages are {bad}")
                check(len(bad) * PAGE <= MOST_DAMAGED, f"{len(bad)} pages are bad")
                os._exit(0)
            pids.append(pid)
        equal([ended(pid, 120) for pid in pids], [0] * 4, f"the ends of the readers of {step} bytes")
    print(f"a damaged chunk: {len(bad_pages(PAGE))} pages of {len(FILES['large']) // PAGE} give EIO")
    flip(at)
    equal(bad_pages(1 << 20), [], "bad pages when the pack was right again")
    umount()


FILES = make_tree()
MANIFEST, PACK = build()
os.makedirs(TARGET, exist_ok=True)
print(f"{READERS} files of one chunk: read", stampede([f"shared/{i}" for i in range(READERS)], kill=True), "times")
print("two files of the same content: read", stampede(["twin-a", "twin-b"], kill=False), "times")
damaged()
mount()
check(all(read(name) for name in FILES), "a file differs")
umount()
print(f"{len(FILES)} files, {READERS} readers")
