# SPDX-License-Identifier: GPL-2.0
"""What `make bench` prints: what was measured, and how that compares with the targets."""

from rows import FAST, ROWS

UNITS = {"s": 1, "ms": 1e3, "us": 1e6, "MB": 1e-6}


def number(value):
    """Three digits or more, never an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_table(head, lines):
    """A table in Markdown, its columns aligned."""
    cells = [head, ["---"] * len(head), *lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        print("| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                for i, (cell, width) in enumerate(zip(line, widths))) + " |")


def measured(systems, rows, results):
    """Prints a line for each row. `results`: {system: {row: value}}, in seconds and bytes."""
    def cell(row, system):
        value = results[system.name].get(row.name)
        return "-" if value is None else number(value * UNITS[row.unit])

    print_table(["", "unit", *(s.name for s in systems)],
                [[row.title, row.unit, *(cell(row, s) for s in systems)] for row in rows])


def differences(runs):
    """By how much the runs differ, as a part of the least, and where: (part, text), the most first."""
    found = []
    for system, values in runs[0].items():
        for row in values:
            got = [run[system][row] for run in runs]
            if ROWS[row].walk and min(got) > 0:
                found.append((max(got) / min(got) - 1, f"{system}, {ROWS[row].title}"))
    return sorted(found, reverse=True)


def base(row, peers, results, floor):
    """What a row of ours is compared with: (value, what it is), or None when it has no target."""
    best = min(((results[p.name][row.name], p.title) for p in peers if row.name in results[p.name]), default=None)
    return {
        "peer": best,
        "peer, beside hashing": best,
        "bare zstd": (floor["zstd"], "bare zstd of the same bytes"),
        "bytes read": (floor["bytes_read"], "the bytes read"),
        "zstd -T2 of a tar": (floor["tar_cpu"], "zstd -T2 over a tar"),
        "300 MB": (300e6, "300 MB"),
    }[row.against]


def targets(ours, systems, results, floor):
    """How one system of ours stands: a dictionary for each row that has a target."""
    fast = ours.role == "fast"
    peers = [s for s in systems if s.role == ("lz4" if fast else "zstd")]
    found = []
    for row in ROWS.values():
        target = FAST.get(row.name) if fast else row.target
        against = base(row, peers, results, floor)
        value = results[ours.name].get(row.name)
        if None in (target, against, value):
            continue
        if row.name == "mount":  # to hash what it reads is what a peer does not do
            value = max(value - floor["sha256_per_byte"] * floor["hashed"][ours.name], 0)
        ratio = value / against[0]
        found.append({"row": row.name, "against": against[1], "base": against[0], "ratio": ratio,
                      "target": target, "met": ratio <= target})
    return found


def print_targets(ours, results, stands):
    """The table of one system of ours beside its targets."""
    print(f"\n{ours.title}:\n")
    lines = []
    for stand in stands:
        row = ROWS[stand["row"]]
        scale = UNITS[row.unit]
        lines.append([row.title, row.unit, number(results[ours.name][row.name] * scale), number(stand["base"] * scale),
                      stand["against"], f"{stand['ratio']:.2f}", f"{stand['target']:.2f}",
                      "met" if stand["met"] else "missed"])
    print_table(["", "unit", "ours", "base", "of", "ratio", "target", ""], lines)
    print(f"{sum(s['met'] for s in stands)} of {len(stands)} targets met")
