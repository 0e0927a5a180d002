# SPDX-License-Identifier: GPL-2.0
"""What of the machine's memory is in use."""

import glob
import re
import time

from case import drop_caches


def settled(drops):
    """Fields of /proc/meminfo, KiB, after all is dropped that can be. `drops` times: what the first one
    lets go, RCU and kworkers free later."""
    for _ in range(drops):
        drop_caches()
        time.sleep(1)
    for shrink in glob.glob("/sys/kernel/slab/*/shrink"):
        with open(shrink, "w") as f:
            f.write("1")
    with open("/proc/meminfo") as f:
        fields = {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+)", f.read(), re.M)}
    # Free pages that wait in lists of processors count as used; up to many MiB.
    with open("/proc/zoneinfo") as f:
        fields["Waiting"] = 4 * sum(map(int, re.findall(r"^ +count: +(\d+)", f.read(), re.M)))
    # Pages that nobody counts, such as those of alloc_pages().
    fields["Unaccounted"] = fields["MemTotal"] - sum(fields[name] for name in (
        "MemFree", "Waiting", "Buffers", "Cached", "SwapCached", "Slab", "AnonPages", "PageTables",
        "KernelStack", "VmallocUsed", "Percpu"))
    return fields
