# SPDX-License-Identifier: GPL-2.0
"""reset_guest.py NUMBER RESETS: in a machine that is reset while a lazy image below /scratch is read, and a daemon fetches what
is read. Says what is here, and reads on in another part of the image, until it is killed; after the last reset it has the rest
fetched, and looks at all of it."""

import sys
import time

from case import check, equal, mounted
from lazyguest import IMAGE, TREE, Lazy, daemon, digest, is_completed, path_of, puzzlefs, right_or_missing

NUMBER, RESETS = map(int, sys.argv[1:])


def bytes_here(lazy):
    image, = puzzlefs("status", "--format", "json", lazy.layout)["images"]
    return image["bytes_here"]


def read(lazy, names):
    with daemon(lazy, options=("--no-fill",)), mounted(lazy) as root:
        before = bytes_here(lazy)
        print(f"reading {before}", flush=True)
        for name in names:
            with open(path_of(root, name), "rb") as f:
                equal(digest(f), TREE[name]["sha256"], name)
            time.sleep(0.02)
            now = bytes_here(lazy)
            if now > before:
                print(f"reading {now}", flush=True)
            before = now
    print("read all", flush=True)


if NUMBER == 0:
    puzzlefs("pull", "--lazy", "--quiet", f"oci:{IMAGE.layout}:test", "/scratch/reset:test")
lazy = Lazy("reset")
check(len(lazy.records()) > 0, "nothing is missing")
print(f"here {bytes_here(lazy)} bytes, {right_or_missing(lazy)} of {len(TREE)} files, all right", flush=True)
if NUMBER < RESETS:
    names, start = sorted(TREE), len(TREE) * NUMBER // RESETS
    # All of them: what follows the place to begin at may have come with what was before it.
    read(lazy, names[start:] + names[:start])
else:
    is_completed(lazy, "--quiet")
