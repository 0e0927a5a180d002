# SPDX-License-Identifier: GPL-2.0
"""How long operations take to be killed, and the memory that they cost."""

import os
import re
import signal
import time

from case import drop_caches


def reference():
    """Seconds of a fixed loop, which takes 20 ms on a machine of 2020 that is not emulated."""
    begin = time.monotonic()
    sum(range(1_000_000))
    return time.monotonic() - begin


# Under emulation everything takes longer, by this factor, and so may a second.
SECOND = max(1.0, min(reference() for _ in range(3)) / 0.02)


def fields():
    with open("/proc/meminfo") as f:
        return {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+)", f.read(), re.M)}


def kept():
    """KiB, by kind, when all is dropped that can be."""
    drop_caches()
    now = fields()
    return {"lost": -now["MemAvailable"], "slab": now["SUnreclaim"], "vmalloc": now["VmallocUsed"], "percpu": now["Percpu"]}


def unreclaimable():
    """KiB, without dropping anything, while something runs."""
    now = fields()
    return now["MemTotal"] - sum(now[name] for name in ("MemFree", "Cached", "Buffers", "SReclaimable", "AnonPages"))


def child(operation):
    """Calls it in a process of its own, which ends with 1 if that fails, and with 2 if it says False."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os._exit(2 if operation() is False else 0)
    except BaseException:
        os._exit(1)


class Watch:
    """Who is waited for, and the most memory meanwhile."""

    def __init__(self):
        self.idle = self.peak = unreclaimable()
        self.status = None

    def gone(self, pid, seconds):
        """How long until the child is gone; None if it takes longer. Sets its `status`."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            self.peak = max(self.peak, unreclaimable())
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.status = status
                return time.monotonic() - begin
            time.sleep(0.01)
        return None

    def kill(self, victims):
        """Kills each (who, child); yields who stays for more than a second, and how long that is."""
        for _, pid in victims:
            os.kill(pid, signal.SIGKILL)
        for who, pid in victims:
            if self.gone(pid, SECOND) is None:
                left = self.gone(pid, 300)
                yield who, "over 300" if left is None else f"{left + SECOND:.1f}"
