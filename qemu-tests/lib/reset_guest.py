# SPDX-License-Identifier: GPL-2.0
"""reset_guest.py begin|fill|end: in a machine that is reset while a daemon fills a lazy image below /scratch. `fill` says what
is here, and fills until it is killed; `end` has the rest fetched, and looks at all of it."""

import sys
import time

from case import check
from lazyguest import IMAGE, TREE, Lazy, daemon, is_completed, puzzlefs, right_or_missing

FILLING = ("--rate", "200K")  # so slowly that it is not done by then


def bytes_here(lazy):
    image, = puzzlefs("status", "--format", "json", lazy.layout)["images"]
    return image["bytes_here"]


def fill(lazy):
    before = bytes_here(lazy)
    print(f"here {before} bytes, {right_or_missing(lazy)} of {len(TREE)} files, all right", flush=True)
    with daemon(lazy, options=FILLING):
        while True:
            now = bytes_here(lazy)
            if now > before:
                print(f"filling {now}", flush=True)
            time.sleep(0.1)


phase = sys.argv[1]
if phase == "begin":
    puzzlefs("pull", "--lazy", "--quiet", f"oci:{IMAGE.layout}:test", "/scratch/reset:test")
lazy = Lazy("reset")
check(len(lazy.records()) > 0, "nothing is missing")
if phase != "end":
    fill(lazy)
print(f"here {bytes_here(lazy)} bytes, {right_or_missing(lazy)} of {len(TREE)} files, all right", flush=True)
is_completed(lazy, "--quiet")
