#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: the numbers in the documents are those of the reports beside them (docs/*.json), which the named commands
# write: each sentence is put together from the report, and stands in the document so; tables likewise.

import json
import re
import sys

from case import check
from documents import TOP

sys.path[:0] = [str(TOP / "scripts/bench.d"), str(TOP / "scripts/ten-images.d")]
import tables  # noqa: E402
from native import PAIRS, READS  # noqa: E402

counts = {}


def load(name):
    return json.loads((TOP / "docs" / name).read_text())


def flat(text):
    return re.sub(r"\s+", " ", text)


def says(document, *sentences):
    """Line ends and the widths of columns do not count."""
    text = flat((TOP / document).read_text())
    for sentence in sentences:
        check(flat(sentence) in text, f"{document} does not say: {sentence}")
        counts[document] = counts.get(document, 0) + 1


def of_bench():
    bench = load("bench.json")
    rows = {name: system["rows"] for name, system in bench["systems"].items()}
    for row in "read-cold", "shuffle-cold", "random-cold", "large-cold", "exec-cold":
        for peer in "erofs-64k", "erofs-128k":
            check(rows["puzzlefs"][row] < rows[peer][row], f"{row} costs more than of {peer}")
    says("README.md", "Every read that `make bench` measures from a cold cache costs fewer instructions than from EROFS with zstd.")
    tree, level, none = bench["tree"], rows["erofs-64k"]["size"], rows["erofs-nolevel"]["size"]
    says("docs/bench.md", f"a Debian of {tree['entries']:,} entries",
         f"the largest, `{tree['large']}`, {tree['large_bytes'] / 1e6:.1f} MB",
         f"the image is {none / level - 1:.0%} larger ({none / 1e6:.1f} MB, not {level / 1e6:.1f})")
    says("docs/filesystem.md", f"a Debian takes {rows['puzzlefs']['cache'] / bench['floor']['bytes_read']:.2f} times its bytes")
    file, device = rows["erofs-file"], rows["erofs-64k"]
    check(file["read-cold"] > device["read-cold"] and file["cache"] > device["cache"] and file["mount"] > device["mount"]
          and file["stat-cold"] < device["stat-cold"], "EROFS from its own file is otherwise")
    says("docs/bench.md", "Mounted from the file itself (`erofs-file`), EROFS reads slower and leaves more in the page cache; "
         "`stat`, cold, is faster")
    check(rows["puzzlefs-small"]["size"] < min(rows[peer]["size"] for peer in ("erofs-64k", "erofs-128k", "squashfs")), "size")
    says("docs/bench.md", "`small` is the size of the smallest peer's, and less")
    raw = rows["puzzlefs-raw"]["read-cold"] / rows["erofs-raw"]["read-cold"]
    check(1.8 < raw < 2.2, f"uncompressed all is read in {raw} times")
    check(rows["puzzlefs-fast"]["random-cold"] > rows["erofs-lz4"]["random-cold"], "fast wins this row")
    says("docs/bench.md", "all is read in twice what EROFS takes", "`fast` loses this row to EROFS with LZ4")


def of_bench_native():
    native, bench = load("bench-native.json"), load("bench.json")
    found = {(one["row"], one["ours"], one["peer"]): one for one in native["ratios"]}
    for row in READS:
        cells = (found[row.name, *pair] for pair in PAIRS)
        line = " | ".join(f"{cell['counted']:.2f} → {cell['native']:.2f}" for cell in cells)
        says("docs/bench.md", f"| {row.title} | {line} |")
    mapping = [report["floor"]["vmap_per_page"] * 1e6 for report in (native, bench)]
    says("docs/bench.md", f"then at native speed ({native['rounds']} rounds)",
         f"{mapping[0]:.1f} us (`bare.ko`), where the stock kernel takes {mapping[1]:.2f}")
    for ours, peer, row, is_less in (("puzzlefs", "erofs-64k", "read-cold", False), ("puzzlefs", "erofs-64k", "random-cold", True),
                                     ("puzzlefs-fast", "erofs-lz4", "read-cold", True)):
        check((found[row, ours, peer]["native"] < 1) == is_less, f"{ours}, {peer}, {row}")


def of_ten_images():
    ten = load("ten-images.json")
    forms = ten["forms"]
    best = min(form["size"] for name, form in forms.items() if "PuzzleFS" not in form["title"])
    small = next(form for form in forms.values() if form["title"] == "PuzzleFS, profile small, one layout")
    says("docs/ten-images.md", *(f"| {form['title']} | {tables.mb(form['size'])} | {form['size'] / best:.2f} | {form['cpu']:.0f} |"
                                 for form in forms.values()), *ten["verdict"])
    says("docs/ten-images.md", *tables.memory(ten["memory"]).splitlines()[2:])
    lost = {one["title"]: -one["MemFree"] for one in ten["memory"]}
    check(lost["PuzzleFS, one layout"] < lost["ten EROFS, page cache sharing on"], "ten EROFS take less memory")
    for form in forms.values():
        for image in form.get("du", {}).get("images", []):
            if form["title"] in ("PuzzleFS, zstd level 9, one layout", small["title"]):
                says("docs/ten-images.md", f"| {image['tags'][0]} | {tables.mb(image['own']['bytes'])} | "
                     f"{tables.mb(image['shared']['bytes'])} | {tables.mb(image['metadata_bytes'])} |")


def of_load():
    load_report = load("load.json")
    stock, sanitizers = (f"{report['minutes']:g} minutes of the {kernel}, which are {report['cycles']} cycle{'s'[:report['cycles'] > 1]}"
                         for kernel, report in (("stock kernel", load_report["stock"]),
                                                ("kernel with sanitizers", load_report["sanitizers"])))
    says("docs/load.md", f"`docs/load.json` has {stock}, on ext4, and {sanitizers},")
    says("docs/load.md", *(f"| {phase} |" for phase in load_report["stock"]["phases"]))
    if "sanitizers" not in load_report:
        says("docs/load.md", "The phases of the kernel with sanitizers are written and have not run yet.")


def of_the_readme():
    """Where it wins, and where it loses: a row for each number, in this order."""
    rows = {name: system["rows"] for name, system in load("bench.json")["systems"].items()}
    ten, pulls, (lazy, *_) = load("ten-images.json"), load("pull-bench.json"), load("lazy-bench.json").values()
    native = {(one["row"], one["peer"]): one["native"] for one in load("bench-native.json")["ratios"] if one["ours"] == "puzzlefs"}
    forms = {form["title"]: form["size"] for form in ten["forms"].values()}
    lost = {one["title"]: -one["MemFree"] for one in ten["memory"]}
    layers, ours = "layers, gzip (skopeo)", "puzzlefs"

    def bench(row, peer):
        return rows["puzzlefs"][row] / rows[peer][row]

    def next_pulls(series):
        return [sum(pull["bytes"] for pull in pulls[series][form][1:]) for form in (ours, layers)]

    versions, bases, others = map(next_pulls, list(pulls)[:3])
    one, starts = "one EROFS, zstd level 9 128K, all-fragments, dedupe", lazy["start"]
    zstd, bench_of, ten_of, pull_of = "EROFS, zstd, 64 KiB", "`make bench`", "`make ten-images`", "`make pull-bench`"
    table = [
        ("instructions to read all files, cold", bench("read-cold", "erofs-64k"), zstd, bench_of),
        ("instructions to read 4 KiB at random, cold", bench("random-cold", "erofs-64k"), zstd, bench_of),
        ("instructions to start Python, cold", bench("exec-cold", "erofs-64k"), zstd, bench_of),
        ("instructions of `stat` of all names, cold", bench("stat-cold", "erofs-64k"), zstd, bench_of),
        ("the same, warm", bench("stat-warm", "erofs-64k"), zstd, bench_of),
        ("instructions to mount", bench("mount", "erofs-64k"), zstd, bench_of),
        ("real time to read all files, cold, in user-mode Linux", native["read-cold", "erofs-64k"], zstd, "`make bench-native`"),
        ("real time to read 4 KiB at random there", native["random-cold", "erofs-64k"], zstd, "`make bench-native`"),
        ("kernel memory for inodes and the like, after all was read", bench("slab", "erofs-64k"), zstd, bench_of),
        ("size of one image", bench("size", "erofs-64k"), zstd, bench_of),
        ("size of one image", bench("size", "squashfs"), "squashfs, zstd level 15", bench_of),
        ("processor time to build it", bench("cpu", "erofs-64k"), zstd, bench_of),
        ("size of ten related images, `--profile small`", forms["PuzzleFS, profile small, one layout"] / forms[one],
         "one EROFS with all ten trees", ten_of),
        ("memory when all ten are mounted and read", lost["PuzzleFS, one layout"] / lost["ten EROFS, page cache sharing on"],
         "ten EROFS that share page cache", ten_of),
        ("bytes to pull the next version of an application", versions[0] / versions[1], "gzip layers, by skopeo", pull_of),
        ("bytes to pull it on a newer base", bases[0] / bases[1], "gzip layers, by skopeo", pull_of),
        ("bytes to pull another application on one base", others[0] / others[1], "gzip layers, by skopeo", pull_of),
        ("time until nginx answers, lazily with a profile", starts["puzzlefs, lazy, with a profile"]["seconds"]
         / starts["layers, unpacked"]["seconds"], "skopeo and umoci", "`make lazy-bench`"),
    ]
    lines = [f"| {what} | {ratio:.2f} | {peer} | {command} |" for what, ratio, peer, command in table]
    if "--show" in sys.argv:
        print(*lines, sep="\n")
    says("README.md", "\n".join(lines))


for part in of_bench, of_bench_native, of_ten_images, of_load, of_the_readme:
    part()
print(", ".join(f"{count} in {document}" for document, count in counts.items()))
