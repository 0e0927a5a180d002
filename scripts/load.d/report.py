#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""load.d/report.py --show | --add KERNEL REPORT STATUS: docs/load.json, the last report of each kernel:
shows it as tables, or puts in the REPORT of a machine that ended with STATUS."""

import collections
import fcntl
import json
import pathlib
import sys

FILE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "load.json"


def add(kernel, path, status):
    with open(FILE, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        reports = json.loads(file.read() or "{}")
        reports[kernel] = json.loads(pathlib.Path(path).read_text()) | {"status": int(status)}
        file.truncate(0)
        file.write(json.dumps(dict(sorted(reports.items())), indent=1) + "\n")


def errors(results):
    return {name: count for name, count in sorted(results.items()) if name != "ok"}


def words(counts):
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def summed(phases):
    """Operations by kind, over phases."""
    found = collections.defaultdict(collections.Counter)
    for phase in phases:
        for kind, results in phase["operations"].items():
            found[kind].update(results)
    return found


def show_one(kernel, report):
    print(f"{kernel}: {report['kernel']}, module {report['module']}, {report['minutes']:g} minutes, "
          f"seed {report['seed']}, status {report['status']}")
    print(f"{report['cycles']} cycles, {report['readers']:,} readers, {report['killed']:,} of them killed; "
          f"the slowest ended {report['slowest end of a killed reader, s']} s after that")
    for stack, count in report["killed, but waiting below"].items():
        print(f"{count} more waited in the lower filesystem until the disk went on: {stack}")
    print()
    print(f"{'phase':24}{'times':>6}{'s':>7}{'done':>12}  errors")
    for name, phase in report["phases"].items():
        results = sum(summed([phase]).values(), collections.Counter())
        print(f"{name:24}{phase['times']:6}{phase['seconds']:7}{results['ok']:12,}  {words(errors(results))}")
    print(f"\n{'operation':24}{'done':>12}  errors")
    for kind, results in sorted(summed(report["phases"].values()).items()):
        print(f"{kind:24}{results['ok']:12,}  {words(errors(results))}")
    memory = report["memory"]
    print(f"\n{'memory, KiB':16}{'before':>12}{'first':>12}{'last':>12}{'may grow by':>12}")
    for name in memory[0]:
        limit = report["limits"].get(name, "")
        shown = "".join(f"{at[name]:12,}" for at in (memory[0], memory[min(1, len(memory) - 1)], memory[-1]))
        print(f"{name:16}{shown}{limit:>12}")
    for what in report["failures"]:
        print(f"FAILED: {what}")
    print()


def show():
    for kernel, report in json.loads(FILE.read_text()).items():
        show_one(kernel, report)


if sys.argv[1:2] == ["--add"]:
    add(*sys.argv[2:])
else:
    show()
