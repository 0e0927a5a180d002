# SPDX-License-Identifier: GPL-2.0
"""The rows of `make bench`: what is measured of each system, and the target for it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """`walk` are the arguments of walk.c, with {lists} to fill in. A row that has `after` is
    measured right after that one, in the state that it leaves; others begin with a new mount
    and cold caches. Ours may take at most `target` of what `against` names in report.py."""
    name: str
    title: str
    unit: str
    walk: tuple = ()
    after: str = ""
    target: float | None = None
    against: str = "peer"


ROWS = {row.name: row for row in [
    Row("size", "image size", "MB", target=0.93),
    Row("mount", "mount", "ms", ("mount",), target=0.5, against="peer, beside hashing"),
    Row("stat-cold", "stat of all, cold", "ms", ("stat",), target=0.6),
    Row("stat-warm", "stat of all, warm", "ms", ("stat",), after="stat-cold"),
    Row("read-cold", "read all, cold, in order", "ms", ("read", "{lists}/in-order"), target=0.8),
    Row("read-warm", "read all, warm", "ms", ("read", "{lists}/in-order"), after="read-cold", target=1.0),
    Row("shuffle-cold", "read all, cold, shuffled", "ms", ("read", "{lists}/shuffled"), target=0.75),
    Row("random-cold", "random 4 KiB, cold, each", "us", ("random", "{lists}/random"), target=0.5),
    Row("large-cold", "one large file, cold", "ms", ("read", "{lists}/large"), target=1.25, against="bare zstd"),
    Row("exec-cold", "exec of Python, cold", "ms", ("exec", "/usr/bin/python3", "-c", "pass"), target=0.7),
    Row("cache", "page cache after reading all", "MB", target=1.05, against="bytes read"),
    Row("slab", "slab after reading all", "MB"),
    Row("cpu", "build, processor time", "s", target=1.3, against="zstd -T2 of a tar"),
    Row("peak", "build, peak memory", "MB", target=1.0, against="300 MB"),
]}
# Those that need the virtual machine.
WALKS = [row for row in ROWS.values() if row.walk]
# What the fast profile has to keep to, of EROFS with LZ4HC.
FAST = {"size": 0.9, "read-cold": 0.9}
