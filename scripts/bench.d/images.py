# SPDX-License-Identifier: GPL-2.0
"""Makes the images that `make bench` compares, and keeps them in the cache under a key of
what they are made from, with what their builder took."""

import fcntl
import functools
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import systems

HERE = pathlib.Path(__file__).parent
CACHE = pathlib.Path(os.environ["PUZZLEFS_CACHE"])
SEED = 3
RANDOM_READS = 1000


def say(text):
    print(f"puzzlefs: {text}", file=sys.stderr, flush=True)


@functools.cache
def tree():
    return subprocess.check_output([f"{systems.TOP}/scripts/debian-tree"], text=True).strip()


def cached(name, made_from, make):
    """The cache's directory `name`, filled by make(directory) unless it was made from the
    same; and what make() returned."""
    key = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]
    place = CACHE / f"bench-{name}-{key}"
    with open(CACHE / f"bench-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "made.json").exists():
            for old in CACHE.glob(f"bench-{name}-" + "[0-9a-f]" * 12):
                if old.stat().st_mtime < time.time() - 3600:  # no other run reads it
                    shutil.rmtree(old)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            (place / "made.json").write_text(json.dumps(make(place)))
        os.utime(place)
        return place, json.loads((place / "made.json").read_text())


def compiled(source):
    """The program of a C file beside this one."""
    source = HERE / source

    def make(place):
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-static", "-o", place / "program", source], check=True)

    return cached(f"program-{source.stem}", [source.read_text()], make)[0] / "program"


def measured(command, place):
    """Runs a builder; its processor time in seconds and its peak memory in bytes."""
    log, cost = place / "log", place / "cost"
    with open(log, "wb") as out:
        done = subprocess.run(["sh", "-c", 'exec "$@" 3>"$0"', cost, compiled("cost.c"), *command],
                              stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stderr.write(log.read_text(errors="replace"))
        sys.exit(f"puzzlefs: error: {' '.join(command)} failed; the whole log: {log}")
    return json.loads(cost.read_text())


def bytes_of(path):
    """The length of a file, or of all files of a layout."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file())


def build(system, source=None):
    """The image of a system, of the tree that source() gives, or of tree(): {"path", "manifest",
    "hashed" (bytes that a mount of ours hashes), "size", "cpu", "peak"}. A layout, which has a
    manifest, is kept as an archive."""
    places = {"top": systems.TOP, "tree": None if source else tree(), "upstream": systems.upstream() if system.mount == "fuse" else ""}
    builder = shutil.which(system.build[0].format(**places))
    if not builder:
        sys.exit(f"puzzlefs: error: there is no {system.build[0].format(**places)}; `make` builds what is ours")
    made_from = [source.__doc__ if source else tree(), "hashed", *system.build, (HERE / "cost.c").read_text(),
                 hashlib.sha256(pathlib.Path(builder).read_bytes()).hexdigest()]

    def make(place):
        if source:
            places["tree"] = source()
        say(f"image of {system.title} ...")
        image = place / "image"
        command = [word.format(image=image, **places) for word in system.build]
        cost = measured(command, place)
        manifest, hashed, size = None, 0, bytes_of(image)
        if image.is_dir():
            index = json.loads((image / "index.json").read_text())
            manifest = index["manifests"][0]["digest"].removeprefix("sha256:")
            if system.mount == "puzzlefs":
                text = subprocess.check_output([builder, "inspect", "--format", "json", f"{image}:bench"])
                digests = manifest, json.loads(text)["rootfs"]
                hashed = sum((image / "blobs/sha256" / digest).stat().st_size for digest in digests)
            # One file is sooner in the machine than thousands.
            subprocess.run(["tar", "-C", place, "--sort=name", "-cf", f"{image}.tar", image.name], check=True)
            shutil.rmtree(image)
            image = place / "image.tar"
        return {"path": str(image), "manifest": manifest, "hashed": hashed, "size": size, **cost}

    return cached(system.name, made_from, make)[1]


def files_of(root):
    """(path, size, disk blocks) of the regular files below `root`, in the order of their paths."""
    for folder, folders, names in os.walk(os.fsencode(root)):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if os.path.isfile(path) and not os.path.islink(path):
                yield os.path.relpath(path, os.fsencode(root)), status.st_size, status.st_blocks


def lists():
    """The lists that walk.c reads by: in order, shuffled, random places, one large file."""
    def write(path, records):
        path.write_bytes(b"".join(b"%d %s\0" % record for record in records))

    def make(place):
        files = list(files_of(tree()))
        in_order = [(0, path) for path, _, _ in files]
        write(place / "in-order", in_order)
        rng = random.Random(SEED)
        write(place / "shuffled", rng.sample(in_order, len(in_order)))
        # Any page of all pages of all files, each as likely as another.
        chosen = rng.choices(files, [-(-size // 4096) for _, size, _ in files], k=RANDOM_READS)
        write(place / "random", [(rng.randrange(-(-size // 4096)) * 4096, path) for path, size, _ in chosen])
        path, size, _ = max(files, key=lambda file: file[2])
        write(place / "large", [(0, path)])
        entries = sum(len(folders) + len(names) for _, folders, names in os.walk(tree()))
        return {"entries": entries, "files": len(files), "large": path.decode(), "large_bytes": size}

    source = pathlib.Path(__file__).read_text()
    return cached("lists", [tree(), source], make)
