# SPDX-License-Identifier: GPL-2.0
"""Saves what `make bench` found: docs/bench.json and the plots beside it."""

import json
import pathlib
import subprocess

import pygal

import images
import report
import systems
from rows import ROWS

DOCS = pathlib.Path(systems.TOP) / "docs"
# Nothing fetched, and readable on a dark page too.
PLAIN = {"js": (), "pretty_print": True, "legend_at_bottom": True, "truncate_legend": -1, "truncate_label": -1,
         "width": 900, "height": 520,
         "style": pygal.style.Style(background="#ffffff", plot_background="#ffffff", font_family="sans-serif",
                                    label_font_size=12, major_label_font_size=12, legend_font_size=13,
                                    title_font_size=16, value_font_size=11)}
# The bars of one plot: rows in which less is better, and every peer has a number.
BARS = ("size", "mount", "stat-cold", "stat-warm", "read-cold", "read-warm", "shuffle-cold", "random-cold",
        "large-cold", "exec-cold", "cache")


def size_and_speed(shown, results):
    """Image size against reading everything: the lower left is better."""
    chart = pygal.XY(stroke=False, dots_size=7, title="Image size and reading all files, cold, in order",
                     x_title="image size, MB", y_title="reading, s of virtual time", legend_at_bottom_columns=3,
                     **PLAIN)
    for s in shown:
        chart.add(s.title, [(results[s.name]["size"] / 1e6, results[s.name]["read-cold"])])
    return chart


def bars(shown, results):
    """Each row as a part of what the best zstd peer takes: 1 is that peer."""
    chart = pygal.Bar(title="Each row as a part of the best zstd peer's (less is better, cut at 3)",
                      y_title="best zstd peer = 1", x_label_rotation=30, legend_at_bottom_columns=3,
                      range=(0, 3), **PLAIN)
    rows = [ROWS[name] for name in BARS]
    best = {row.name: min(results[s.name][row.name] for s in shown if s.role == "zstd") for row in rows}
    chart.x_labels = [row.title for row in rows]
    for s in shown:
        chart.add(s.title, [min(results[s.name][row.name] / best[row.name], 3) for row in rows])
    return chart


def write_svg(name, chart):
    """A plot with the head that every source file here has; the same for the same numbers,
    which pygal's random name, its date and its script, which has the numbers again, are not."""
    def static(root):
        for parent in list(root.iter()):
            for child in list(parent):
                if callable(child.tag) or child.tag.endswith("script"):
                    parent.remove(child)
        return root

    chart.uuid = name.removesuffix(".svg")
    chart.add_xml_filter(static)
    head, rest = chart.render(is_unicode=True).split("\n", 1)
    (DOCS / name).write_text(f"{head}\n<!-- SPDX-License-Identifier: GPL-2.0 -->\n{rest.rstrip()}\n")


def version(*command):
    """The first line of what a tool says of its version."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().splitlines()[0]


def save(shown, runs, floors, stands):
    """docs/bench.json: everything that the tables are made of, in seconds and bytes."""
    results = runs[0]
    found = {
        "kernel": pathlib.Path("/etc/puzzlefs-kernel").read_text().strip(),
        "tools": {"mkfs.erofs": version("mkfs.erofs", "-V"), "mksquashfs": version("mksquashfs", "-version"),
                  "zstd": version("zstd", "--version")},
        "tree": images.lists()[1],
        "runs": len(runs), "runs_differ": [{"by": round(part, 4), "where": where} for part, where in report.differences(runs)[:5]],
        "floor": floors,
        "systems": {s.name: {"title": s.title, "role": s.role,
                             "build": s.build,
                             "rows": results[s.name]} for s in shown},
        "targets": stands,
    }
    DOCS.mkdir(exist_ok=True)
    (DOCS / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    write_svg("bench-size-speed.svg", size_and_speed(shown, results))
    full = [s for s in shown if all(name in results[s.name] for name in BARS)]
    write_svg("bench-rows.svg", bars(full, results))
