# SPDX-License-Identifier: GPL-2.0
"""What the profiles were chosen from: `scripts/bench --profiles` writes docs/profiles.json and the plots
that docs/profiles.md shows."""

import json

import pygal

import save
import systems
from rows import ROWS

SHOWN = [*systems.OURS, *systems.CANDIDATES, *(s for s in systems.PEERS if s.role in ("zstd", "lz4"))]
MEASURED = [ROWS[name] for name in ("size", "read-cold", "shuffle-cold", "random-cold", "exec-cold", "cpu")]


def chart(title, y_title, results, row, **options):
    """Image size against another row: the lower left is better."""
    found = pygal.XY(stroke=False, dots_size=7, title=title, x_title="image size, MB", y_title=y_title,
                     legend_at_bottom_columns=3, **save.PLAIN, **options)
    for s in SHOWN:
        found.add(s.title, [(results[s.name]["size"] / 1e6, results[s.name][row])])
    return found


def write(results):
    """Writes all of them."""
    found = {s.name: {"title": s.title, "build": s.build, "rows": results[s.name]} for s in SHOWN}
    (save.DOCS / "profiles.json").write_text(json.dumps(found, indent=1) + "\n")
    save.write_svg("profiles-read.svg", chart("Size and reading all files, cold, in order",
                                              "reading, s of virtual time", results, "read-cold"))
    save.write_svg("profiles-build.svg", chart("Size and what the build takes", "processor time, s (logarithmic)",
                                               results, "cpu", logarithmic=True))
