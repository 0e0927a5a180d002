# SPDX-License-Identifier: GPL-2.0
"""Probes that count, by tracefs (Documentation/trace/{uprobe,kprobe}trace*.rst)."""

import os
import struct
import subprocess

TRACING = "/sys/kernel/tracing"


def entry(path):
    """Where in a static ELF program's file its first instruction is."""
    with open(path, "rb") as f:
        data = f.read()
    start, headers = struct.unpack_from("<QQ", data, 24)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, headers + number * size)
        if kind == 1 and address <= start < address + length:  # PT_LOAD
            return start - address + offset
    raise ValueError(f"{path} has no segment with its entry")


class Probe:
    """Counts who comes to `place`; `kind` is uprobe or kprobe."""

    def __init__(self, kind, place):
        self.kind, self.place = kind, place

    def __enter__(self):
        if not os.path.exists(f"{TRACING}/trace"):
            subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
        self.write(f"{self.kind}_events", f"p:begin {self.place}")
        self.write("trace", "")
        self.write(f"events/{self.kind}s/begin/enable", "1")
        return self

    def __exit__(self, *_):
        self.write(f"events/{self.kind}s/begin/enable", "0")
        self.write(f"{self.kind}_events", "")  # opened to be written from its begin, it is emptied

    def hits(self):
        with open(f"{TRACING}/trace") as f:
            return sum("begin:" in line for line in f)

    @staticmethod
    def write(name, text):
        with open(f"{TRACING}/{name}", "w") as f:
            f.write(text)


class Uprobe(Probe):
    """Counts who begins to run the program at `path`."""

    def __init__(self, path):
        super().__init__("uprobe", f"{path}:{entry(path):#x}")


class Kprobe(Probe):
    """Counts calls of a function of the kernel."""

    def __init__(self, function):
        super().__init__("kprobe", function)
