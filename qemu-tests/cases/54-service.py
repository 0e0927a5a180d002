#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 3G; cpus 2; scratch 3G
# shows: `puzzlefs daemon` and where chunks come from. Of an image whose chunks another one of the layout has, nothing is
# asked of its source, which is gone. Whoever reads what a directory had that is gone waits, and has right bytes when it
# comes back.

import os
import shutil
import threading
import time

from case import check, compare, drop_caches, equal, mounted
from lazyguest import IMAGE, TREE, Lazy, daemon, digest, puzzlefs


def pull(layout, tag, source):
    puzzlefs("pull", "--lazy", source, f"{layout}:{tag}")
    return Lazy(os.path.basename(layout), tag)


def path_of(root, name):
    return os.path.join(root.encode(), name.encode("latin-1").lstrip(b"/"))


def build_other(lazy):
    """The same image, with all its chunks in other packs."""
    with mounted(lazy) as root:
        puzzlefs("build", "--pack-size", "900K", root, "/scratch/other:test")
    packs = [set(image.packs()) for image in (lazy, Lazy("other"))]
    check(len(packs[1]) > 3 and not packs[0] & packs[1], f"the same packs: {packs}")


def neighbours():
    first = pull("/scratch/shared", "one", f"oci:{IMAGE.layout}:test")
    with daemon(first, options=("--no-fill", "--timeout", "20")):
        build_other(first)
        second = pull("/scratch/shared", "two", "oci:/scratch/other:test")
        shutil.rmtree("/scratch/other")
        drop_caches()
        with mounted(second) as root:
            compare(root, second, least=2000)
    status = puzzlefs("status", "--format", "json", first.layout)["images"]
    here = {tuple(image["tags"]): image["bytes_here"] for image in status}
    check(here[("two",)] > 1 << 20, f"{here}")
    print(f"neighbours: bytes here {here}; those of the second one were copied")


def gone():
    """A directory that goes away, as a network filesystem does, and comes back."""
    puzzlefs("pull", f"oci:{IMAGE.layout}:test", "/scratch/net:test")
    lazy = pull("/scratch/gone", "test", "oci:/scratch/net:test")
    os.rename("/scratch/net", "/scratch/net-gone")
    name = max(TREE, key=lambda name: TREE[name]["size"])
    found = []

    def read():
        with open(path_of(root, name), "rb") as f:
            found.append(digest(f))

    with daemon(lazy, options=("--no-fill", "--on-failure", "wait")), mounted(lazy) as root:
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(3)
        equal(found, [], "what was read of a source that is gone")
        os.rename("/scratch/net-gone", "/scratch/net")
        reader.join(60)
        equal(found, [TREE[name]["sha256"]], "what was read when it was back")
    with open("/scratch/daemon.log") as f:
        log = [line for line in f if "/scratch/net@" in line]
    check(0 < len(log) < 10 and "the chunk sha256:" in log[0] and "pack sha256:" in log[0], f"{log}")
    print(f"gone: {len(log)} lines, {log[0].strip()}")


neighbours()
gone()
for name in "shared", "net", "gone":
    shutil.rmtree(f"/scratch/{name}")
