#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: each block of commands in the documents, and each example of `--help` and of the manual pages, runs as it is
# there, in a place that has what it names; what needs the kernel's module is in a case that is named here.

import json
import pathlib
import re

from case import check, equal
from documents import IMAGES, MARKDOWN, TOP, Place, examples, markdown_blocks, quiet, rst_blocks

# What is no command of a shell, or not for this machine: how its first line begins, and the file that has a test of it,
# with words of that test.
ELSEWHERE = {
    # README.md and docs/commands.md
    "  a directory, an ordinary image": None,
    "make deb": ("qemu-tests/host/readme.py", "def installed"),
    "$ build/puzzlefs build": ("qemu-tests/host/readme.py", "def worked_example"),
    # docs/internals.md
    "rootfs directory ──>": ("qemu-tests/host/references.py", "def drawn_directories"),
    "schema/             metadata.capnp": ("qemu-tests/host/references.py", "def drawn_directories"),
    # docs/mounting.md
    "/var/lib/images:debian /": ("qemu-tests/cases/35-fstab.py", "docs/mounting.md"),
    "[Unit]": ("qemu-tests/cases/35-fstab.py", "docs/mounting.md"),
    "root=none": ("qemu-tests/cases/37-root.py", 'documented("root=none")'),
    "#!/bin/busybox sh": ("qemu-tests/cases/37-root.py", 'documented("#!/bin/busybox")'),
    # docs/security.md and FORMAT.md: drawings
    "who mounts -->": None,
    "digest in `image_manifest` -->": None,
    "OCI image manifest (JSON) -->": None,
    "0000  00 00": ("userspace-builder/format-tests/tests/format/example.rs", "FORMAT.md"),
    # in-tree/puzzlefs.rst
    "puzzlefs (0:45): inode 12: chunk sha256:": ("kmod/chunks/mod.rs", "its bytes are not those of that digest"),
    "puzzlefs (0:45): inode 12: a directory entry": ("qemu-tests/cases/07-faults.py", "a directory entry has a bad name"),
}
# Single commands that need a machine, or servers, in the same way.
MACHINE = {
    r"puzzlefs pull https://": ("qemu-tests/host/elsewhere.py", 'pull(f"http'),
    r"puzzlefs pull ssh://": ("qemu-tests/host/elsewhere.py", 'pull(f"{source}:'),
    r"puzzlefs pull .*s3://": ("qemu-tests/host/elsewhere.py", 'pull(f"{source}:debian:12", "W:1", plain)'),
    r"curl --unix-socket ": ("qemu-tests/cases/54-service.py", '"--unix-socket", SOCKET'),
    r"(puzzlefs bundle|crun run) ": ("qemu-tests/cases/60-running.py", 'recipe("crun and runc")'),
    r"puzzlefs run ": ("qemu-tests/cases/60-running.py", 'recipe("To try an image")'),
    r"(puzzlefs boot-image|podman run) ": ("qemu-tests/cases/64-boot-image.py", "puzzlefs boot-image "),
    r"puzzlefs node": ("qemu-tests/cases/65-node.py", 'f"--layout /var/lib/lazy'),
    r"puzzlefs snapshotter": ("qemu-tests/cases/61-containerd.py", 'RECIPES.of("containerd")'),
    r"puzzlefs layer-store": ("qemu-tests/cases/62-podman-store.py", "RECIPES.of(SECTION)"),
    r"puzzlefs mount --overlay ": ("qemu-tests/cases/30-writable.py", '"puzzlefs", "mount", *options, "--overlay"'),
    r"puzzlefs mount --fuse .*(docker|https)://": ("qemu-tests/cases/57-fuse-lazy.py", 'mount = "puzzlefs", "mount", "--fuse"'),
    r"puzzlefs mount --fuse LAYOUT:app": ("qemu-tests/cases/57-fuse-lazy.py", 'puzzlefs("mount", "--fuse"'),
    r"puzzlefs mount --fuse ": ("qemu-tests/cases/52-fuse.py", '"puzzlefs", "mount", "--fuse"'),
    r"puzzlefs mount ": ("qemu-tests/cases/10-options.py", '"puzzlefs", "mount", "-o"'),
    r"(puzzlefs )?umount ": ("qemu-tests/cases/10-options.py", '"umount"'),
    r"puzzlefs profile record ": ("qemu-tests/cases/53-profiles.py", 'puzzlefs("profile", "record"'),
    r"puzzlefs daemon ": ("qemu-tests/lib/lazyguest.py", '["puzzlefs", "daemon"'),
    r"puzzlefs stats ": ("qemu-tests/cases/28-counters.py", '"puzzlefs", "stats"'),
    r"mount .*image_manifest=<sha256>": ("qemu-tests/cases/10-options.py", "image_manifest="),
    r"scripts/scale ": ("scripts/bench.d/scale.py", "sys.argv"),
}
# All of a document.
DOCUMENTS = {"running.md": ("qemu-tests/cases/60-running.py", "docs/running.md"),
             "boot-image.md": ("qemu-tests/cases/64-boot-image.py", "docs/boot-image.md"),
             "installing.md": ("scripts/deb-test", "docs/installing.md"),
             "secure-boot.md": ("scripts/deb-test", "docs/secure-boot.md")}
# What is not there yet where these begin.
BEFORE = {"extract": "rm -r rootfs", "export": "rm -r rootfs; mkdir rootfs"}
STARTS = re.compile(r"(puzzlefs|curl|make|mount|umount|skopeo|jq|zstdcat|scripts/\w+|[A-Z_]+=\S+ puzzlefs)( |$)")


def elsewhere(what, first):
    """Checks that the named file has such a test."""
    if what is not None:
        path, words = what
        check(words in (TOP / path).read_text(), f"{path} has no {words!r}, which is to show: {first}")


def is_drawn(line, known=ELSEWHERE):
    return next((start for start in known if line.startswith(start)), None)


def runs(place, name, lines):
    """Runs a block, without the lines for a machine; gives how many ran."""
    here = []
    for line in lines:
        found = next((what for words, what in MACHINE.items() if re.match(words, line)), None)
        if found:
            elsewhere(found, line)
            continue
        check(line.startswith(" ") or STARTS.match(line), f"{name}: nobody runs, nor knows of: {line}")
        here.append(line)
    if not here:
        return 0
    out, where = place.run(name, here, BEFORE.get(name, ""))
    check(not re.search("^null$", out, re.M), f"{name}: {here} prints a null:\n{out}")
    SHOWN.get(name, lambda *_: None)(out, where)
    if any("fsverity enable" in line for line in here):
        fsverity(where)
    return len(here)


def fsverity(where):
    """fs-verity is enabled for the packs of the image, and for nothing else."""
    index = json.loads((IMAGES / "index.json").read_text())["manifests"]
    digest = next(entry["digest"][7:] for entry in index
                  if entry["annotations"]["org.opencontainers.image.ref.name"] == "debian")
    layers = json.loads((IMAGES / "blobs/sha256" / digest).read_text())["layers"]
    packs = sorted(str(IMAGES / "blobs/sha256" / layer["digest"][7:]) for layer in layers
                   if layer["mediaType"].endswith(".pack.v1"))
    check(len(packs) > 1, "the image has one pack")
    equal(sorted((where / "enabled").read_text().split()), packs, "what was given to fsverity(1)")


def manual(*_):
    pages = {path.name: path.read_text() for path in pathlib.Path("/usr/local/share/man").rglob("*.[18]")}
    for name, lines in examples():
        page = pages["mount.puzzlefs.8" if "." in name else f"puzzlefs-{name}.1".replace("-.", ".")]
        page = page.replace("\\-", "-").replace("\\\\", "\\").replace("\\*(Aq", "'").replace("\\(aq", "'")
        for line in lines:
            check(line in page, f"the manual page of {name or 'puzzlefs'} lacks: {line}")


def completions(*_):
    quiet("bash", "-n", "/usr/share/bash-completion/completions/puzzlefs")


def extracted(_, where):
    check((where / "rootfs/etc/os-release").exists() and (where / "parts/usr/share/doc/bash/copyright").exists(),
          "what was to be extracted is not there")
    check(not (where / "parts/own").exists(), "more was extracted than was asked for")


SHOWN = {"man": manual, "completions": completions, "extract": extracted}

place = Place()
count = {"blocks": 0, "lines": 0, "examples": 0}
used = set()
with place.registry():
    documents = [(path, markdown_blocks(path.read_text())) for path in MARKDOWN]
    documents.append((TOP / "in-tree/puzzlefs.rst", rst_blocks((TOP / "in-tree/puzzlefs.rst").read_text())))
    for path, blocks in documents:
        if path.name in DOCUMENTS:
            elsewhere(DOCUMENTS[path.name], path.name)
            continue
        for lines in blocks:
            drawn = is_drawn(lines[0])
            if drawn:
                used.add(drawn)
                elsewhere(ELSEWHERE[drawn], lines[0])
                continue
            count["blocks"] += 1
            count["lines"] += runs(place, path.name, lines)
    for name, lines in examples():
        check(lines, f"puzzlefs {name} --help has no example")
        check("." in name or any(f"puzzlefs {name}".strip() in line for line in lines), f"no example has puzzlefs {name}")
        count["examples"] += runs(place, name, lines)
equal(sorted(set(ELSEWHERE) - used), [], "what is in no document any more")
print(f"{count['lines']} lines of {count['blocks']} blocks and {count['examples']} examples of --help run")
