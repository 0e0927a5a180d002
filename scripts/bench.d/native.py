# SPDX-License-Identifier: GPL-2.0
"""`make bench-native`: the read rows again in real time, and how the ratios that counting
instructions gave compare with those."""

import json
import pathlib
import statistics

import images
import report
import systems
from measure import NATIVE, bare_values, machine, plan, values
from rows import ROWS

READS = [ROWS[name] for name in ("read-cold", "shuffle-cold", "read-warm", "random-cold", "large-cold")]
# Ours, and what it is compared with.
PAIRS = [("puzzlefs", "erofs-64k"), ("puzzlefs", "erofs-128k"), ("puzzlefs", "squashfs"), ("puzzlefs-fast", "erofs-lz4")]
COMPARED = [s for s in systems.SYSTEMS.values() if any(s.name in pair for pair in PAIRS)]
DOCS = pathlib.Path(systems.TOP) / "docs"


def ratios(rounds, counted):
    """A dictionary for each row of each pair. Ratios are taken within a round, whose two
    sides the machine was about equally good to; of those, the median and the quartiles."""
    for row in READS:
        for ours, peer in PAIRS:
            each = [one[ours][row.name] / one[peer][row.name] for one in rounds]
            low, median, high = statistics.quantiles(each, n=4, method="inclusive")
            count = counted[ours]["rows"][row.name] / counted[peer]["rows"][row.name]
            yield {"row": row.name, "ours": ours, "peer": peer, "counted": count, "native": median,
                   "quartiles": [low, high], "native_by_counted": median / count}


def show(found, bare, rounds):
    print(f"\nRatios, medians of {len(rounds)} rounds:\n")
    report.print_table(
        ["", "of", "to", "instructions", "native", "quartiles", "native / instructions"],
        [[ROWS[f["row"]].title, f["ours"], f["peer"], f"{f['counted']:.2f}", f"{f['native']:.2f}",
          "{:.2f} to {:.2f}".format(*f["quartiles"]), f"{f['native_by_counted']:.2f}"] for f in found])
    print("\nThe least of each, in real time:\n")
    least = {s.name: {row.name: min(one[s.name][row.name] for one in rounds) for row in READS} for s in COMPARED}
    report.measured(COMPARED, READS, least)
    print(f"\nwith no file system around them: zstd of the large file {bare['zstd'] * 1e3:.2f} ms, "
          f"SHA-256 {bare['sha256_per_byte'] * 1e9:.2f} ns a byte, mapping a page {bare['vmap_per_page'] * 1e9:.0f} ns")


def everything(rounds):
    """Measures all of COMPARED in each round, prints and saves what that gave."""
    if rounds < 2:
        raise SystemExit("puzzlefs: error: real time takes two runs or more: --runs N")
    built = {s.name: images.build(s) for s in COMPARED}
    work = plan(COMPARED, READS, built, bare="uml")
    walks = []
    for _ in range(rounds):
        walks.append(machine(work, NATIVE))
        # Another one first each time: who is first also pays for memory that the host gives.
        work["systems"].append(work["systems"].pop(0))
    each = [values(results, built) for results in walks]
    bare = {name: min(bare_values(results)[name] for results in walks) for name in bare_values(walks[0])}
    counted = json.loads((DOCS / "bench.json").read_text())
    found = list(ratios(each, counted["systems"]))
    show(found, bare, each)
    (DOCS / "bench-native.json").write_text(json.dumps({
        "kernel": counted["kernel"] + ", user mode", "rounds": rounds, "floor": bare, "ratios": found,
        "seconds": {s.name: {row.name: [one[s.name][row.name] for one in each] for row in READS} for s in COMPARED},
    }, indent=1) + "\n")
