#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: what README.md, docs/commands.md and docs/status.md say of the command is so: the commands of a layout run, the worked
# example has the lines that the command prints, each command and option that any document names is there, and each
# sentence of CLAIMS, which stands in its document as it is here, holds.

import json
import pathlib
import re
import subprocess
import tempfile

from case import check, equal
from claims import COMMAND, TOP, claims_of, content, manifest, ordinary, report, run, show, tree, two_versions
from documents import markdown_blocks as blocks

README, COMMANDS, STATUS = TOP / "README.md", TOP / "docs/commands.md", TOP / "docs/status.md"
DOCUMENTS = [TOP / "README.md", TOP / "SECURITY.md", *sorted((TOP / "docs").glob("*.md"))]
overview, commands, status = map(claims_of, (README, COMMANDS, STATUS))
PACK, ROOTFS = "application/vnd.puzzlefs.image.pack.v1", "application/vnd.puzzlefs.image.rootfs.v1"


@overview("on disk\na chunk is in one pack for all images")
def chunks_are_stored_once(base):
    layout, new = two_versions(base)
    built = report("build", "--format", "json", new, f"{layout}:v2")
    check(built["new_bytes"] < built["chunk_bytes"] / 4, f"stored again was {built}")


@commands("Metadata of more than 64 KiB are in chunks too, compressed, in packs of their own.")
def metadata_are_in_packs(base):
    many = tree(base / "many", {f"{'name' * 20}{number}": b"" for number in range(2000)})
    built = report("build", "--format", "json", many, f"{base}/layout:it")
    check(built["message_bytes"] > 64 << 10 and built["metadata_bytes"] < built["message_bytes"], f"{built}")
    layers = manifest(base / "layout", "it")[0]["layers"]
    equal([layer["mediaType"] for layer in layers], [ROOTFS, PACK], "the layers of a tree without content")


@commands("A Rootfs does not say where chunks lie. So `repack` and `unpack` (each chunk a blob again) change\n"
          "the manifest only, and `index.json` last of all. A signature of the Rootfs's digest stays good.")
@commands("The manifest of before, which may be signed, is kept: `push` sends that one, `@sha256:` finds the image by it, and\n"
          "`complete` makes its blobs again.")
def the_rootfs_stays(base):
    layout, new = two_versions(base)
    run("puzzlefs", "build", "--layout", "loose", new, f"{layout}:v2")
    before = report("inspect", "--format", "json", f"{layout}:v2")
    first = before["manifest"]
    for command in "repack", "unpack", "repack":
        run("puzzlefs", command, "--gc", layout)
        after = report("inspect", "--format", "json", f"{layout}:v2")
        equal(after["rootfs"], before["rootfs"], f"the Rootfs after {command}")
        check(after["manifest"] != before["manifest"], f"{command} changed nothing")
        kinds = {layer["mediaType"] for layer in manifest(layout, "v2")[0]["layers"][1:]}
        equal(PACK in kinds, command == "repack", f"packs after {command}")
        run("puzzlefs", "verify", f"{layout}:v2")
        equal(report("inspect", "--format", "json", f"{layout}@sha256:{first}")["manifest"], after["manifest"], "by the first digest")
        before = after
    run("puzzlefs", "complete", f"{layout}:v2")
    equal(report("inspect", "--format", "json", f"{layout}:v2")["manifest"], first, "what complete makes")


@overview("with `--compat` (no LZ4, no holes, each chunk a blob, the metadata one)")
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


@status("| `skopeo copy` between layouts and through `dir:`; `skopeo inspect --raw`, `umoci ls` |")
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


@status("| `skopeo inspect` and `umoci stat` of images that have a config: of converted ones, or by `--config`. They refuse others |")
def tools_that_want_a_config(base):
    layout, new = two_versions(base)
    ordinary(base / "L", new)
    # A config need not say when it was made.
    (base / "config").write_text('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')
    run("puzzlefs", "convert", f"oci:{base}/L:a", f"{layout}:converted")
    run("puzzlefs", "build", "--config", base / "config", new, f"{layout}:config")
    run("puzzlefs", "export", "--to", f"oci:{base}/O:exported", f"{layout}:converted")
    for image in f"{layout}:converted", f"{layout}:config", f"{base}/O:exported":
        equal(json.loads(run("skopeo", "inspect", f"oci:{image}"))["Os"], "linux", "the system")
        check("LAYER" in run("umoci", "stat", "--image", image), f"umoci stat says nothing of {image}")
    for command in (["skopeo", "inspect", f"oci:{layout}:v1"], ["umoci", "stat", "--image", f"{layout}:v1"]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        check(done.returncode != 0, f"{command} works: say so")


@status("| build (directories, `--base`), inspect, ls, verify, extract, mount, umount |")
def what_reads(base):
    layout, new = two_versions(base)
    run("puzzlefs", "build", "--base", "v1", new, f"{layout}:v2")
    equal(run("puzzlefs", "ls", f"{layout}:v2").split(), ["/moved", "/own"], "what is listed")
    run("puzzlefs", "verify", f"{layout}:v2")
    run("puzzlefs", "extract", f"{layout}:v2", base / "out")
    run("diff", "-r", new, base / "out")
    # The cases 10, 30 and 35 mount.


@status("| exit status by kind of failure, signals that leave nothing half made, `--quiet`, JSON of all reports, manual pages |")
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
    # Signals: tests/whole/ends.rs and tests/whole/rights.rs of the command.


@status("the Rootfs is the one that `build` makes of what `umoci unpack` leaves")
def what_is_converted(base):
    ordinary(base / "L", tree(base / "it", {"name": content(6, 300_000)}))
    run("umoci", "unpack", "--image", f"{base}/L:a", base / "bundle")
    built = report("build", "--format", "json", base / "bundle/rootfs", f"{base}/P:built")
    converted = report("convert", "--format", "json", f"oci:{base}/L:a", f"{base}/P:converted")
    equal(converted["rootfs"], built["rootfs"], "the Rootfs")
    # The case ordinary does so with layers of all kinds, and from each transport.


@status("`puzzlefs gc` waits for builds")
def gc_waits(base):
    layout, _ = two_versions(base)
    lock = subprocess.Popen(["flock", "--shared", layout / "blobs", "sh", "-c", "echo; sleep 1"], stdout=subprocess.PIPE)
    lock.stdout.readline()
    done = subprocess.run([COMMAND, "gc", layout], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    check(done.returncode == 0 and "waiting" in done.stderr, f"{done}")
    equal(lock.wait(), 0, "the lock")


def commands_of_a_layout(base):
    """The block below `## A layout and its images`, in its order."""
    _, below = COMMANDS.read_text().split("## A layout and its images\n")
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
    example = [line for block in blocks(COMMANDS.read_text()) for line in block]
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
        equal(form(shown[name]), form(text.splitlines()), f"what docs/commands.md shows of {name}")


def installed():
    """How the README installs stands in docs/installing.md, whose commands `make deb-test` runs."""
    block = next(lines for lines in blocks(README.read_text()) if lines[0] == "make deb")
    told = [line.split("#")[0].strip() for lines in blocks((TOP / "docs/installing.md").read_text()) for line in lines]
    for line in block:
        check(line in told, f"docs/installing.md does not have: {line}")


def named_options():
    """Each `puzzlefs COMMAND ... --option` of the documents is one of the command."""
    helps, count = {}, 0
    names = re.findall(r"^  ([\w-]+) ", run("puzzlefs", "-h").split("Commands:")[1].split("Options:")[0], re.M)
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
    installed()
    named_options()
print(f"{show()} sentences of README.md, docs/commands.md and docs/status.md hold")
