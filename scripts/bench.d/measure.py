# SPDX-License-Identifier: GPL-2.0
"""What bench.py and native.py have in common: one run of guest.py in a machine, and what
came out of it."""

import json
import os
import subprocess
import sys
import tempfile

import floor
import images
import systems
from rows import ROWS, WALKS

MEMORY = "3G"
VM = f"{systems.TOP}/scripts/vm"
# Machines whose clock shows instructions, and real time: that one keeps a processor to itself,
# since its kernel and its programs are processes that wait for each other.
COUNTED = (VM, "--icount")
NATIVE = ("taskset", "--cpu-list", str(max(os.sched_getaffinity(0))), "chrt", "--fifo", "1",
          VM, "--kernel", "uml")


def walked(system, chosen):
    """The rows to measure in the machine, in the order of the table: those chosen, and
    those that leave the state that a chosen one begins with."""
    names = {row.name for row in chosen}
    names |= {"read-cold"} if names & {"cache", "slab"} else set()
    names |= {ROWS[name].after for name in names if ROWS[name].after}
    return [row for row in WALKS if row.name in names and row.name in (system.rows or ROWS)]


def plan(chosen_systems, chosen_rows, built, bare=None, perf=None):
    """What guest.py is to do. `bare` is the kernel that bare.ko is for; None: not that."""
    lists = images.lists()[0]

    def walk_of(row):
        return {"name": row.name, "after": row.after, "walk": [w.format(lists=lists) for w in row.walk]}

    return {
        "walk": str(images.compiled("walk.c")),
        "perf": perf,
        "bare": bare and {"module": floor.module(bare), **floor.frames()},
        "systems": [{"name": s.name, "mount": s.mount,
                     "program": server(s),
                     "path": built[s.name]["path"], "manifest": built[s.name]["manifest"],
                     "rows": [walk_of(row) for row in walked(s, chosen_rows)]}
                    for s in chosen_systems],
    }


def server(system):
    """The command that mounts by FUSE and serves, without image and mount point."""
    # In the foreground: as a daemon upstream's wants a syslog.
    return {"fuse": [systems.upstream(), "mount", "-f"] if system.mount == "fuse" else None,
            "fuse-ours": [f"{systems.TOP}/build/puzzlefs", "mount", "--fuse", "-f"]}.get(system.mount)


def machine(plan, command):
    """One run in the machine of `command`, COUNTED or NATIVE: {system: {row: what walk.c
    printed}}; other output is passed on."""
    results = {}
    with tempfile.NamedTemporaryFile("w", dir=images.CACHE, prefix="bench-plan-") as file:
        json.dump(plan, file)
        file.flush()
        vm = subprocess.Popen(
            [*command, "--memory", MEMORY, "--", "python3", "-B", images.HERE / "guest.py", file.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for line in vm.stdout:
            if not line.startswith('{"system"'):
                print(line, end="", flush=True)
                continue
            took = json.loads(line)
            system = took.pop("system")
            if system not in results:
                images.say(f"measuring {system} ...")
            results.setdefault(system, {})[took.pop("row")] = took
        vm.wait()
    if vm.returncode:
        sys.exit(f"puzzlefs: error: the machine ended with status {vm.returncode}")
    check_same(results)
    return results


def values(results, built):
    """{system: {row: value}}, in seconds and bytes: of the machine and of the builders."""
    table = {}
    for name, made in built.items():
        walks = results.get(name, {})
        table[name] = {row: walks[row]["ns"] / 1e9 / (walks[row]["count"] if row == "random-cold" else 1)
                       for row in walks}
        if "read-cold" in walks:
            table[name] |= {row: walks["read-cold"][row] for row in ("cache", "slab")}
        table[name] |= {row: made[row] for row in ("size", "cpu", "peak")}
    return table


def bare_values(results):
    """What zstd, SHA-256 and mappings take with no file system around them, in seconds."""
    bare = results["bare"]["zstd"]
    return {"zstd": bare["zstd_ns"] / 1e9, "sha256_per_byte": bare["sha256_ns"] / 1e9 / bare["bytes"],
            "vmap_per_page": bare["vmap_ns"] / 1e9}


def check_same(results):
    """All systems must have given the same number of entries and bytes."""
    for row in WALKS:
        got = {(walks[row.name]["count"], walks[row.name]["bytes"]): name
               for name, walks in results.items() if row.name in walks}
        if len(got) > 1:
            sys.exit(f"puzzlefs: error: '{row.title}' did not do the same work everywhere: {got}")
