# SPDX-License-Identifier: GPL-2.0
"""`scripts/bench --fuse`: one image by the module and by FUSE, beside upstream's FUSE; docs/bench-fuse.json."""

import json
import pathlib

import systems
from report import UNITS, number
from rows import ROWS

SHOWN = [systems.OURS[0], systems.FUSE, systems.SYSTEMS["upstream"]]
MEASURED = [ROWS[name] for name in systems.FUSE.rows if ROWS[name].walk]
DOCS = pathlib.Path(systems.TOP) / "docs"


def write(results):
    """What was measured, in seconds."""
    found = {s.name: {row.name: results[s.name][row.name] for row in MEASURED if row.name in results[s.name]} for s in SHOWN}
    (DOCS / "bench-fuse.json").write_text(json.dumps({"systems": found}, indent=1) + "\n")


def lines(found):
    """The rows of the table that docs/bench.md has, from what docs/bench-fuse.json has."""
    module, *_ = (found["systems"][s.name] for s in SHOWN)
    for row in MEASURED:
        cells = []
        for system in SHOWN:
            value = found["systems"][system.name].get(row.name)
            text = "-" if value is None else number(value * UNITS[row.unit])
            is_other = value is not None and system is not SHOWN[0]
            cells.append(text + (f" ({value / module[row.name]:.2f})" if is_other else ""))
        yield f"| {row.title} | {row.unit} | {' | '.join(cells)} |"
