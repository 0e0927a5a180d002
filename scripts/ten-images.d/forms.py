# SPDX-License-Identifier: GPL-2.0
"""The forms in which `make ten-images` stores ten root file systems, each made once and kept
in the cache, by bench.d/images.py."""

import dataclasses
import hashlib
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import typing

from fingerprint import erofs, run
from images import bytes_of, cached, say
from systems import TOP, upstream

OURS = f"{TOP}/build/puzzlefs"
# Of zstd, for mkfs.erofs with all trees, and for ours; at 15 each takes its builder many times as long.
LEVEL = 9
# Those of the second series: what is close to the best.
OF_VERSIONS = ("tar-zstd", "erofs-dedupe", "erofs-fragments", "upstream", "puzzlefs-default", "puzzlefs-small-9",
               "puzzlefs-small")


@dataclasses.dataclass(frozen=True)
class Form:
    """`make(trees, place)` stores the trees below the directory `place` and returns what is to
    be known of it: at least "size". `program` and `options` are what it depends on beside the
    trees. `mounts` is how many images can be mounted; none is no peer, nor is one of ours."""
    name: str
    title: str
    program: str
    options: tuple
    make: typing.Callable
    mounts: int = 10
    peer: bool = True


def archives(*compressor):
    """The sum of the trees' tars, each through `compressor`; nothing is kept."""
    def make(trees, _):
        pipe = 'tar -C "$0" --sort=name -cf - . | "$@" | wc -c'
        return {"size": sum(int(subprocess.check_output(["sh", "-c", pipe, tree, *compressor])) for tree in trees)}

    return make


def squashfs(*options):
    def make(trees, place):
        size = 0
        for tree in trees:
            run(["mksquashfs", tree, place / "image", *options, "-quiet", "-no-progress"], place / "log")
            size += (place / "image").stat().st_size
            (place / "image").unlink()
        return {"size": size}

    return make


def erofs_of_all(*options):
    """One EROFS with a directory for each tree."""
    def make(trees, place):
        run(["mkfs.erofs", "--quiet", *options, place / "image", trees[0].parent], place / "log")
        return {"size": bytes_of(place / "image")}

    return make


def erofs_of_each(*options):
    """An EROFS for each tree, whose inodes have fingerprints to share page cache by."""
    def make(trees, place):
        for tree in trees:
            erofs(tree, place / tree.name, options, place / "log")
        return {"size": sum(bytes_of(place / tree.name) for tree in trees)}

    return make


def layout(program, *options):
    """One layout with a tag for each tree, in the order in which they came to be."""
    def make(trees, place):
        for tree in trees:
            run([program, "build", *options, tree, f"{place}/image:{tree.name}"], place / "log")
        return {"size": bytes_of(place / "image")}

    return make


def ours(*options):
    """A layout of ours, with what it has of each image."""
    def make(trees, place):
        found = layout(OURS, *options)(trees, place)
        usage = subprocess.check_output([OURS, "du", "--format", "json", place / "image"], text=True)
        index = json.loads((place / "image/index.json").read_text())
        tag = "org.opencontainers.image.ref.name"
        manifests = {m["annotations"][tag]: m["digest"].removeprefix("sha256:") for m in index["manifests"]}
        return {**found, "du": json.loads(usage), "manifests": manifests}

    return make


def ours_form(name, title, *options):
    return Form(name, title, OURS, options, ours(*options), peer=False)


def erofs_form(name, title, *options):
    return Form(name, title, "mkfs.erofs", options, erofs_of_all(*options), mounts=1)


def forms():
    """All forms, ours last."""
    squash = ("-comp", "zstd", "-b", "128K")
    each = ("-zzstd", "-C65536")
    zstd = f"-zzstd,level={LEVEL}"
    return [
        Form("tar", "ten tars", "tar", (), archives("cat"), mounts=0),
        Form("tar-gz", "ten tars, `gzip -6`", "gzip", ("-6",), archives("gzip", "-6"), mounts=0),
        Form("tar-zstd", "ten tars, `zstd -T2`", "zstd", ("-T2",), archives("zstd", "-T2", "-q"), mounts=0),
        Form("squashfs", "ten squashfs, zstd 128K", "mksquashfs", squash, squashfs(*squash)),
        Form("erofs-each", "ten EROFS, zstd 64K, with fingerprints", "mkfs.erofs", each, erofs_of_each(*each)),
        erofs_form("erofs-dedupe", f"one EROFS, zstd level {LEVEL} 64K, dedupe", zstd, "-C65536", "-Ededupe"),
        erofs_form("erofs-fragments", f"one EROFS, zstd level {LEVEL} 128K, all-fragments, dedupe",
                   zstd, "-C131072", "-Eall-fragments,dedupe"),
        Form("upstream", "upstream 0.2.0, one layout", upstream(), ("--compression",),
             layout(upstream(), "--compression")),
        ours_form("puzzlefs-default", "PuzzleFS, one layout"),
        ours_form("puzzlefs", f"PuzzleFS, zstd level {LEVEL}, one layout", "--compression", f"zstd:{LEVEL}"),
        ours_form("puzzlefs-small-9", f"PuzzleFS, profile small at zstd level {LEVEL}, one layout",
                  "--profile", "small", "--compression", f"zstd:{LEVEL}"),
        ours_form("puzzlefs-small", "PuzzleFS, profile small, one layout", "--profile", "small"),
    ]


def digest(program):
    return hashlib.sha256(pathlib.Path(shutil.which(program)).read_bytes()).hexdigest()


def stored(form, trees):
    """Where a form of the trees lies, and what is known of it."""
    builder = digest(form.program)

    def make(place):
        say(f"{form.title} ...")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = form.make(trees, place)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Another builder may cut or compress otherwise, and then shares nothing with the first.
        if digest(form.program) != builder:
            sys.exit(f"puzzlefs: error: {form.program} was replaced while it made images; start again")
        return {**found, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}

    return cached(f"ten-{trees[0].parent.name}-{form.name}", [*map(str, trees), *form.options, builder], make)
