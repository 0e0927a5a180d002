# SPDX-License-Identifier: GPL-2.0
"""Processes that do operations until they are told to stop, or are killed; and what came of them."""

import collections
import errno
import mmap
import os
import random
import re
import signal
import struct
import sys
import time
import traceback

from load import operations
from load.disk import write

STOP = 8  # bytes at the beginning of the shared memory: whether to stop
ERRNOS = 134  # 0 stands for success
CGROUP, LIMIT = "/sys/fs/cgroup/load", 48 << 20


class Tally:
    """Counters in shared memory, of each process its own: what it did counts even if it is killed."""

    def __init__(self, processes, kinds):
        self.kinds = kinds
        self.row = 8 * len(kinds) * ERRNOS
        self.memory = mmap.mmap(-1, STOP + processes * self.row)

    def add(self, process, kind, number):
        at = STOP + process * self.row + 8 * (self.kinds.index(kind) * ERRNOS + number)
        struct.pack_into("Q", self.memory, at, struct.unpack_from("Q", self.memory, at)[0] + 1)

    def taken(self):
        """What was counted since the last time: by kind, then by errno."""
        found = collections.defaultdict(collections.Counter)
        values = struct.unpack_from(f"{(len(self.memory) - STOP) // 8}Q", self.memory, STOP)
        for at, value in enumerate(values):
            if value:
                kind, number = divmod(at % (self.row // 8), ERRNOS)
                found[self.kinds[kind]][errno.errorcode[number] if number else "ok"] += value
        self.memory[STOP:] = bytes(len(self.memory) - STOP)
        return found


class Crew:
    """`count` processes: readers, but for the last two, which mount and unmount. One reader in three has
    the memory of a small cgroup."""

    def __init__(self, count, seed, places, churns, wrong):
        self.count, self.seed, self.places, self.churns, self.wrong = count, seed, places, churns, wrong
        kinds = [kind.__name__ for kind in (*operations.ALWAYS, *operations.CALM)] + ["mount", "overlay"]
        self.tally = Tally(count, kinds)
        self.pids, self.started = [0] * count, 0
        os.makedirs(CGROUP, exist_ok=True)
        write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
        write(f"{CGROUP}/memory.max", LIMIT)

    def begin(self, calm):
        """All of them. `calm`: nothing may fail, so loads of their own may fault."""
        self.calm = calm
        self.tally.memory[:STOP] = bytes(STOP)
        for number in range(self.count):
            self.start(number)

    def start(self, number):
        self.started += 1
        pid = os.fork()
        if pid == 0:
            try:
                self._work(number, random.Random(f"{self.seed} {self.started}"))
                status = 0
            except BaseException:
                traceback.print_exc()
                status = 1
            finally:
                sys.stdout.flush()
                os._exit(status)
        self.pids[number] = pid

    def _work(self, number, rng):
        readers = self.count - len(self.churns)
        if number < readers and number % 3 == 0:
            write(f"{CGROUP}/cgroup.procs", os.getpid())
        operations.begin()
        chosen = operations.ALWAYS + (operations.CALM if self.calm else ())
        if number >= readers:
            churn = self.churns[number - readers]
            chosen = churn.mount, churn.mount, churn.overlay
        while not self.tally.memory[0]:
            operation = rng.choice(chosen)
            try:
                operation(rng.choice(self.places), rng)
                result = 0
            except OSError as error:
                result = error.errno
            except operations.Wrong as error:
                with open(self.wrong, "a") as f:
                    f.write(f"{error}\n")
                continue
            self.tally.add(number, operation.__name__, result)

    def ended(self):
        """Waits for those who have ended by now: what is wrong with how they did."""
        found = []
        for number, pid in enumerate(self.pids):
            if pid and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self.pids[number] = 0
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if status or not self.tally.memory[0]:
                    found.append(f"reader {number} ended with {status}")
        return found

    def kill(self, number, seconds):
        """Kills one, and says how long it took to end; None if it does not in so many seconds."""
        os.kill(self.pids[number], signal.SIGKILL)
        return self.wait(number, seconds)

    def wait(self, number, seconds):
        """The same for one that was killed."""
        start = time.monotonic()
        while not os.waitpid(self.pids[number], os.WNOHANG)[0]:
            if time.monotonic() > start + seconds:
                return None
            time.sleep(0.01)
        self.pids[number] = 0
        return time.monotonic() - start

    def stack(self, number):
        """Where one waits, in the kernel: functions, the innermost first."""
        with open(f"/proc/{self.pids[number]}/stack") as f:
            return [line.split(maxsplit=1)[1].strip() for line in f]

    def again(self, number):
        """Another one in the place of one that was killed."""
        readers = self.count - len(self.churns)
        if number >= readers:
            self.churns[number - readers].clean()
        self.start(number)

    def stop(self, seconds):
        """Tells all to stop, and waits; what is wrong with how they ended."""
        self.tally.memory[0] = 1
        end, found = time.monotonic() + seconds, []
        while any(self.pids) and time.monotonic() < end:
            found += self.ended()
            time.sleep(0.05)
        for number, pid in enumerate(self.pids):
            if pid:
                found.append(f"reader {number} does not stop: {self.stack(number)}")
                self.kill(number, 60)
        for churn in self.churns:
            churn.clean()
        return found


def killed_for_memory():
    """How many the small cgroup has killed."""
    with open(f"{CGROUP}/memory.events") as f:
        return int(dict(line.split() for line in f)["oom_kill"])


# Where the filesystem below looks up and reads its own metadata, which it does not let a signal end.
BELOW = re.compile(r"_*(ext4|xfs|jbd2|wait_on_buffer|lookup_slow|path_openat|path_lookupat)")


def waits_below(stack):
    """Whether it is the lower filesystem that waits, and not the module or what is above."""
    for function in stack:
        if "[puzzlefs]" in function:
            return False
        if BELOW.match(function):
            return any("[puzzlefs]" in outer for outer in stack)
    return False
