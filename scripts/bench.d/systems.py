# SPDX-License-Identifier: GPL-2.0
"""What `make bench` compares: each system, how its image is made and mounted."""

import dataclasses
import os
import subprocess

TOP = os.environ["PUZZLEFS_TOP"]


@dataclasses.dataclass(frozen=True)
class System:
    """`build` is the builder's command, with {tree} and {image} to fill in. `role`: "ours", or
    "fast" for our fast profile; "zstd" and "lz4" for the peers that these are compared with;
    "fuse". `rows` are those it is measured in, all when empty."""
    name: str
    title: str
    role: str
    mount: str
    build: tuple
    rows: tuple = ()


def puzzlefs(name, title, role, *options):
    return System(name, title, role, "puzzlefs",
                  (f"{TOP}/build/puzzlefs", "build", *options, "{tree}", "{image}:bench"))


def erofs(name, title, role, *options):
    return System(name, title, role, "erofs", ("mkfs.erofs", "--quiet", *options, "{image}", "{tree}"))


# A variant of ours is one line here.
OURS = [
    puzzlefs("puzzlefs", "PuzzleFS", "ours"),
]

PEERS = [
    erofs("erofs-64k", "EROFS zstd 64K", "zstd", "-zzstd", "-C65536"),
    erofs("erofs-128k", "EROFS zstd 128K fragments dedupe", "zstd",
          "-zzstd", "-C131072", "-Eall-fragments,dedupe"),
    System("squashfs", "squashfs zstd 128K", "zstd", "squashfs",
           ("mksquashfs", "{tree}", "{image}", "-comp", "zstd", "-b", "128K", "-quiet", "-no-progress")),
    erofs("erofs-lz4", "EROFS LZ4HC 64K", "lz4", "-zlz4hc", "-C65536"),
    # Of upstream only what comes to an end.
    System("upstream", "upstream FUSE 0.2.0", "fuse", "fuse",
           ("{upstream}", "build", "--compression", "{tree}", "{image}:bench"),
           ("size", "stat-cold", "stat-warm", "read-cold", "read-warm", "cpu", "peak")),
]

SYSTEMS = {s.name: s for s in OURS + PEERS}


def upstream():
    """Upstream's program."""
    return subprocess.check_output([f"{TOP}/scripts/peer-puzzlefs"], text=True).strip()
