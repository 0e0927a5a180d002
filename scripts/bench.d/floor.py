# SPDX-License-Identifier: GPL-2.0
"""What no system can go below: bare zstd and SHA-256 in the kernel (bare/bare.c), and
`zstd -T2` over a tar of the tree."""

import os
import subprocess

import images
import systems

# What `puzzlefs build` compresses with, and about how many bytes at a time.
LEVEL, FRAME = 15, "64K"


def module(kernel):
    """bare.ko for a kernel of scripts/kernel."""
    script = """. "$PUZZLEFS_TOP/scripts/lib.sh"
        tree=$("$TOP/scripts/kernel" "$1") source=$TOP/scripts/bench.d/bare
        step "module that measures bare zstd" kbuild "$tree" "$source" modules
        kbuild_objects "$tree" "$source\""""
    objects = subprocess.run(["sh", "-c", script, "sh", kernel], check=True, text=True, stdout=subprocess.PIPE).stdout
    return objects.strip() + "/bare.ko"


def tar():
    """What `zstd -T2` over a tar of the tree takes: {"cpu", "peak"}."""
    def make(place):
        images.say(f"zstd -T2 -{LEVEL} over a tar of the tree ...")
        subprocess.run(["tar", "-C", images.tree(), "-cf", place / "tar", "."], check=True)
        command = ["zstd", "-T2", f"-{LEVEL}", "-q", str(place / "tar"), "-o", str(place / "zst")]
        cost = images.measured(command, place)
        for name in "tar", "zst":
            os.unlink(place / name)
        return cost

    return images.cached("tar", [images.tree(), str(LEVEL)], make)[1]


def frames():
    """The one large file as zstd frames: {"path", "size"}."""
    lists = images.lists()[1]

    def make(place):
        with open(place / "frames", "wb") as out:
            subprocess.run(["split", f"--bytes={FRAME}", f"--filter=zstd -{LEVEL} -q -c",
                            os.path.join(images.tree(), lists["large"])], check=True, stdout=out)
        return {"path": str(place / "frames"), "size": lists["large_bytes"]}

    return images.cached("frames", [images.tree(), lists["large"], str(LEVEL), FRAME], make)[1]
