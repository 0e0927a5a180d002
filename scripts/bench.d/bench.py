# SPDX-License-Identifier: GPL-2.0
"""The driver of `make bench`, in the build root: makes the images, has guest.py measure
them in one virtual machine a run, prints the table and saves what docs/ shows."""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import floor
import images
import report
import save
import systems
from rows import ROWS, WALKS

MEMORY = "3G"


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(
        "Measures PuzzleFS beside its peers, in instructions (virtual time). Without --only and "
        "--rows: everything, and what docs/ shows is written anew."))
    parser.add_argument("--only", metavar="NAME,...", help=f"these systems: {', '.join(systems.SYSTEMS)}")
    parser.add_argument("--rows", metavar="ROW,...", help=f"these rows: {', '.join(ROWS)}")
    parser.add_argument("--runs", metavar="N", type=int, default=1,
                        help="runs, each in a new machine; says by how much they differ")
    parser.add_argument("--perf", metavar="ROW", choices=[row.name for row in WALKS],
                        help="where the time of a row goes, by function (perf in the machine)")
    options = parser.parse_args()

    def chosen(text, known, what):
        names = text.split(",") if text else list(known)
        for name in names:
            if name not in known:
                parser.error(f"there is no {what} '{name}'; there are: {', '.join(known)}")
        return [known[name] for name in names]

    options.systems = chosen(options.only, systems.SYSTEMS, "system")
    options.chosen = chosen(options.perf or options.rows, ROWS, "row")
    return options


def walked(system, chosen):
    """The rows to measure in the machine, in the order of the table: those chosen, and
    those that leave the state that a chosen one begins with."""
    names = {row.name for row in chosen}
    names |= {"read-cold"} if names & {"cache", "slab"} else set()
    names |= {ROWS[name].after for name in names if ROWS[name].after}
    return [row for row in WALKS if row.name in names and row.name in (system.rows or ROWS)]


def plan(options, built, bare):
    """What guest.py is to do."""
    lists = images.lists()[0]

    def walk_of(row):
        return {"name": row.name, "after": row.after, "walk": [w.format(lists=lists) for w in row.walk]}

    return {
        "walk": str(images.compiled("walk.c")),
        "perf": options.perf,
        "bare": bare and {"module": floor.module(), **floor.frames()},
        "systems": [{"name": s.name, "mount": s.mount,
                     "program": systems.upstream() if s.mount == "fuse" else None,
                     "path": built[s.name]["path"], "manifest": built[s.name]["manifest"],
                     "rows": [walk_of(row) for row in walked(s, options.chosen)]}
                    for s in options.systems],
    }


def machine(plan):
    """One run: {system: {row: what walk.c printed}}; other output is passed on."""
    results = {}
    with tempfile.NamedTemporaryFile("w", dir=images.CACHE, prefix="bench-plan-") as file:
        json.dump(plan, file)
        file.flush()
        vm = subprocess.Popen(
            [f"{systems.TOP}/scripts/vm", "--icount", "--memory", MEMORY, "--",
             "python3", "-B", images.HERE / "guest.py", file.name],
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


def check_same(results):
    """All systems must have given the same number of entries and bytes."""
    for row in WALKS:
        got = {(walks[row.name]["count"], walks[row.name]["bytes"]): name
               for name, walks in results.items() if row.name in walks}
        if len(got) > 1:
            sys.exit(f"puzzlefs: error: '{row.title}' did not do the same work everywhere: {got}")


def everything(options, built):
    """All systems and rows: prints the tables, saves what docs/ shows."""
    walks = [machine(plan(options, built, bare=True)) for _ in range(options.runs)]
    bare = walks[0]["bare"]["zstd"]
    tar = floor.tar()
    floors = {
        "zstd": bare["zstd_ns"] / 1e9, "sha256_per_byte": bare["sha256_ns"] / 1e9 / bare["bytes"],
        "bytes_read": max(w["read-cold"]["bytes"] for w in walks[0].values() if "read-cold" in w),
        "tar_cpu": tar["cpu"], "tar_peak": tar["peak"],
        "metadata": {s.name: built[s.name]["metadata"] for s in systems.OURS},
    }
    runs = [values(results, built) for results in walks]
    report.measured(options.systems, options.chosen, runs[0])
    stands = {s.name: report.targets(s, options.systems, runs[0], floors) for s in systems.OURS}
    for system in systems.OURS:
        report.print_targets(system, runs[0], stands[system.name])
    save.save(options.systems, runs, floors, stands)
    return runs


def main():
    options = arguments()
    built = {s.name: images.build(s) for s in options.systems}
    if options.only or options.rows or options.perf:
        runs = [values(machine(plan(options, built, bare=False)), built) for _ in range(options.runs)]
        report.measured(options.systems, options.chosen, runs[0])
    else:
        runs = everything(options, built)
    if options.runs > 1:
        print(f"\n{options.runs} runs differ most in:")
        for part, where in report.differences(runs)[:5]:
            print(f"{part:.1%}  {where}")


main()
