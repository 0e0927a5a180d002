# SPDX-License-Identifier: GPL-2.0
"""A probe at the first instruction of a program, by tracefs (Documentation/trace/uprobetracer.rst)."""

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


class Uprobe:
    """Counts who begins to run `path`."""

    def __init__(self, path):
        self.place = f"{path}:{entry(path):#x}"

    def __enter__(self):
        if not os.path.exists(f"{TRACING}/uprobe_events"):
            subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
        self.write("uprobe_events", f"p:begin {self.place}")
        self.write("trace", "")
        self.write("events/uprobes/begin/enable", "1")
        return self

    def __exit__(self, *_):
        self.write("events/uprobes/begin/enable", "0")
        self.write("uprobe_events", "")  # opened to be written from its begin, it is emptied

    def hits(self):
        with open(f"{TRACING}/trace") as f:
            return sum("begin:" in line for line in f)

    @staticmethod
    def write(name, text):
        with open(f"{TRACING}/{name}", "w") as f:
            f.write(text)
