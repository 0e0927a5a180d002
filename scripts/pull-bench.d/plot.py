# SPDX-License-Identifier: GPL-2.0
"""The plots of docs/registry.md, drawn from what was measured."""

import pygal

import save


def bars(title, y_title, measured, value):
    """A group of bars for each series, one for each system; `value` gives it from the steps of both, or None."""
    chart = pygal.Bar(title=title, y_title=y_title, legend_at_bottom_columns=4, print_values=True,
                      formatter=lambda number: f"{number:.2f}", **save.PLAIN)
    chart.x_labels = list(measured)
    # What was measured of some series only stays out.
    names = [name for name in next(iter(measured.values())) if all(name in systems for systems in measured.values())]
    for name in names:
        chart.add(name, [value(systems[name], next(iter(systems.values()))) for systems in measured.values()])
    return chart


def total(key, steps):
    return sum(step[key] for step in steps[1:])


def part_of_bytes(steps, peer):
    return total("bytes", steps) / total("bytes", peer)


def part_of_time(steps, peer):
    return total("seconds", steps) / total("seconds", peer) if "seconds" in steps[0] else None


def write(measured):
    save.write_svg("pull-bytes.svg", bars("Bytes of the next pulls, as a part of gzip layers (less is better)",
                                          "layers by skopeo = 1", measured, part_of_bytes))
    save.write_svg("pull-seconds.svg", bars("Time of the next pulls, as a part of gzip layers (less is better)",
                                            "layers by skopeo = 1", measured, part_of_time))
