# SPDX-License-Identifier: GPL-2.0
"""The tables of `make ten-images`, in Markdown, and docs/ten-images.{json,md} with them."""

import json
import pathlib

import forms
from systems import TOP

DOCS = pathlib.Path(TOP) / "docs"
TARGET = 0.85

TEXT = """# Ten related images

    make ten-images

makes ten root file systems out of the archives: five are the Debian of `scripts/debian-tree` with
another application installed by apt, five the same Debian with Python's pip and successive versions
of Django. They are stored in each form, and mounted and read in a virtual machine with the stock
kernel. Trees and images are kept in the cache, so that an interrupted run goes on where it was.
All numbers are in [ten-images.json](ten-images.json).

## Space

{sizes}
MB are 10^6 bytes; a layout is all of its files. CPU time is that of the builder's processes.
Options not named are the tool's own. For all trees in one image, mkfs.erofs is run at zstd level
{level}: with dedupe it uses one processor, and level 15 would take it hours; PuzzleFS is built at
the same level. One EROFS is not ten separately mountable images, but its directories can
be mounted with `--bind`, so it counts as a peer. Django was installed with `SOURCE_DATE_EPOCH`, as
reproducible builds do: without, each byte-compiled file holds a time, and equals no other
version's.

`--profile small` is for bytes alone, at zstd level 19: a minute and a half of processor time for each
image. At level {level} it shows what is not the level's doing: small files are put together by their
paths (`userspace-builder/puzzlefs/src/encode/batch.rs` has the numbers). What the best peer would take at level 19
is not known.

## Space, for versions of many small files

A second series: four of these Debians with an application, and the one with pip and three successive
versions of Ansible (with byte-compiled files 40,000 small ones) and of Home Assistant (50,000). It is
built with `SOURCE_DATE_EPOCH=1`, so that all times are one.

{versions}
## What each image takes of our layout

{du}
`puzzlefs du`: *own* are chunks that no other image uses. Metadata are stored compressed, for each
image anew.

## Memory

{memory}
Each row is by how much a line of `/proc/meminfo` changed from before the mounts until every file of
all ten images was read. *Used* is what `MemFree` lost; *kept* what `MemAvailable` lost, that is,
what the kernel cannot take back at once (a part of the page cache counts as such in every row).
*Of images* is the part of the page cache that holds the image files themselves. The machine has
{machine} of memory, so that nothing is dropped meanwhile. EROFS is mounted from loop devices with
direct I/O. For its page cache sharing (`inode_share,domain_id=`, which the kernel calls
experimental), its images have fingerprints of all files, which mkfs.erofs 1.8 cannot write by
itself (`scripts/ten-images.d/fingerprint.py`). PuzzleFS shares the page cache of files whose chunks are
the same, without an option; for the row without, each image was mounted with a `domain_id` of its own.
Small files have chunks in common with their neighbours, so where these differ, they are not shared.
"""


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def mb(size):
    return f"{size / 1e6:.1f}"


def best_peer(every, made, images=1):
    """The smallest peer that is this many images, or more, to mount."""
    peers = (form for form in every if form.mounts >= images and form.peer)
    return min(peers, key=lambda form: made[form.name]["size"])


def verdict(every, made):
    """Each of ours as a part of the best peers, and whether that meets the target."""
    def part(form, best):
        found = made[form.name]["size"] / made[best.name]["size"]
        return f"{found:.3f} of {best.title} ({'met' if found <= TARGET else 'missed'})"

    one, ten = best_peer(every, made), best_peer(every, made, images=10)
    parts = [f"{form.title}: {part(form, one)}, the best peer; {part(form, ten)}, the best peer of ten images"
             for form in every if not form.peer]
    return [*parts, f"target: {TARGET}"]


def sizes(every, made):
    best = made[best_peer(every, made).name]["size"]
    rows = [[form.title, mb(made[form.name]["size"]), f"{made[form.name]['size'] / best:.2f}",
             f"{made[form.name]['cpu']:.0f}"] for form in every]
    verdicts = "".join(f"- {line}\n" for line in verdict(every, made))
    return table(["form", "MB", "of best peer", "CPU s"], rows) + f"\n{verdicts}"


def du(every, made):
    """A table for the first of ours, and one for the smallest, the last."""
    def one(form):
        images = made[form.name]["du"]["images"]
        rows = [[image["tags"][0], *map(mb, (image["own"]["bytes"], image["shared"]["bytes"], image["metadata_bytes"]))]
                for image in images]
        metadata = sum(image["metadata_bytes"] for image in images)
        chunks = made[form.name]["size"] - metadata
        return (f"{form.title}: all chunks {mb(chunks)} MB, all metadata {mb(metadata)} MB.\n\n"
                + table(["image", "own MB", "shared MB", "metadata MB"], rows))

    ours = [form for form in every if not form.peer]
    return "\n".join(map(one, (ours[0], ours[-1])))


def memory(measured):
    rows = [[one["title"], mb(-one["MemFree"]), mb(one["Cached"] + one["Buffers"]), mb(one["images_cached"]),
             mb(one["Slab"]), mb(-one["MemAvailable"])] for one in measured]
    return table(["mounted", "used MB", "page cache MB", "of images MB", "slab MB", "kept MB"], rows)


def known(every, made):
    """What is known of each form of a series."""
    found = {"verdict": verdict(every, made), "forms": {}}
    for form in every:
        kept = {name: value for name, value in made[form.name].items() if name != "manifests"}
        found["forms"][form.name] = {"title": form.title, "options": form.options, **kept}
    return found


def save(first, versions, measured, machine):
    """Writes both files; `first` and `versions` are the forms of a series and what is known of them."""
    found = {"target": TARGET, **known(*first), "versions": known(*versions), "memory": measured}
    (DOCS / "ten-images.json").write_text(json.dumps(found, indent=1) + "\n")
    (DOCS / "ten-images.md").write_text(TEXT.format(
        sizes=sizes(*first), versions=sizes(*versions), du=du(*first), memory=memory(measured),
        level=forms.LEVEL, machine=machine))
