# SPDX-License-Identifier: GPL-2.0
"""What `make bench` compares: each system, how its image is made and mounted."""

import dataclasses
import os
import subprocess

TOP = os.environ["PUZZLEFS_TOP"]


@dataclasses.dataclass(frozen=True)
class System:
    """`build` is the builder's command, with {top} (the checkout), {tree} and {image} to fill in. `role`: "ours", or
    "fast" for our fast profile; "zstd" and "lz4" for the peers that these are compared with;
    "shown" for others. `rows` are those it is measured in, all when empty."""
    name: str
    title: str
    role: str
    mount: str
    build: tuple
    rows: tuple = ()


def puzzlefs(name, title, role, *options):
    return System(name, title, role, "puzzlefs",
                  ("{top}/build/puzzlefs", "build", *options, "{tree}", "{image}:bench"))


def erofs(name, title, role, *options):
    return System(name, title, role, "erofs", ("mkfs.erofs", "--quiet", *options, "{image}", "{tree}"))


# A variant of ours is one line here.
OURS = [
    puzzlefs("puzzlefs", "PuzzleFS balanced", "ours"),
    puzzlefs("puzzlefs-fast", "PuzzleFS fast", "fast", "--profile", "fast"),
    puzzlefs("puzzlefs-small", "PuzzleFS small", "ours", "--profile", "small"),
]

PEERS = [
    # Level 3 is what mkfs.erofs 1.8.6 documents as its default. Without a level it compresses
    # with level -1 instead: 15% larger, faster to read. That is shown, too.
    erofs("erofs-64k", "EROFS zstd 64K", "zstd", "-zzstd,level=3", "-C65536"),
    erofs("erofs-128k", "EROFS zstd 128K fragments dedupe", "zstd",
          "-zzstd,level=3", "-C131072", "-Eall-fragments,dedupe"),
    erofs("erofs-nolevel", "EROFS zstd 64K, no level", "shown", "-zzstd", "-C65536"),
    # As PuzzleFS, which no loop device opens before the clock runs. It reads slower than by one.
    System("erofs-file", "EROFS zstd 64K, from the file", "shown", "erofs-file",
           ("mkfs.erofs", "--quiet", "-zzstd,level=3", "-C65536", "{image}", "{tree}"),
           ("mount", "stat-cold", "read-cold")),
    System("squashfs", "squashfs zstd 128K", "zstd", "squashfs",
           ("mksquashfs", "{tree}", "{image}", "-comp", "zstd", "-b", "128K", "-quiet", "-no-progress")),
    erofs("erofs-lz4", "EROFS LZ4HC 64K", "lz4", "-zlz4hc", "-C65536"),
    # What is left without compression, and what it costs to verify and to copy what was verified.
    puzzlefs("puzzlefs-raw", "PuzzleFS uncompressed", "shown", "--compression", "none"),
    erofs("erofs-raw", "EROFS uncompressed", "shown"),
    # Of upstream only what comes to an end.
    System("upstream", "upstream FUSE 0.2.0", "shown", "fuse",
           ("{upstream}", "build", "--compression", "{tree}", "{image}:bench"),
           ("size", "stat-cold", "stat-warm", "read-cold", "read-warm", "cpu", "peak")),
]

# What the default was chosen from (docs/profiles.md): measured if they are named.
CANDIDATES = [
    puzzlefs("puzzlefs-64k", "balanced, chunks of 64K", "shown", "--chunk-size", "65536"),
    puzzlefs("puzzlefs-256k", "balanced, chunks of 256K", "shown", "--chunk-size", "262144"),
    puzzlefs("puzzlefs-zstd3", "balanced, zstd:3", "shown", "--compression", "zstd:3"),
    puzzlefs("puzzlefs-zstd6", "balanced, zstd:6", "shown", "--compression", "zstd:6"),
    puzzlefs("puzzlefs-zstd15", "balanced, zstd:15", "shown", "--compression", "zstd:15"),
    puzzlefs("puzzlefs-lz4", "balanced, lz4:4", "shown", "--compression", "lz4:4"),
    puzzlefs("puzzlefs-small-9", "small, zstd:9", "shown", "--profile", "small", "--compression", "zstd:9"),
]

# The same image as of PuzzleFS balanced, without the module: measured if it is named, and by --fuse.
FUSE = System("puzzlefs-fuse", "PuzzleFS balanced, FUSE", "shown", "fuse-ours", OURS[0].build,
              ("size", "stat-cold", "stat-warm", "read-cold", "read-warm", "shuffle-cold", "random-cold", "large-cold",
               "exec-cold"))

BY_DEFAULT = {s.name: s for s in OURS + PEERS}
SYSTEMS = BY_DEFAULT | {s.name: s for s in [*CANDIDATES, FUSE]}


def upstream():
    """Upstream's program."""
    return subprocess.check_output([f"{TOP}/scripts/peer-puzzlefs"], text=True).strip()
