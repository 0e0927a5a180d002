# SPDX-License-Identifier: GPL-2.0
"""The tables that `make bench` prints."""

UNITS = {"s": 1, "ms": 1e3, "us": 1e6, "MB": 1e-6}


def shown(row, value):
    """A value of a row as the tables show it."""
    if value is None:
        return "-"
    value *= UNITS[row.unit]
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"


def print_table(head, lines):
    """A table in Markdown, its columns aligned."""
    cells = [head, ["---"] * len(head), *lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        print("| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                for i, (cell, width) in enumerate(zip(line, widths))) + " |")


def show(shown_systems, rows, runs):
    """What was measured, a line for each row; and by how much the runs differ at most."""
    print_table(["", "unit", *(s.name for s in shown_systems)],
                [[row.title, row.unit, *(shown(row, runs[0][s.name].get(row.name)) for s in shown_systems)]
                 for row in rows])
    if len(runs) > 1:
        difference, where = differences(shown_systems, rows, runs)
        print(f"\n{len(runs)} runs differ by {difference:.1%} at most ({where})")


def differences(shown_systems, rows, runs):
    """The largest difference between runs, as a part of the least of them, and where."""
    found = [(0, "nowhere")]
    for system in shown_systems:
        for row in rows:
            got = [run[system.name][row.name] for run in runs if row.name in run[system.name]]
            if got and row.walk and min(got) > 0:
                found.append((max(got) / min(got) - 1, f"{system.name}, {row.title}"))
    return max(found)
