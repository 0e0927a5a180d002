#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: what README.md and docs/*.md say of the command is so: the blocks of commands run, the worked
# example has the lines that the command prints, each command and option that is named is there, and each
# sentence of CLAIMS, which stands in the README as it is here, holds.

import json
import os
import pathlib
import re
import subprocess
import tempfile

from case import check, equal

TOP = pathlib.Path(os.environ["PUZZLEFS_TOP"])
COMMAND = str(TOP / "build/puzzlefs")
README = (TOP / "README.md").read_text()
DOCUMENTS = [TOP / "README.md", TOP / "SECURITY.md", *sorted((TOP / "docs").glob("*.md"))]
PACK, ROOTFS = "application/vnd.puzzlefs.image.pack.v1", "application/vnd.puzzlefs.image.rootfs.v1"
CLAIMS = {}


def claim(sentence):
    """What is decorated shows that the sentence is true."""
    def known(function):
        CLAIMS[sentence] = function
        return function
    return known


def run(*command, status=0, **options):
    command = [COMMAND if word == "puzzlefs" else str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    equal(done.returncode, status, f"the status of {' '.join(command)} ({done.stderr})")
    return done.stdout


def report(*command):
    return json.loads(run("puzzlefs", *command))


def manifest(layout, tag):
    """The manifest of an image, and its digest."""
    index = json.loads((layout / "index.json").read_text())
    digest, = (entry["digest"][7:] for entry in index["manifests"]
               if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag)
    return json.loads((layout / "blobs/sha256" / digest).read_text()), digest


def tree(where, files):
    where.mkdir()
    for name, content in files.items():
        (where / name).write_bytes(content)
    return where


def content(seed, size):
    """Bytes that compress to some two thirds."""
    value, out = seed, bytearray()
    while len(out) < size:
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
        out += b"%016x" % value
    return bytes(out[:size])


def two_versions(base):
    """A layout with v1 and v2, which have most of their content in common."""
    common = content(1, 3 << 20)
    old = tree(base / "old", {"common": common, "own": content(2, 200_000)})
    new = tree(base / "new", {"moved": b"x" + common, "own": content(3, 200_000)})
    layout = base / "layout"
    run("puzzlefs", "build", old, f"{layout}:v1")
    return layout, new


@claim("on disk\na chunk is in one pack for all images")
def chunks_are_stored_once(base):
    layout, new = two_versions(base)
    built = report("build", "--format", "json", new, f"{layout}:v2")
    check(built["new_bytes"] < built["chunk_bytes"] / 4, f"stored again was {built}")


@claim("Metadata of more than 64 KiB are in chunks too, compressed, in packs of their own.")
def metadata_are_in_packs(base):
    many = tree(base / "many", {f"{'name' * 20}{number}": b"" for number in range(2000)})
    built = report("build", "--format", "json", many, f"{base}/layout:it")
    check(built["message_bytes"] > 64 << 10 and built["metadata_bytes"] < built["message_bytes"], f"{built}")
    layers = manifest(base / "layout", "it")[0]["layers"]
    equal([layer["mediaType"] for layer in layers], [ROOTFS, PACK], "the layers of a tree without content")


@claim("A Rootfs does not say where chunks lie, so `repack` and `unpack` (each chunk a blob again) change\n"
       "the manifest only, and `index.json` last of all: a signature of the Rootfs's digest stays good.")
def the_rootfs_stays(base):
    layout, new = two_versions(base)
    run("puzzlefs", "build", "--layout", "loose", new, f"{layout}:v2")
    before = report("inspect", "--format", "json", f"{layout}:v2")
    for command in "repack", "unpack", "repack":
        run("puzzlefs", command, "--gc", layout)
        after = report("inspect", "--format", "json", f"{layout}:v2")
        equal(after["rootfs"], before["rootfs"], f"the Rootfs after {command}")
        check(after["manifest"] != before["manifest"], f"{command} changed nothing")
        kinds = {layer["mediaType"] for layer in manifest(layout, "v2")[0]["layers"][1:]}
        equal(PACK in kinds, command == "repack", f"packs after {command}")
        run("puzzlefs", "verify", f"{layout}:v2")
        before = after


@claim("with `--compat` (no LZ4, no holes, each chunk a blob, the metadata one)")
def compat(base):
    new = tree(base / "tree", {f"{'name' * 20}{number}": content(number, 9000) for number in range(2000)})
    with open(new / "hole", "wb") as f:
        f.truncate(1 << 20)
    run("puzzlefs", "build", "--compat", new, f"{base}/layout:it")
    found = report("inspect", "--format", "json", f"{base}/layout:it")
    equal((found["lz4_chunks"], found["hole_bytes"], found["metadata_blocks"]), (0, 0, 0), "LZ4, holes, blocks")
    layers = manifest(base / "layout", "it")[0]["layers"]
    equal(len(layers), 1 + found["chunks"], "the layers")
    check(PACK not in {layer["mediaType"] for layer in layers}, "there are packs")


@claim("| `skopeo copy` between layouts and through `dir:`; `skopeo inspect --raw`, `umoci ls` | works |")
def tools_that_work(base):
    layout, new = two_versions(base)
    run("puzzlefs", "build", new, f"{layout}:v2")
    copy = ("skopeo", "--insecure-policy", "copy", "--preserve-digests")
    run(*copy, f"oci:{layout}:v2", f"dir:{base}/dir")
    run(*copy, f"dir:{base}/dir", f"oci:{base}/from-dir:v2")
    run(*copy, f"oci:{layout}:v2", f"oci:{base}/copied:v2")
    digest = manifest(layout, "v2")[1]
    for name in "from-dir", "copied":
        equal(manifest(base / name, "v2")[1], digest, f"the manifest in {name}")
        run("puzzlefs", "verify", f"{base}/{name}:v2")
    raw = run("skopeo", "inspect", "--raw", f"oci:{layout}:v2")
    equal(raw, (layout / "blobs/sha256" / digest).read_text(), "what skopeo prints")
    equal(sorted(run("umoci", "ls", "--layout", layout).split()), ["v1", "v2"], "the tags that umoci lists")


@claim("| `skopeo inspect` without `--raw`, `umoci stat`: they want the configuration of an ordinary image | do not work |")
def tools_that_do_not(base):
    layout, _ = two_versions(base)
    for command in (["skopeo", "inspect", f"oci:{layout}:v1"], ["umoci", "stat", "--image", f"{layout}:v1"]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        check(done.returncode != 0, f"{command} works: say so")


@claim("| build (directories, `--base`), inspect, ls, verify, extract, mount, umount | works |")
def what_reads(base):
    layout, new = two_versions(base)
    run("puzzlefs", "build", "--base", "v1", new, f"{layout}:v2")
    equal(run("puzzlefs", "ls", f"{layout}:v2").split(), ["/moved", "/own"], "what is listed")
    run("puzzlefs", "verify", f"{layout}:v2")
    run("puzzlefs", "extract", f"{layout}:v2", base / "out")
    run("diff", "-r", new, base / "out")
    # The cases 10, 30 and 35 mount.


@claim("| exit status by kind of failure, signals that leave nothing half made, `--quiet`, JSON of all reports, manual pages | works |")
def ends(base):
    layout, new = two_versions(base)
    equal(run("puzzlefs", "build", "--quiet", new, f"{layout}:v2"), "", "what --quiet prints")
    run("puzzlefs", "inspect", f"{layout}:v3", status=4)
    run("puzzlefs", "extract", f"{layout}:v2", layout, status=5)
    run("puzzlefs", "what", status=64)
    for command in (["inspect"], ["ls"], ["verify"], ["extract", base / "out"]):
        run("puzzlefs", command[0], "--format", "json", f"{layout}:v2", *command[1:])
    for command in "du", "gc", "repack", "unpack":
        report(command, "--format", "json", layout)
    equal(report("rm", "--format", "json", f"{layout}:v1")["tag"], "v1", "the report of rm")
    run("puzzlefs", "gc", layout)
    pack = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    pack.write_bytes(bytes(pack.stat().st_size))
    run("puzzlefs", "verify", f"{layout}:v2", status=3)
    run("puzzlefs", "man", base)
    for page in *(base / "man1").iterdir(), *(base / "man8").iterdir():
        text = page.read_text()
        check("EXIT STATUS" in text and "SEE ALSO" in text, f"{page.name} lacks a section")
    # Signals: tests/ends.rs and tests/rights.rs of the command.


@claim("the Rootfs is the one that `build` makes of what `umoci unpack` leaves")
def what_is_converted(base):
    run("umoci", "init", "--layout", base / "L")
    run("umoci", "new", "--image", f"{base}/L:a")
    tree(base / "it", {"name": content(6, 300_000)})
    run("umoci", "insert", "--image", f"{base}/L:a", base / "it", "/it")
    run("umoci", "unpack", "--image", f"{base}/L:a", base / "bundle")
    built = report("build", "--format", "json", base / "bundle/rootfs", f"{base}/P:built")
    converted = report("convert", "--format", "json", f"oci:{base}/L:a", f"{base}/P:converted")
    equal(converted["rootfs"], built["rootfs"], "the Rootfs")
    # The case ordinary does so with layers of all kinds, and from each transport.


@claim("`puzzlefs gc` waits for builds")
def gc_waits(base):
    layout, _ = two_versions(base)
    lock = subprocess.Popen(["flock", "--shared", layout / "blobs", "sh", "-c", "echo; sleep 1"], stdout=subprocess.PIPE)
    lock.stdout.readline()
    done = subprocess.run([COMMAND, "gc", layout], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    check(done.returncode == 0 and "waiting" in done.stderr, f"{done}")
    equal(lock.wait(), 0, "the lock")


def blocks(text):
    """The indented blocks of a document."""
    for block in re.findall(r"(?:^    .*\n)+", text, re.M):
        yield [line[4:] for line in block.splitlines()]


def commands_of_a_layout(base):
    """The block below `### A layout and its images`, in its order."""
    _, below = README.split("### A layout and its images\n")
    lines = next(blocks(below))
    check(len(lines) >= 6, f"{lines}")
    tree(base / "rootfs", {"own": content(4, 300_000)})
    run("puzzlefs", "build", base / "rootfs", f"{base}/layout:v1")
    run("puzzlefs", "build", tree(base / "gone", {"own": content(5, 300_000)}), f"{base}/layout:gone")
    run("puzzlefs", "rm", f"{base}/layout:gone")
    run("umoci", "init", "--layout", base / "ordinary")
    run("umoci", "new", "--image", f"{base}/ordinary:app")
    run("umoci", "insert", "--image", f"{base}/ordinary:app", base / "rootfs/own", "/inserted")
    for line in lines:
        command, said = line.split("#")
        words = command.replace("LAYOUT", f"{base}/layout").split()
        out = run(*words, cwd=base, **({"errors": "replace"} if words[1] == "cat" else {}))
        if words[1] == "convert":
            equal(run("puzzlefs", "ls", words[-1]).split(), ["/inserted"], "what is in the converted image")
        if words[1] == "export":
            run("umoci", "unpack", "--image", words[3].removeprefix("oci:"), base / "unpacked", cwd=base)
            equal((base / "unpacked/rootfs/inserted").read_bytes(), content(4, 300_000), "what is in the exported image")
        if words[1] == "diff":
            check("D /own\n" in out and "A /inserted\n" in out, f"{said}: {out}")
        if words[1] == "build":
            tag = words[-1].split(":")[1]
            run("puzzlefs", "verify", f"{base}/layout:{tag}")
        if words[1:] == ["build", "./rootfs", f"{base}/layout:v2"]:
            check("\nnew       0 blobs" in out, f"{said}: {out}")
        if words[1] == "rm":
            run("puzzlefs", "inspect", words[2], status=4)
        if words[1] == "gc":
            check("removed " in out and "removed    0 blobs" not in out, out)
    print(f"{len(lines)} lines of commands")


def worked_example(base):
    """The lines that `make demo` prints, but for the numbers: of build and inspect, the rest is the kernel's."""
    example = [line for block in blocks(README) for line in block]
    shown = {}
    for line in example:
        if line.startswith(("$ ", "# ", "puzzlefs: ")):
            name = line.split()[2] if line.startswith("$ ") else None
            shown[name] = []
        elif shown:
            shown[next(reversed(shown))].append(line)
    image = f"{base}/layout:debian"
    some = tree(base / "some", {"some": content(6, 300_000)})
    printed = {"build": run("puzzlefs", "build", some, image),
               "inspect": run("puzzlefs", "inspect", image)}

    def form(lines):
        return [re.sub(r"[0-9a-f]{64}|[0-9.]+ [KMG]?i?B\b|[0-9.]+", "N", line).strip() for line in lines if line.strip()]
    for name, text in printed.items():
        equal(form(shown[name]), form(text.splitlines()), f"what the README shows of {name}")


def named_options():
    """Each `puzzlefs COMMAND ... --option` of the documents is one of the command."""
    helps, count = {}, 0
    names = re.findall(r"^  (\w+) ", run("puzzlefs", "-h").split("Commands:")[1].split("Options:")[0], re.M)
    for document in DOCUMENTS:
        text = document.read_text()
        uses = re.findall(r"`puzzlefs ([a-z][^`]*)`", text)
        uses += [line.split("#")[0].split("puzzlefs ", 1)[1] for block in blocks(text) for line in block
                 if line.startswith("puzzlefs ")]
        for use in uses:
            words = use.split()
            # Upstream's command has options of its own.
            if words[1:] == ["--compression"]:
                continue
            check(words[0] in names, f"{document.name}: puzzlefs {use}: there is no such command")
            if words[0] not in helps:
                helps[words[0]] = run("puzzlefs", words[0], "--help")
            for option in (word for word in words if word.startswith("--")):
                check(option in helps[words[0]], f"{document.name}: puzzlefs {use}: there is no {option}")
            count += 1
    check(count > 15, f"only {count} uses of the command were found")
    print(f"{count} uses of the command in {len(DOCUMENTS)} documents")


with tempfile.TemporaryDirectory(dir="/tmp") as folder:
    for number, function in enumerate((commands_of_a_layout, worked_example)):
        base = pathlib.Path(folder) / f"block{number}"
        base.mkdir()
        function(base)
    named_options()
    for number, (sentence, function) in enumerate(CLAIMS.items()):
        check(sentence in README, f"the README no longer says: {sentence}")
        base = pathlib.Path(folder) / f"claim{number}"
        base.mkdir()
        function(base)
print(f"{len(CLAIMS)} sentences of the README hold")
