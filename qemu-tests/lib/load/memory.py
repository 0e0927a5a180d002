# SPDX-License-Identifier: GPL-2.0
"""What of the machine's memory is in use when nothing is mounted, and the module is not loaded."""

import os
import re
import time

from case import SANITIZERS
from meminfo import settled

# What is reported, KiB; and by how much it may grow from the end of the first cycle to the end of the
# last, in the stock kernel. They move by themselves, the more the more often the disk failed.
SHOWN = ("MemAvailable", "MemFree", "Slab", "SUnreclaim", "VmallocUsed", "Percpu", "KernelStack", "PageTables",
         "AnonPages", "Cached", "Waiting", "Unaccounted")
LIMITS = {"SUnreclaim": 2048, "VmallocUsed": 512, "Percpu": 256, "KernelStack": 512, "Unaccounted": 4096}
# KASAN and kmemleak keep the stack of each place that ever allocated, and shadows of freed memory.
MORE = {"SUnreclaim": 32768, "VmallocUsed": 4096, "Unaccounted": 65536}


def limits():
    return LIMITS | (MORE if SANITIZERS else {})


def now():
    """KiB, after all is dropped that can be."""
    fields = settled(3)
    return {name: fields[name] for name in SHOWN}


def slabs():
    """Caches of the module, of which there are none without it."""
    with open("/proc/slabinfo") as f:
        return [line.split()[0] for line in f if line.startswith("puzzlefs")]


def leaks():
    """What kmemleak says the module allocated and nobody knows; to be asked while it is loaded."""
    path = "/sys/kernel/debug/kmemleak"
    if not os.path.exists(path):
        return ""
    time.sleep(6)  # it leaves out what is younger
    for _ in range(2):
        with open(path, "w") as f:
            f.write("scan")
    with open(path, errors="replace") as f:
        reports = re.split(r"(?=^unreferenced)", f.read(), flags=re.M)
    return "".join(report for report in reports if "[puzzlefs]" in report)
