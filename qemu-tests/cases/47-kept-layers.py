#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G
# shows: an ordinary image of four layers, converted with --keep-layers, is the same tree by the kernel as without, to the numbers of
# inodes: whiteouts, an opaque directory, replaced types, hard links across layers. After unpack and repack, whose manifests are
# others, it is mounted by the digest of before, and by its tag.

import json
import os
import subprocess

from case import check, drop_caches, equal
from tree import walk

WORK, LAYOUT = "/scratch/kept", "/scratch/kept/layout"
LAYERS = (
    """mkdir -p etc usr/bin usr/doc gone/deep many; echo 1 >etc/a; echo 1 >etc/b; seq 200000 >usr/bin/big; ln usr/bin/big usr/bin/big2
        ln -s big usr/bin/link; echo doc >usr/doc/one; echo doc >usr/doc/two; echo x >gone/deep/file; echo f >turns; mkfifo fifo
        for i in $(seq 3000); do echo $i >many/$i; done; setfattr -n user.it -v 1 etc/b""",
    "mkdir -p usr/doc; : >usr/doc/.wh..wh..opq; echo new >usr/doc/three; : >.wh.gone; mkdir many; for i in $(seq 7 7 3000); do : >many/.wh.$i; done",
    "mkdir -p etc turns empty/dir many; echo 3 >etc/a; : >etc/.wh.b; echo in >turns/in; for i in $(seq 14 14 3000); do echo again $i >many/$i; done",
    "mkdir -p usr/bin; seq 100000 >usr/bin/big; chmod 4755 usr/bin/big; chown 7:8 usr/bin/big",
)


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    check(done.returncode == 0, f"{' '.join(command)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def ordinary():
    """An ordinary image, as umoci makes it of tars."""
    run("umoci", "init", "--layout", f"{WORK}/ordinary")
    run("umoci", "new", "--image", f"{WORK}/ordinary:it")
    for number, script in enumerate(LAYERS):
        where = f"{WORK}/layer{number}"
        os.makedirs(where)
        run("sh", "-euc", script, cwd=where)
        run("tar", "--create", "--xattrs", "--file", f"{where}.tar", "--directory", where, ".")
        run("umoci", "raw", "add-layer", "--image", f"{WORK}/ordinary:it", f"{where}.tar")


def seen(what, *options):
    """All that is to be seen of a mount, and the numbers of its inodes."""
    os.makedirs("/mnt/kept", exist_ok=True)
    run("mount", "-t", "puzzlefs", *options, what, "/mnt/kept")
    try:
        drop_caches()
        entries = dict(walk(b"/mnt/kept"))
        numbers = {path: os.lstat(path).st_ino for path in entries}
    finally:
        os.chdir("/")
        run("umount", "/mnt/kept")
    return entries, numbers


os.makedirs(WORK)
ordinary()
digests = {}
for tag, options in ("flat", ()), ("kept", ("--keep-layers",)):
    run("puzzlefs", "convert", *options, f"oci:{WORK}/ordinary:it", f"{LAYOUT}:{tag}")
    report = json.loads(run("puzzlefs", "inspect", "--format", "json", f"{LAYOUT}:{tag}"))
    digests[tag] = report["manifest"]
    equal(report["metadata_layers"], len(LAYERS) if tag == "kept" else 1, f"the metadata layers of {tag}")
flat = seen(f"{LAYOUT}:flat")
paths = set(flat[0])
there, not_there = (b"./usr/doc/three", b"./turns/in", b"./many/14"), (b"./usr/doc/one", b"./gone", b"./many/7", b"./etc/b")
check(paths.issuperset(there) and paths.isdisjoint(not_there) and len(paths) > 2700, "the layers are not applied")
equal(seen(f"{LAYOUT}:kept"), flat, "the image with its layers")
for command in "unpack", "repack":
    run("puzzlefs", command, "--gc", LAYOUT)
    for tag, digest in digests.items():
        there = json.loads(run("puzzlefs", "inspect", "--format", "json", f"{LAYOUT}:{tag}"))["manifest"]
        check(command == "repack" or there != digest, f"{command} left {tag}")
        equal(seen(f"{LAYOUT}:{tag}"), flat, f"{tag} after {command}")
        equal(seen(f"{LAYOUT}@sha256:{digest}"), flat, f"{tag} after {command}, by the digest of before")
        equal(seen("none", "-o", f"oci_root_dir={LAYOUT},image_manifest={digest}"), flat, f"{tag} after {command}, by that in an option")
print(f"{len(paths)} paths of {len(LAYERS)} layers, kept or not, by tag, and by the digest of before unpack and repack")
