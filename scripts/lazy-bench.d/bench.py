# SPDX-License-Identifier: GPL-2.0
"""bench.py TREES [PART...]: the part of `make lazy-bench` that runs in the build root. Makes the images of each service,
has them measured in a virtual machine; writes docs/lazy-bench.json, the tables in docs/lazy.md and the plots."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import layers
import pygal
import save
from images import CACHE, say
from registries import Registry
from services import SERVICES

TOP = pathlib.Path(os.environ["PUZZLEFS_TOP"])
OURS, HERE = TOP / "build/puzzlefs", TOP / "scripts/lazy-bench.d"
DOCUMENT, SAVED = TOP / "docs/lazy.md", TOP / "docs/lazy-bench.json"
BEGIN, END = "<!-- make lazy-bench: begin -->\n", "<!-- make lazy-bench: end -->\n"
# For a machine: a service is started ten times, on an emulated processor.
HOURS = 3
SLOW, FAST = "100 Mbit/s, 20 ms", "1 Gbit/s, 1 ms"
PARTS = {f"{service}; {link}": (service, link) for link in (SLOW, FAST) for service in SERVICES}


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def machine(*command, icount=False):
    options = ["--icount"] if icount else []
    return run(TOP / "scripts/vm", *options, "--memory", "10G", "--scratch", "2G", "--", "env", "PYTHONDONTWRITEBYTECODE=1", "python3",
               *command, env=os.environ | {"PUZZLEFS_VM_TIMEOUT": str(HOURS * 3600)})


def images(title, trees, place):
    """A registry with the service's image in each form, and one more on the same base; gives where its data is."""
    tree, other = SERVICES[title].tree, next(it.tree for name, it in SERVICES.items() if name != title)
    ordinary = f"{place}/ordinary"
    layers.ordinary(trees, [tree, other], ordinary, place)
    with Registry(place) as server:
        for tag in tree, other:
            run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{ordinary}:{tag}", f"docker://{server.host}/skopeo:{tag}")
        for tag in tree, other:
            plain, profiled = f"{place}/plain-{tag}:tag", f"{place}/profiled-{tag}:tag"
            run(OURS, "convert", "--no-cache", f"oci:{ordinary}:{tag}", plain)
            run(OURS, "push", "--quiet", "--plain-http", plain, f"docker://{server.host}/ours:{tag}")
            say(f"{title}: recording {tag}")
            service = next(name for name, it in SERVICES.items() if it.tree == tag)
            machine(HERE / "record.py", plain.removesuffix(":tag"), f"{place}/profile-{tag}", service)
            run(OURS, "convert", "--no-cache", "--profile-from", f"{place}/profile-{tag}", f"oci:{ordinary}:{tag}", profiled)
            run(OURS, "push", "--quiet", "--plain-http", profiled, f"docker://{server.host}/profile:{tag}")
        store = f"{server.data}/casync"
        os.makedirs(store)
        run("casync", "make", f"--store={store}/default.castr", f"{store}/{tree}.caidx", trees / tree)
        return server.data


def measure(title, link, trees, place):
    say(f"{title}: images")
    data = images(title, trees, place)
    say(f"{title}: behind a link of {link}")
    return json.loads(machine(HERE / "guest.py", data, link, title, icount=True).splitlines()[-1])


def seconds(found):
    return f"{found['seconds']:.2f}"


def mb(found):
    return f"{found['bytes'] / 1e6:.1f}"


def part(found, of, key):
    return f"{found[key] / of[key]:.2f}"


def table(measured):
    lines = []
    for title, found in measured.items():
        lines += [f"**{title[0].upper()}{title[1:]}**", "",
                  "| | until it answers, s | of layers | MB by then | of the layers | all is read, s | of a whole pull | MB by then |",
                  "|---|---:|---:|---:|---:|---:|---:|---:|"]
        peer, pull = found["start"]["layers, unpacked"], found["read"]["puzzlefs, pulled as a whole"]
        for way, start in found["start"].items():
            read = found["read"].get(way)
            rest = f"{seconds(read)} | {part(read, pull, 'seconds')} | {mb(read)}" if read else "- | - | -"
            lines.append(f"| {way} | {seconds(start)} | {part(start, peer, 'seconds')} | {mb(start)} | {part(start, peer, 'bytes')} | "
                         f"{rest} |")
        lines.append("")
        for way, again in found["second"].items():
            first = found["start"][way]
            lines.append(f"- {way}: where another image on its base was started before, {seconds(again)} s and {mb(again)} MB: "
                         f"{part(again, first, 'seconds')} and {part(again, first, 'bytes')} of the first start.")
        alone, beside = found["complete"]["alone"], found["complete"]["beside the daemon"]
        first = found["first MiB"]
        lines += [f"- A complete image is read in {alone:.2f} s, beside the daemon in {beside:.2f} s: {beside / alone:.3f}.",
                  f"- The first MiB of its largest file, of which nothing is here: {first['seconds'] * 1000:.0f} ms, {mb(first)} MB.", ""]
    return "\n".join(lines)


def bars(title, y_title, measured, value):
    chart = pygal.Bar(title=title, y_title=y_title, legend_at_bottom_columns=3, print_values=True,
                      formatter=lambda number: f"{number:.2f}", **save.PLAIN)
    chart.x_labels = [name.split(",")[0] + ": " + name.split("; ")[1] for name in measured]
    for way in next(iter(measured.values()))["start"]:
        chart.add(way, [value(found["start"], way) for found in measured.values()])
    return chart


def plots(measured):
    def of_layers(key):
        return lambda start, way: start[way][key] / start["layers, unpacked"][key]
    save.write_svg("lazy-start.svg", bars("Time until a service answers (less is better)", "layers, fetched and unpacked = 1",
                                          measured, of_layers("seconds")))
    save.write_svg("lazy-bytes.svg", bars("Bytes that have come by then (less is better)", "layers = 1", measured,
                                          of_layers("bytes")))


def main():
    wanted = sys.argv[2:] or list(PARTS)
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]) or not set(wanted) <= set(PARTS):
        names = "\n".join(f'    "{title}"' for title in PARTS)
        sys.exit("usage: scripts/lazy-bench [PART...]\n\nHow long services take to start from a registry, by layers, by casync "
                 f"and by ours. Others than these parts stay as they were measured:\n{names}")
    trees, measured = pathlib.Path(sys.argv[1]), json.loads(SAVED.read_text()) if SAVED.exists() else {}
    for name in wanted:
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            measured[name] = measure(*PARTS[name], trees, place)
        print(table({name: measured[name]}), flush=True)
        measured = {name: measured[name] for name in PARTS if name in measured}
        SAVED.write_text(json.dumps(measured, indent=1) + "\n")
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}{table(measured)}{END}{after}")
    plots(measured)


main()
