# SPDX-License-Identifier: GPL-2.0
"""In the guest: layouts that have an image and not its chunks, and the daemon that fetches these."""

import contextlib
import errno
import hashlib
import json
import os
import random
import subprocess
import threading
import time

from case import Image, check, equal, mounted
from tree import read

IMAGE = Image("small")
LOG = "/run/puzzlefs-daemon.log"  # not on the disk that may be full
TREE = {path: entry for path, entry in read(IMAGE.list).items() if entry["type"] == "file"}


class Lazy(Image):
    """A layout below /scratch that has the image, and not its chunks."""

    def __init__(self, name, tag=None):
        super().__init__(IMAGE.name)
        self.layout = f"/scratch/{name}"
        if tag:
            index = json.load(open(f"{self.layout}/index.json"))["manifests"]
            self.digest = next(entry["digest"][7:] for entry in index
                               if entry["annotations"]["org.opencontainers.image.ref.name"] == tag)

    def records(self):
        return os.listdir(f"{self.layout}/puzzlefs-lazy")

    def packs(self):
        with open(self.blob(self.digest)) as f:
            layers = json.load(f)["layers"]
        return [layer["digest"][7:] for layer in layers if layer["mediaType"].endswith(".pack.v1")]


def puzzlefs(*arguments, **options):
    done = subprocess.run(["puzzlefs", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    check(done.returncode == 0, f"puzzlefs {' '.join(arguments)}: status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout) if "json" in arguments else done.stdout


@contextlib.contextmanager
def daemon(*layouts, options=(), program=None):
    with open(LOG, "a") as log:
        command = ["puzzlefs", "daemon", "--plain-http", *options, *(lazy.layout for lazy in layouts)]
        process = subprocess.Popen(command, executable=program, stdout=log, stderr=log)
        for _ in range(200):  # its worker is there once the marks are
            if workers(process):
                break
            time.sleep(0.05)
        check(process.poll() is None, "the daemon has ended: " + open(LOG).read())
        try:
            yield process
        except BaseException:  # what has failed is not to be hidden
            process.terminate()
            process.wait()
            raise
        at_work = workers(process)
        process.terminate()
        process.wait()
        at_work = [pid for pid in at_work if is_alive(pid)]
        check(not at_work, f"the daemon has ended, and its worker {at_work} has not")


def is_alive(pid):
    """Whether it can still do something: it is not so if it is dead, or about to be forgotten by who waited for it."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], stdout=subprocess.PIPE, text=True).stdout
    return [int(pid) for pid in found.split()]


def digest(f):
    return hashlib.file_digest(f, "sha256").hexdigest()


def is_completed(lazy, *options):
    """Fetches the rest of an image; all of its packs must be what their names say then."""
    puzzlefs("complete", *options, f"{lazy.layout}:test")
    equal(lazy.records(), [], "packs that lack something")
    puzzlefs("verify", f"{lazy.layout}:test")
    for pack in lazy.packs():
        with open(lazy.blob(pack), "rb") as f:
            equal(digest(f), pack, "the digest of a pack")


def right_or_missing(lazy):
    """How many files are here, without a daemon; of the others not one byte is given."""
    here = 0
    with mounted(lazy) as root:
        for name, entry in TREE.items():
            try:
                with open(path_of(root, name), "rb") as f:
                    equal(digest(f), entry["sha256"], name)
                here += 1
            except OSError as error:
                equal(error.errno, errno.EIO, f"the error of {name}")
    return here


def path_of(root, name):
    return os.path.join(root.encode(), name.encode("latin-1").lstrip(b"/"))


def largest():
    """The name of the largest file: most of it is in chunks that no small file has."""
    return max(TREE, key=lambda name: TREE[name]["size"])


class Reader(threading.Thread):
    """Reads some files, or all in an order of its own."""

    def __init__(self, root, seed, names=None):
        super().__init__()
        self.root, self.names, self.faults, self.errors, self.bytes = root, names or list(TREE), [], [], 0
        if names is None:
            random.Random(seed).shuffle(self.names)
        self.start()

    def run(self):
        for name in self.names:
            try:
                with open(path_of(self.root, name), "rb") as f:
                    found = digest(f)
                    self.bytes += f.tell()
            except OSError as error:
                self.errors.append(error.errno)
                self.faults.append(f"{name}: {error}")
                continue
            if found != TREE[name]["sha256"]:
                self.faults.append(f"{name}: other bytes")
