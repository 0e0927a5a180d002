# SPDX-License-Identifier: GPL-2.0
"""load/run.py --minutes N --seed N --report FILE: puts a mounted PuzzleFS under load in this virtual
machine, and writes what came of it (JSON). See docs/load.md."""

import argparse
import collections
import contextlib
import errno
import functools
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time

import injection
from case import SANITIZERS, drop_caches

from load import memory, mounts, operations, workers
from load.disk import Disk, run, write
from load.truth import Tree

WRONG = "/tmp/wrong"
CREW = 8
# What must not last longer, seconds: the end of a reader that was killed, of one that is told to stop.
# Both count a machine without KVM whose processors others use, too.
KILL, STOP = (30, 240) if SANITIZERS else (10, 120)
READ = {"EIO", "EFAULT"}  # EFAULT: a map that is read by a system call
MEMORY = READ | {"ENOMEM"}
LIES = READ | {"EBADMSG", "EUCLEAN"}  # of the lower filesystem's metadata, and of a manifest


class Failed(Exception):
    """What ends the load before its time."""


class Load:
    def __init__(self, minutes, seed):
        self.minutes, self.seed = minutes, seed
        self.rng = random.Random(seed)
        self.end = time.monotonic() + 60 * minutes
        # A phase, and a part of the files in the checks between them: a short run has all phases, too.
        self.seconds = min(20, max(2, minutes * 60 / 90))
        self.part = (0.2 if SANITIZERS else 1) if minutes >= 10 else 0.05
        self.phases, self.failures, self.memory, self.cycles = {}, [], [], 0
        self.kills, self.slowest, self.spawned = 0, 0.0, 0
        self.below = collections.Counter()  # where killed readers waited for the lower filesystem
        self.log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.log, 0, os.SEEK_END)

    def fail(self, what):
        if what not in self.failures:
            print(f"FAILED: {what}", flush=True)
            self.failures.append(what)

    def listen(self, where):
        """Whether the kernel has complained, by the same words as scripts/vm."""
        lines = []
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    lines.append(os.read(self.log, 8192).decode(errors="replace").partition(";")[2].splitlines()[0])
                except BrokenPipeError:  # some were overwritten: scripts/vm has the whole console
                    continue
        with open("/tmp/kmsg", "w") as f:
            f.write("\n".join(lines) + "\n")
        found = subprocess.run([os.path.join(os.environ["PUZZLEFS_TOP"], "scripts/vm.d/complaints"), "/tmp/kmsg"],
                               stdout=subprocess.PIPE, text=True)
        if found.returncode:
            self.fail(f"{where}: the kernel says: {found.stdout.strip()}")
            raise Failed

    def prepare(self):
        run("modprobe", "-a", "loop", "dm-mod", "dm-flakey", "dm-delay", "overlay", "xfs")
        self.trees = {name: Tree(name) for name in mounts.IMAGES}
        self.disks = [Disk(kind, [tree.image for tree in self.trees.values()]) for kind in ("ext4", "xfs")]

    def faults(self, disk):
        """The phases: a name, what goes on meanwhile, which errors it may cause, what is done to readers."""
        nothing = contextlib.nullcontext
        yield "calm", nothing, set(), None
        yield "readers are killed", nothing, set(), self.kill_one
        yield "slow disk", disk.slow, set(), self.kill_one
        yield "disk stands still", nothing, set(), lambda crew: self.stand_still(crew, disk)
        yield "disk fails", disk.failing, READ, None
        yield "disk lies", disk.lying, LIES, None
        if SANITIZERS:
            for folder in injection.FAILING:
                fault = functools.partial(injection.at_random, 5, folder)
                yield os.path.basename(folder), fault, MEMORY, self.kill_one
            yield "fail_make_request", lambda: disk.requests_fail(10), READ, self.kill_one

    def kill_one(self, crew):
        number = self.rng.randrange(crew.count)
        if crew.pids[number]:
            if not self.kill(crew, number):
                self.ends_at_last(crew, number)
            crew.again(number)

    def kill(self, crew, number):
        """Whether it has ended. One that waits in the lower filesystem's own code is counted: that must not go
        on when the disk does."""
        took = crew.kill(number, KILL)
        self.kills += 1
        if took is not None:
            self.slowest = max(self.slowest, took)
            return True
        stack = crew.stack(number)
        if workers.waits_below(stack):
            self.below.update([" < ".join(re.sub(r"\+.*", "", function) for function in stack[:6])])
        else:
            self.fail(f"a reader was not ended by SIGKILL in {KILL} s: {stack}")
        return False

    def ends_at_last(self, crew, number):
        if crew.wait(number, KILL) is None:
            self.fail(f"a killed reader does not end when the disk goes on: {crew.stack(number)}")
            raise Failed

    def stand_still(self, crew, disk):
        """Readers that wait for the disk end when they are killed. Caches are dropped before: who drops them
        while a mount waits for its disk waits for that, as on any filesystem (super_lock), and cannot be killed."""
        drop_caches()
        with disk.standing_still():
            time.sleep(2)
            left = [number for number in range(crew.count) if crew.pids[number] and not self.kill(crew, number)]
        for number in left:
            self.ends_at_last(crew, number)
        for number in range(crew.count):
            if not crew.pids[number]:
                crew.again(number)

    def phase(self, crew, name, fault, allowed, disturb):
        killed, start = workers.killed_for_memory(), time.monotonic()
        crew.begin(calm=not allowed)
        with fault():
            while time.monotonic() < start + self.seconds:
                time.sleep(self.rng.uniform(0.1, 0.8))
                if self.rng.random() < 0.4:
                    write("/proc/sys/vm/drop_caches", self.rng.choice((1, 2, 3)))
                for what in crew.ended():
                    self.fail(f"{name}: {what}")
                if disturb:
                    disturb(crew)
        for what in crew.stop(STOP):
            self.fail(f"{name}: {what}")
        killed = workers.killed_for_memory() - killed
        if killed:
            self.fail(f"{name}: the small cgroup killed {killed} readers")
        self.tell(name, crew.tally.taken(), allowed, time.monotonic() - start)
        self.listen(name)

    def tell(self, name, counts, allowed, seconds):
        phase = self.phases.setdefault(name, {"seconds": 0, "times": 0, "operations": {}})
        phase["seconds"] += round(seconds)
        phase["times"] += 1
        for kind, results in counts.items():
            sums = collections.Counter(phase["operations"].get(kind, {})) + results
            phase["operations"][kind] = dict(sums)
            for result in set(results) - {"ok"} - allowed:
                self.fail(f"{name}: {results[result]} times {result} of {kind}")
        done = sum((results["ok"] for results in counts.values()), 0)
        errors = sum(counts.values(), collections.Counter())
        errors.pop("ok", 0)
        print(f"{name}: {done} operations, {dict(errors) or 'no errors'}, {seconds:.0f} s", flush=True)
        if os.path.exists(WRONG):
            with open(WRONG) as f:
                for line in f.read().splitlines()[:20]:
                    self.fail(f"{name}: wrong data: {line}")
            os.unlink(WRONG)

    def check(self, places, after):
        """All must be right again: each file, cold, by one of the mounts that have it."""
        drop_caches()
        start, count = time.monotonic(), 0
        for tree in self.trees.values():
            having = [place for place in places if place.tree is tree]
            for number, file in enumerate(tree.files):
                if self.rng.random() >= self.part:
                    continue
                place = having[(number + self.cycles) % len(having)]
                try:
                    with open(operations.full(place, file.path), "rb") as f:
                        right = f.read() == file.bytes()
                except OSError as error:
                    self.fail(f"after {after}: {place.root} {file.path}: {errno.errorcode[error.errno]}")
                    continue
                count += 1
                if not right:
                    self.fail(f"after {after}: wrong data of {place.root} {file.path}")
        print(f"after {after}: {count} files are right, {time.monotonic() - start:.0f} s", flush=True)
        self.listen(f"after {after}")

    def cycle(self):
        """All phases on one disk; then nothing is mounted, and the module is loaded anew."""
        disk = self.disks[self.cycles % len(self.disks)]
        places = mounts.all_mounted(disk, self.trees)
        churns = [mounts.Churn(number, disk, self.trees, places) for number in range(2)]
        crew = workers.Crew(CREW, f"{self.seed} {self.cycles}", places, churns, WRONG)
        if SANITIZERS:
            injection.prepare("puzzlefs", everybody=True)
        for name, fault, allowed, disturb in self.faults(disk):
            self.phase(crew, name, fault, allowed, disturb)
            if disturb or allowed:
                self.check(places, name)
            if self.cycles and time.monotonic() > self.end:
                break
        self.spawned += crew.started
        mounts.all_unmounted(places)
        self.cycles += 1
        if found := memory.leaks():
            self.fail(f"kmemleak: {found[:2000]}")
        run("rmmod", "puzzlefs")
        if found := memory.slabs():
            self.fail(f"slab caches without the module: {found}")
        self.remember()
        run("insmod", os.environ["PUZZLEFS_MODULE"])
        self.listen("loading the module anew")

    def remember(self):
        self.memory.append(memory.now())
        print(f"memory, KiB: {self.memory[-1]}", flush=True)

    def run(self):
        write("/proc/sys/vm/drop_caches", 4)  # no line in the log each time
        self.prepare()
        run("rmmod", "puzzlefs")
        self.remember()
        run("insmod", os.environ["PUZZLEFS_MODULE"])
        try:
            while not self.cycles or time.monotonic() < self.end:
                self.cycle()
        except Failed:
            return
        for disk in self.disks:
            disk.close()
        self.compare_memory()

    def compare_memory(self):
        """From the end of the first cycle on, if there were more: it makes what stays, such as slabs of others."""
        first, last = self.memory[min(1, len(self.memory) - 2)], self.memory[-1]
        for name, limit in memory.limits().items():
            if last[name] - first[name] > limit:
                self.fail(f"{name} grew by {last[name] - first[name]} KiB, more than {limit}")

    def report(self):
        module = os.environ["PUZZLEFS_MODULE"]
        with open(module, "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()[:12]
        return {"kernel": os.uname().release, "module": digest, "minutes": self.minutes, "seed": self.seed,
                "cycles": self.cycles, "readers": self.spawned, "killed": self.kills,
                "slowest end of a killed reader, s": round(self.slowest, 2),
                "killed, but waiting below": dict(self.below), "phases": self.phases,
                "memory": self.memory, "limits": memory.limits(), "failures": self.failures}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.minutes} minutes", flush=True)
    load = Load(options.minutes, options.seed)
    try:
        load.run()
    finally:
        if options.report:
            with open(options.report, "w") as f:
                json.dump(load.report(), f)
    for what in load.failures:
        print(what)
    print(f"{load.cycles} cycles, {load.kills} readers killed, {len(load.failures)} failures")
    sys.exit(bool(load.failures))


if __name__ == "__main__":
    main()
