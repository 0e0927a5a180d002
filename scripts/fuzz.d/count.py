#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""fuzz.d/count.py --show | --add TARGET LOG | --add-uml COUNTS STATUS: the executions of all fuzz
targets so far, which docs/fuzz.json holds: shows them, or adds those that the LOG of libFuzzer
says, or the COUNTS of the guest of `make fuzz-uml`, which ended with STATUS."""

import fcntl
import json
import pathlib
import re
import sys

FILE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "fuzz.json"


def merge(target, executions, edges, failures):
    with open(FILE, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        counts = json.loads(file.read() or "{}")
        count = counts.setdefault(target, {"executions": 0, "edges": 0, "failures": 0})
        count["executions"] += executions
        count["edges"] = max(count["edges"], edges)
        count["failures"] += failures
        file.truncate(0)
        file.write(json.dumps(dict(sorted(counts.items())), indent=1) + "\n")


def add(target, log):
    text = pathlib.Path(log).read_text(errors="replace")
    executions = re.findall(r"^stat::number_of_executed_units: *(\d+)", text, re.M)
    edges = re.findall(r"\bcov: (\d+)", text)
    merge(target, int(executions[-1]) if executions else 0, max(map(int, edges), default=0),
          int("SUMMARY: libFuzzer:" in text))


def add_uml(path, status):
    counts = dict(line.split() for line in pathlib.Path(path).read_text().splitlines())
    merge("uml", int(counts["mounts"]), int(counts["edges"]), int(status != "0"))


def show():
    counts = json.loads(FILE.read_text())
    print(f"{'target':16}{'executions':>14}{'edges':>8}{'failures':>10}")
    for target, count in counts.items():
        print(f"{target:16}{count['executions']:14,}{count['edges']:8,}{count['failures']:10}")
    print(f"{'in all':16}{sum(count['executions'] for count in counts.values()):14,}")


if sys.argv[1:2] == ["--add"]:
    add(*sys.argv[2:])
elif sys.argv[1:2] == ["--add-uml"]:
    add_uml(*sys.argv[2:])
else:
    show()
