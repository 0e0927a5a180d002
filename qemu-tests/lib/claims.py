# SPDX-License-Identifier: GPL-2.0
"""Sentences of documents, and functions that show that they are true; and what such functions need."""

import json
import os
import pathlib
import subprocess
import tempfile

from case import check, equal

TOP = pathlib.Path(os.environ["PUZZLEFS_TOP"])
COMMAND = str(TOP / "build/puzzlefs")
CLAIMS = []


def claims_of(document):
    """A decorator for functions that show that a sentence of the document is true."""
    def claim(sentence):
        def known(function):
            CLAIMS.append((document, sentence, function))
            return function
        return known
    return claim


def show():
    """Checks that each sentence stands in its document, and is true; gives their number."""
    for document, sentence, _ in CLAIMS:
        check(sentence in document.read_text(), f"{document.name} no longer says: {sentence}")
    # One may show several.
    for function in dict.fromkeys(function for _, _, function in CLAIMS):
        with tempfile.TemporaryDirectory(prefix="claim-", dir="/tmp") as base:
            function(pathlib.Path(base))
    return len(CLAIMS)


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


def ordinary(layout, files):
    """An image of one layer, LAYOUT:a, with the tree `files` at /it."""
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:a")
    run("umoci", "insert", "--image", f"{layout}:a", files, "/it")
