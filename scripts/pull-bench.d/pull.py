# SPDX-License-Identifier: GPL-2.0
"""pull.py TREES [PART...]: the part of `make pull-bench` that runs in the build root. Three series of images go through
a registry, and ten images into one; writes docs/pull-bench.json, the tables in docs/registry.md and the plots."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import layers
import plot
import served
import ten
from images import CACHE, say
from podman import Podman

TOP = pathlib.Path(os.environ["PUZZLEFS_TOP"])
OURS = TOP / "build/puzzlefs"
DOCUMENT, SAVED = TOP / "docs/registry.md", TOP / "docs/pull-bench.json"
BEGIN, END = "<!-- make pull-bench: begin -->\n", "<!-- make pull-bench: end -->\n"
SERIES = {
    "next versions of an application, on one base": [f"old-django-{v}" for v in ("5.2", "5.2.1", "5.2.2", "5.2.3")],
    "the same application, on a newer base": ["old-django-5.2.3", "new-django-5.2.3"],
    "other applications, on one base": [f"new-{name}" for name in ("git", "nginx", "nodejs", "postgresql-client")],
}


def output(*command):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def bytes_below(directory):
    """Of regular files, each once, however many names it has."""
    files = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            stat = os.lstat(os.path.join(parent, name))
            if os.path.stat.S_ISREG(stat.st_mode):
                files[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(files.values())


def skopeo(server, place, series):
    """By layers. A node keeps what it has pulled; what it unpacks of that is not counted."""
    for tag in series:
        output("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{place}/ordinary:{tag}",
               f"docker://{server.host}/skopeo:{tag}")
    for tag in series:
        counted = server.counted()
        output("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{server.host}/skopeo:{tag}",
               f"oci:{place}/skopeo:{tag}")
        yield {**counted.since(), "disk": bytes_below(f"{place}/skopeo")}


def chunked(server, place, series):
    """By zstd:chunked, which podman makes of the layers."""
    maker = Podman(f"{place}/podman-maker")
    for tag in series:
        maker.push(f"{place}/ordinary", tag, f"docker://{server.host}/podman:{tag}")
    maker.end()
    yield from podman(server, place, series, "podman")


def podman(server, place, series, repository):
    """By podman, which unpacks layers: on the disk are the trees; of zstd:chunked, files of one content as links."""
    node = Podman(f"{place}/{repository}-node")
    for tag in series:
        counted = server.counted()
        node.pull(f"docker://{server.host}/{repository}:{tag}")
        yield {**counted.since(), "disk": bytes_below(node.storage)}
    node.end()


def casync(trees, place, series):
    """By chunks of a tree's archive, over HTTP: what the last tree on the node has is not fetched."""
    os.makedirs(f"{place}/casync")
    for tag in series:
        output("casync", "make", f"--store={place}/casync/default.castr", f"{place}/casync/{tag}.caidx", trees / tag)
    with served.Files(f"{place}/casync") as server:
        seed = []
        for tag in series:
            counted, out = server.counted(), f"{place}/casync-{tag}"
            output("casync", "extract", f"--store={server.url}/default.castr", *seed, f"{server.url}/{tag}.caidx", out)
            seed = [*seed, f"--seed={out}"]
            yield {**counted.since(), "disk": sum(bytes_below(path.removeprefix("--seed=")) for path in seed)}


def ours(server, place, series):
    """Each image is converted in a layout of its own, so that none knows of the others, and pushed from there."""
    for tag in series:
        output(OURS, "convert", "--no-cache", f"oci:{place}/ordinary:{tag}", f"{place}/made-{tag}:{tag}")
        output(OURS, "push", "--plain-http", f"{place}/made-{tag}:{tag}", f"docker://{server.host}/ours:{tag}")
        shutil.rmtree(f"{place}/made-{tag}")
    for tag in series:
        counted = server.counted()
        output(OURS, "pull", "--plain-http", f"docker://{server.host}/ours:{tag}", f"{place}/ours:{tag}")
        yield {**counted.since(), "disk": bytes_below(f"{place}/ours")}
    for tag in series:
        output(OURS, "verify", f"{place}/ours:{tag}")


def measure(title, series, trees, place):
    say(f"{title}: images")
    layers.ordinary(trees, series, f"{place}/ordinary", place)
    found = {}
    with served.CountedRegistry(place) as server:
        for name, steps in (
                ("layers, gzip (skopeo)", lambda: skopeo(server, place, series)),
                ("layers, gzip (podman)", lambda: podman(server, place, series, "skopeo")),
                ("zstd:chunked (podman)", lambda: chunked(server, place, series)),
                ("casync", lambda: casync(trees, place, series)),
                ("puzzlefs", lambda: ours(server, place, series))):
            say(f"{title}: {name}")
            found[name] = list(steps())
        data = server.data
    say(f"{title}: in a virtual machine, behind a link")
    for name, times in timed(data, series).items():
        for step, seconds in zip(found[name], times, strict=True):
            step["seconds"] = seconds
    return found


def timed(data, series):
    """Seconds of each pull in a machine whose clock counts instructions, and goes on while it waits."""
    guest = TOP / "scripts/pull-bench.d/guest.py"
    command = [TOP / "scripts/vm", "--icount", "--memory", "8G", "--", "python3", "-B", guest, data, *series]
    return json.loads(output(*command).splitlines()[-1])


def mb(count):
    return f"{count / 1e6:.1f}"


def table(measured):
    lines = []
    for title, systems in measured.items():
        lines += [f"**{title[0].upper()}{title[1:]}** ({', '.join(SERIES[title])})", "",
                  "| | first pull, MB | requests | seconds | next pulls, MB | of gzip layers | requests each | seconds of all | on the disk, MB |",
                  "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
        peer = sum(step["bytes"] for step in next(iter(systems.values()))[1:])
        for name, steps in systems.items():
            first, later = steps[0], steps[1:]
            total = sum(step["bytes"] for step in later)
            requests = max(step["requests"] for step in later)
            is_timed = "seconds" in first
            begin = f"{first['seconds']:.1f}" if is_timed else ""
            end = f"{sum(step['seconds'] for step in later):.1f}" if is_timed else ""
            lines.append(f"| {name} | {mb(first['bytes'])} | {first['requests']} | {begin} | {mb(total)} | {total / peer:.2f} | "
                         f"{requests} at most | {end} | {mb(steps[-1]['disk'])} |")
        lines.append("")
    return "\n".join(lines)


def main():
    parts = {**{title: functools.partial(measure, title, series) for title, series in SERIES.items()}, ten.TITLE: ten.measure}
    wanted = sys.argv[2:] or list(parts)
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]) or not set(wanted) <= set(parts):
        names = "\n".join(f'    "{title}"' for title in parts)
        sys.exit("usage: scripts/pull-bench [PART...]\n\nWhat related images take to pull, by layers, by zstd:chunked, by "
                 f"casync and by ours. Others than these parts stay as they were measured:\n{names}")
    trees, measured = pathlib.Path(sys.argv[1]), json.loads(SAVED.read_text()) if SAVED.exists() else {}
    for title in wanted:
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            measured[title] = parts[title](trees, place)
        print(table({title: measured[title]}) if title in SERIES else ten.table(measured[title]), flush=True)
        SAVED.write_text(json.dumps({title: measured[title] for title in parts if title in measured}, indent=1) + "\n")
    series = {title: measured[title] for title in SERIES if title in measured}
    text = table(series) + ("\n" + ten.table(measured[ten.TITLE]) if ten.TITLE in measured else "")
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}{text}{END}{after}")
    if all(title in measured for title in SERIES):
        plot.write(series)


main()
